"""Law 6: after ack returned True the message never comes back, and it occupies no storage."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from anybroker.broker import Message
from anybroker.capabilities import Guarantee, Lease
from anybroker_conformance.broker.consuming import another, batches, drain, end_leases, ids, passing_holder, replace
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anybroker.broker import Delivery
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

BULK_SECONDS = 5.0
"""Seconds after which a slow broker has been sent enough messages."""
CALLS = 2.0
"""Seconds within which another process acquires and acknowledges."""
HOUR = 3600.0


class Final:
    """Law 6."""

    def test_law06_final__batches_of_any_size(self, subject: Subject) -> None:
        """Thousands of messages, acknowledged in batches of 1 to 1,001: not one comes back when the leases end."""
        queue, holder = subject.queue(), passing_holder(subject)
        sent: list[str] = []
        gone: set[str] = set()
        longest = subject.short
        assert holder.ack([]) == []
        for size in batches(BULK_SECONDS):
            messages = [subject.message(queue, b"%d" % n) for n in range(size)]
            started = time.monotonic()
            holder.enqueue(messages)
            lease = subject.short + (0 if subject.clock else 3 * (time.monotonic() - started))
            longest = max(longest, lease)
            sent += [one.id for one in messages]
            # A slow machine may lose a lease here, and then hears so: of these the end of the test takes care.
            gone |= acknowledged(holder, subject.take(queue, size, lease=lease, broker=holder))
        end_leases(subject, holder, longest)
        left = ids(drain(subject, [queue], expected=set(sent) - gone))
        never_back(left, gone, "although ack had answered True, in a batch")
        all_there(gone.union(left), sent)
        subject.assert_gone(queue, why="every message was acknowledged")
        nobody_gets(subject, queue, holder)

    def test_law06_final__whatever_came_before(self, subject: Subject) -> None:
        """A message that was extended, updated, returned, delayed... is gone for good as any other."""
        queue, holder = subject.queue(), passing_holder(subject)
        second = another(subject)
        gone: set[str] = set()
        sent: list[str] = []
        for label, act in situations(subject, second).items():
            message = subject.message(queue, label.encode(), id=label.replace(" ", "-"))
            holder.enqueue([message])
            sent.append(message.id)
            [delivery] = subject.take(queue, broker=holder, lease=subject.short)
            if act(holder, delivery):
                gone.add(message.id)
        end_leases(subject, holder)
        if second is not holder and second is not subject.broker:
            second.close()
        left = ids(drain(subject, [queue], expected=set(sent) - gone))
        never_back(left, gone, "although ack had answered True")
        all_there(gone.union(left), sent)
        subject.assert_gone(queue, why="every message was acknowledged")

    def test_law06_final__a_later_delivery(self, subject: Subject) -> None:
        """A message that came back once, twice, three times is gone with the ack of its newest delivery."""
        queue = subject.queue()
        sent = [subject.put(queue, b"%d" % n).id for n in range(12)]
        gone: set[str] = set()
        for round_ in range(4):
            holder = passing_holder(subject)
            held = subject.take(queue, len(sent) - len(gone), broker=holder, lease=subject.short)
            if round_ > 0:
                gone |= acknowledged(holder, held[:3])
            end_leases(subject, holder)
        left = ids(drain(subject, [queue], expected=set(sent) - gone))
        never_back(left, gone, "although ack of a later delivery had answered True")
        all_there(gone.union(left), sent)
        subject.assert_gone(queue, why="every message was acknowledged")

    def test_law06_final__an_expired_lease_and_its_answer(self, subject: Subject) -> None:
        """A lease has run out and nobody else has the message yet: whatever ack answers is what then holds."""
        queue = subject.queue()
        sent = [subject.put(queue).id for _ in range(10)]
        stale = subject.lose(queue, 10)
        first = acknowledged(subject.broker, stale[:5])
        for one in stale[5:]:
            first |= acknowledged(subject.broker, [one])
        left = ids(drain(subject, [queue], expected=set(sent) - first))
        never_back(left, first, "although ack of its expired lease had answered True")
        all_there(first.union(left), sent)
        subject.assert_gone(queue, why="every message was acknowledged")

    def test_law06_final__by_another_object(self, subject: Subject) -> None:
        """A delivery names its lease to the broker: whichever object of the process acknowledges it."""
        queue = subject.queue()
        other = subject.open()
        sent = [subject.put(queue, b"%d" % n).id for n in range(70)]
        held = subject.take(queue, 70)
        gone = acknowledged(other, held[:1]) | acknowledged(other, held[1:])
        if subject.capabilities.lease is Lease.TIMED and len(gone) < len(sent):
            raise LawBroken("another object's ack of a valid lease was answered by False", min(set(sent) - gone))
        subject.broker.close()
        left = ids(drain(subject, [queue], expected=set(sent) - gone, broker=other))
        never_back(left, gone, "although another object's ack had answered True")
        nobody_gets(subject, queue, other)

    def test_law06_final__nobodys_close_brings_it_back(self, subject: Subject) -> None:
        """Of what two consumers held, their closing gives back what was not acknowledged, and nothing else."""
        queue = subject.queue()
        first, second = subject.open(), subject.open()
        sent = [subject.put(queue).id for _ in range(40)]
        of_first, of_second = subject.take(queue, 20, broker=first), subject.take(queue, 20, broker=second)
        gone = acknowledged(first, of_first[::2]) | acknowledged(second, of_second[1::2])
        first.close()
        second.close()
        left = ids(drain(subject, [queue], expected=set(sent) - gone))
        never_back(left, gone, "when its consumer closed, although ack had answered True")
        if len(gone) < len(sent) / 2:
            raise LawBroken("ack of valid leases was answered by False", of_first[0].message.id)
        subject.assert_gone(queue, why="every message was acknowledged")

    def test_law06_final__through_the_death_of_its_consumer(self, realtime: Subject) -> None:
        """A process is killed at the moment when its ``ack`` has returned: what it was told is gone is gone."""
        if realtime.capabilities.final is not Guarantee.EXACT:
            realtime.untested("the death of a process whose ack has just returned: final is best effort")
        queue = realtime.queue()
        sent = {realtime.put(queue).id for _ in range(20)}
        peer = realtime.peer()
        lease = max(CALLS, realtime.short)
        held: list[str] = peer.call("acquire", queues=[queue], limit=20, wait=CALLS, lease=lease)
        answers: list[bool] = peer.call("ack")
        peer.kill()
        gone = {id_ for id_, answer in zip(held, answers, strict=True) if answer}
        if not gone:
            realtime.untested("this machine was too slow: no lease was valid when it was acknowledged")
        if realtime.capabilities.lease is Lease.TIMED:
            realtime.expire(lease)
        left = ids(drain(realtime, [queue], expected=sent - gone, within=realtime.back_within(lease)))
        never_back(left, gone, "when its consumer was killed, although ack had answered True")
        all_there(gone.union(left), sent)

    def test_law06_final__its_neighbours_stay(self, subject: Subject) -> None:
        """What is removed is that message, not another one with the same body, of the same batch or moment."""
        queue, elsewhere = subject.queue(), subject.queue()
        messages = [subject.message(queue, b"same") for _ in range(90)]
        subject.broker.enqueue([*messages, *(subject.message(elsewhere, b"same") for _ in range(5))])
        held = subject.take(queue, 60)
        chosen = [held[n] for n in (0, 7, 30, 31, 59)]
        assert subject.broker.ack(chosen) == [True] * 5
        if subject.capabilities.inspect:
            assert subject.stats(queue).total == 85, "five of 90 messages were acknowledged, and 85 should be left"
        rest = [one for one in held if one not in chosen]
        lost = [one for one, answer in zip(rest, subject.broker.ack(rest), strict=True) if not answer]
        if lost:
            raise LawBroken("its lease was lost when others were acknowledged", lost[0].message.id)
        others = {one.id for one in messages} - set(ids(held))
        all_there(ids(drain(subject, [queue], expected=others)), others)
        assert len(drain(subject, [elsewhere])) == 5, "messages of another queue went with those acknowledged"

    def test_law06_final__the_id_is_free_again(self, subject: Subject) -> None:
        """After its ack an id is that of a new message, which has nothing of the old one: no lease, no count."""
        queue, elsewhere = subject.queue(), subject.queue()
        holder = passing_holder(subject)
        for generation, where in enumerate((queue, queue, elsewhere)):
            delivery = one_of_the_same_id(subject, where, b"%d" % generation, holder, subject.short)
            acknowledge_in_the_end(subject, holder, delivery)
        newest = one_of_the_same_id(subject, queue, b"newest", subject.broker, subject.long)
        end_leases(subject, holder)
        subject.assert_nothing(queue, elsewhere, why="its lease is valid; only that of an older message has ended")
        if subject.broker.ack([newest]) != [True]:
            raise LawBroken("the end of an older message's lease has ended that of its successor", newest.message.id)
        subject.assert_gone(queue, elsewhere, why="every message was acknowledged")

    def test_law06_final__nothing_is_left_of_its_fields(self, subject: Subject) -> None:
        """Who uses its id again, with no eta, priority or key, gets none of these from the one before."""
        queue = subject.queue()
        declared = subject.capabilities
        fields: dict[str, Any] = {
            "eta": subject.now() - timedelta(days=1),
            "priority": (declared.priorities or (0, 0))[1],
        }
        fields |= {"ordering_key": "k"} if declared.ordering.keyed else {}
        old = subject.put(queue, b"old", **fields)
        assert subject.broker.ack(subject.take(queue, within=declared.delay_precision)) == [True]
        new = Message(old.id, queue, b"new")
        subject.broker.enqueue([new])
        [delivery] = subject.take(queue)
        if delivery.message != new:
            raise LawBroken(f"delivered as {delivery.message}, with something of the message before it", new.id)

    def test_law06_final__for_ever(self, subject: Subject) -> None:
        """Not even a month later, by a clock that leaps; in real time, not when the longest lease is given up."""
        queue, holder = subject.queue(), passing_holder(subject)
        longest = min(subject.capabilities.max_lease, 2 * HOUR)
        sent = [subject.put(queue).id for _ in range(5)]
        gone = acknowledged(holder, subject.take(queue, 5, lease=longest, broker=holder))
        all_there(gone, sent)
        for leap in (60.0, HOUR, 2 * HOUR, 24 * HOUR, 31 * 24 * HOUR) if subject.clock else ():
            subject.advance(leap)
            subject.assert_gone(queue, why="every message was acknowledged")
        nobody_gets(subject, queue, holder)


def situations(subject: Subject, second: RecordedBroker) -> dict[str, Callable[[RecordedBroker, Delivery], bool]]:
    """What may have happened to a delivery when it is acknowledged; each returns what ack answered."""

    def again(holder: RecordedBroker, delivery: Delivery, **fields: object) -> bool:
        if holder.update([(delivery, replace(delivery.message, **fields))]) != [True]:
            return False
        [newest] = subject.take(delivery.message.queue, broker=holder, lease=subject.short)
        return holder.ack([newest]) == [True]

    def in_a_thread(holder: RecordedBroker, delivery: Delivery) -> bool:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.extend(holder.ack([delivery])))
        thread.start()
        thread.join()
        return answers == [True]

    def beside_a_settled_one(holder: RecordedBroker, delivery: Delivery) -> bool:
        neighbour = subject.message(delivery.message.queue, b"neighbour")
        holder.enqueue([neighbour])
        [settled] = subject.take(delivery.message.queue, broker=holder, lease=subject.short)
        holder.ack([settled])
        return holder.ack([settled, delivery, settled])[1]

    found: dict[str, Callable[[RecordedBroker, Delivery], bool]] = {
        "nothing": lambda holder, one: holder.ack([one]) == [True],
        "extended": lambda holder, one: (
            holder.extend([one], lease=subject.short) == [True] and holder.ack([one]) == [True]
        ),
        "released": again,
        "updated": lambda holder, one: again(holder, one, body=b"new"),
        "delayed before": lambda holder, one: again(holder, one, eta=subject.now()),
        "twice in one batch": lambda holder, one: holder.ack([one, one])[0],
        "beside a settled one": beside_a_settled_one,
        "in another thread": in_a_thread,
    }
    if subject.capabilities.lease is Lease.TIMED:
        found["extended by another object"] = lambda holder, one: (
            second.extend([one], lease=subject.short) == [True] and holder.ack([one]) == [True]
        )
        found["by another object"] = lambda _, one: second.ack([one]) == [True]
    if subject.capabilities.priorities:
        lowest, highest = subject.capabilities.priorities
        found["lowest priority"] = lambda holder, one: again(holder, one, priority=lowest)
        found["highest priority"] = lambda holder, one: again(holder, one, priority=highest)
    return found


def acknowledged(broker: RecordedBroker, deliveries: Iterable[Delivery]) -> set[str]:
    """Acknowledge the newest delivery of each message in one batch; the ids of those that ack answered by True."""
    newest = list({one.message.id: one for one in deliveries}.values())
    return {one.message.id for one, answer in zip(newest, broker.ack(newest), strict=True) if answer}


def one_of_the_same_id(subject: Subject, queue: str, body: bytes, broker: RecordedBroker, lease: float) -> Delivery:
    """Enqueue and acquire a message with always the same id, as if there had never been another one."""
    message = subject.message(queue, body, id="same")
    broker.enqueue([message])
    [delivery] = subject.take(queue, broker=broker, lease=lease)
    if delivery.message != message:
        raise LawBroken("an id that was free again brought back an older message", message.id)
    if subject.capabilities.exclusive is Guarantee.EXACT and delivery.delivery_count not in {None, 1}:
        raise LawBroken("the deliveries of an acknowledged message are counted for its successor", message.id)
    return delivery


def acknowledge_in_the_end(subject: Subject, broker: RecordedBroker, delivery: Delivery) -> None:
    """Acknowledge, and once more should a slow machine have lost the short lease."""
    while broker.ack([delivery]) != [True]:
        [delivery] = subject.take(delivery.message.queue, broker=broker, within=subject.short, lease=subject.short)


def never_back(left: Iterable[str], gone: set[str], why: str) -> None:
    """None of those that are gone was delivered again."""
    for id_ in left:
        if id_ in gone:
            raise LawBroken(f"delivered again {why}", id_)


def all_there(found: Iterable[str], sent: Iterable[str]) -> None:
    """What was not acknowledged is still there."""
    missing = set(sent) - set(found)
    if missing:
        raise LawBroken("lost: it was never acknowledged, and is not there any more", min(missing))


def nobody_gets(subject: Subject, queue: str, holder: RecordedBroker) -> None:
    """Not even an object that is new, once the holder has closed."""
    fresh = another(subject)
    if fresh is not holder:
        holder.close()
    subject.assert_nothing(queue, why="every message was acknowledged, before the holder closed", broker=fresh)
