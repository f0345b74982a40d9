"""Law 15: what is declared is there, and what is not declared is refused at the call, never ignored."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.broker import Inspect, Stats
from anybroker.capabilities import Guarantee, Lease
from anybroker.errors import AnybrokerError, ConfigurationError, Unsupported
from anybroker_conformance.broker.consuming import another
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.subject import Subject

replace = msgspec.structs.replace
AGE = 1.0
"""Seconds by which an age may differ: services count whole ones."""
NOTHING = Stats(ready=0, leased=0, delayed=0, oldest=None)


class Honest:
    """Law 15: abilities and bounds."""

    def test_law15_honest__priorities(self, subject: Subject) -> None:
        queue = subject.queue()
        low, high = subject.capabilities.priorities or (0, 0)
        for priority in (low - 1, high + 1, 10**30):
            with refusing(f"priority {priority}; {low} to {high} are declared"):
                subject.broker.enqueue([subject.message(queue), subject.message(queue, priority=priority)])
        subject.assert_gone(queue, why="both calls were refused")
        message = subject.put(queue)
        other = subject.put(queue)
        held = subject.take(queue, 2)
        changes = [(one, replace(one.message, body=b"changed")) for one in held]
        changes[1] = held[1], replace(held[1].message, priority=high + 1)
        with refusing(f"an update to priority {high + 1}"):
            subject.broker.update(changes)
        for answer, id_ in zip(subject.broker.ack(held), (one.message.id for one in held), strict=True):
            if not answer:
                raise LawBroken("an update that was refused as a whole has taken the lease", id_)
        subject.assert_gone(queue, why=f"{message.id} and {other.id} were acknowledged")

    def test_law15_honest__priorities_that_are_declared(self, subject: Subject) -> None:
        low, high = subject.capabilities.priorities or (0, 0)
        queue = subject.queue()
        messages = [subject.message(queue, priority=priority) for priority in sorted({low, 0, high})]
        subject.broker.enqueue(messages)
        taken = subject.take(queue, len(messages))
        assert sorted(one.message.priority for one in taken) == sorted(one.priority for one in messages)
        answers = subject.broker.update([(one, replace(one.message, priority=high)) for one in taken])
        assert answers == [True] * len(messages), f"an update to priority {high}, which is declared, answered {answers}"

    def test_law15_honest__empty_sequences(self, subject: Subject) -> None:
        broker = subject.broker
        queue = subject.queue()
        subject.put(queue)
        broker.enqueue([])
        assert (broker.ack([]), broker.update([]), broker.extend([], lease=subject.long)) == ([], [], [])
        assert broker.acquire([], limit=1, wait=0, lease=subject.long) == []
        assert broker.acquire([queue], limit=0, wait=0, lease=subject.long) == []
        subject.take(queue)

    def test_law15_honest__the_limit_is_that_of_all_queues(self, subject: Subject) -> None:
        queues = [subject.queue() for _ in range(3)]
        for queue in queues:
            subject.broker.enqueue([subject.message(queue) for _ in range(4)])
        found = len(subject.broker.acquire(queues, limit=5, wait=0.2, lease=subject.long))
        assert found <= 5, f"acquire with limit 5 returned {found} messages of three queues"

    def test_law15_honest__ordering_keys(self, subject: Subject) -> None:
        if subject.capabilities.ordering.keyed:
            message = subject.put(queue := subject.queue(), ordering_key="k")
            assert subject.take(queue)[0].message == message, "an ordering key is declared, and changed the message"
            return
        queue = subject.queue()
        for key in ("k", ""):
            with refusing(f"ordering key {key!r}; ordering is declared as {subject.capabilities.ordering.value}"):
                subject.broker.enqueue([subject.message(queue), subject.message(queue, ordering_key=key)])
        subject.assert_gone(queue, why="both calls were refused")
        message = subject.put(queue)
        held = subject.take(queue)
        with refusing("an update to an ordering key"):
            subject.broker.update([(held[0], replace(message, ordering_key="k"))])
        if subject.broker.ack(held) != [True]:
            raise LawBroken("a refused update has taken the lease", message.id)

    def test_law15_honest__an_eta_without_time_zone(self, subject: Subject) -> None:
        queue = subject.queue()
        naive = datetime(2020, 1, 1)  # noqa: DTZ001 (that is the point)
        with pytest.raises(ConfigurationError):
            subject.broker.enqueue([subject.message(queue), subject.message(queue, eta=naive)])
        subject.assert_gone(queue, why="the call was refused")

    def test_law15_honest__the_longest_lease(self, subject: Subject) -> None:
        queue = subject.queue()
        longest = subject.capabilities.max_lease
        message = subject.put(queue)
        if longest == float("inf"):
            longest = 10 * 365 * 86400.0
        elif subject.capabilities.lease is Lease.TIMED:
            with refusing(f"a lease of {longest * 1.01:g} s; {longest:g} are declared"):
                subject.broker.acquire([queue], limit=1, wait=0, lease=longest * 1.01)
        held = subject.take(queue, lease=longest)
        assert subject.broker.extend(held, lease=longest) == [True], "the longest lease that is declared was refused"
        if longest < 10 * 365 * 86400.0 and subject.capabilities.lease is Lease.TIMED:
            with refusing(f"an extend by {longest * 1.01:g} s"):
                subject.broker.extend(held, lease=longest * 1.01)
        if subject.broker.ack(held) != [True]:
            raise LawBroken("a refused extend has taken the lease", message.id)

    def test_law15_honest__delivery_counts(self, subject: Subject) -> None:
        queue = subject.queue()
        message = subject.put(queue)
        [delivery] = subject.take(queue)
        counted = delivery.delivery_count is not None
        if counted != subject.capabilities.delivery_count:
            text = f"delivery_count is {delivery.delivery_count}, and declared as "
            raise LawBroken(text + ("known" if subject.capabilities.delivery_count else "unknown"), message.id)

    def test_law15_honest__the_same_id_twice(self, subject: Subject) -> None:
        """Never an error, and never changes the message that is there, whatever becomes of the second one."""
        queue, other = subject.queue(), subject.queue()
        later = subject.now() + timedelta(days=1)
        first = subject.put(queue, b"first")
        delayed = subject.message(queue, b"delayed", eta=later)
        subject.broker.enqueue([delayed])
        again = [replace(first, body=b"second"), replace(delayed, body=b"second")]
        held = subject.take(queue)
        subject.broker.enqueue([*again, replace(first, body=b"elsewhere", queue=other)])
        if held[0].message != first:
            raise LawBroken(f"delivered as {held[0].message}", first.id)
        if subject.capabilities.idempotent_enqueue:
            subject.assert_nothing(queue, other, why="its id is in the broker already, which declares to see that")
            if subject.capabilities.inspect:
                shown = {one.id: one for one in subject.broker.peek(queue)}
                assert shown == {first.id: first, delayed.id: delayed}, f"peek shows {shown}"
            if subject.broker.ack(held) != [True]:
                raise LawBroken("enqueueing its id again has taken the lease", first.id)
            subject.assert_nothing(queue, other, why="it was acknowledged")
            return
        if subject.broker.ack(held) != [True]:
            raise LawBroken("enqueueing its id again has taken the lease", first.id)
        copies = {one.message.body for one in subject.take(queue, 1) + subject.take(other, 1)}
        copies |= {one.message.body for one in subject.broker.acquire([queue], limit=9, wait=0, lease=subject.long)}
        wrong = f"{copies} are there after the first was acknowledged; the second copies are declared to be stored"
        assert copies == {b"second", b"elsewhere"}, wrong

    def test_law15_honest__the_same_id_twice_in_one_batch(self, subject: Subject) -> None:
        queue = subject.queue()
        first, between = subject.message(queue, b"first"), subject.message(queue, b"between")
        subject.broker.enqueue([first, between, replace(first, body=b"second")])
        copies = 2 if subject.capabilities.idempotent_enqueue else 3
        bodies = sorted(one.message.body for one in subject.take(queue, copies))
        assert bodies == sorted([b"first", b"between", b"second"][:copies]), f"delivered: {bodies}"
        subject.assert_nothing(queue, why="all of the batch were delivered")

    def test_law15_honest__repeating_a_whole_enqueue(self, subject: Subject) -> None:
        queue = subject.queue()
        messages = [subject.message(queue, str(number).encode()) for number in range(20)]
        subject.broker.enqueue(messages)
        subject.broker.enqueue(messages)
        copies = 1 if subject.capabilities.idempotent_enqueue else 2
        taken = subject.take(queue, 20 * copies)
        assert sorted(one.message.id for one in taken) == sorted([one.id for one in messages] * copies)
        assert subject.broker.ack(taken) == [True] * len(taken)
        subject.assert_gone(queue, why="every copy was acknowledged")


class Inspected:
    """Law 15: looking into queues, where it is declared."""

    def test_law15_honest__inspect_is_there_or_refused(self, subject: Subject) -> None:
        queue = subject.queue()
        broker: Any = subject.broker.recorded
        if subject.capabilities.inspect:
            assert isinstance(broker, Inspect), (
                "inspect is declared, and methods of anybroker.broker.Inspect are missing"
            )
            assert (broker.stats(queue), broker.peek(queue), broker.purge(queue)) == (NOTHING, [], 0)
            assert broker.remove(queue, ["x", "y"]) == [False, False]
            assert broker.remove(queue, []) == []
        else:
            assert_not_inspected(subject)

    def test_law15_honest__stats_count_every_state(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        other = subject.queue()
        keyed = subject.capabilities.ordering.keyed
        later = subject.now() + timedelta(days=1)
        subject.broker.enqueue([subject.message(queue) for _ in range(5)])
        subject.broker.enqueue([subject.message(queue, eta=later) for _ in range(3)])
        subject.put(other)
        subject.take(queue, 2)
        assert counts(subject, queue) == (3, 2, 3), f"(ready, leased, delayed): {counts(subject, queue)}, not (3, 2, 3)"
        if keyed:
            subject.broker.enqueue([subject.message(queue, ordering_key="k") for _ in range(3)])
            found = counts(subject, queue)
            assert found == (4, 2, 5), f"(ready, leased, delayed): {found}; two of three wait for their key"
        total = subject.stats(queue).total
        assert total == (11 if keyed else 8), f"{total} in total"

    def test_law15_honest__stats_after_time_has_passed(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        aged = subject.queue()
        subject.put(aged)
        subject.put(queue)
        timed = subject.capabilities.lease is Lease.TIMED
        subject.take(queue, lease=subject.short)
        subject.put(queue, eta=subject.now() + timedelta(seconds=subject.short))
        before = subject.now()
        subject.expire()
        passed = (subject.now() - before).total_seconds()
        subject.put(aged, b"younger")
        found = counts(subject, queue)
        expected = (2, 0, 0) if timed else (1, 1, 0)
        assert found == expected, f"(ready, leased, delayed) after lease and eta: {found}, not {expected}"
        oldest = subject.stats(aged).oldest
        assert oldest is not None, "the age of the oldest is None although a message is ready"
        assert passed * 0.9 <= oldest <= passed + 10, f"the oldest has been ready for {passed:.2f} s, not {oldest:.2f}"
        subject.take(aged, 2)
        assert subject.stats(aged).oldest is None, "nothing is ready, and there is an oldest"

    def test_law15_honest__the_oldest_is_as_old_as_it_is_ready(self, subject: Subject) -> None:
        """However long it was delayed, leased, put off, held, or behind another of its key before."""
        if inspected(subject) is None:
            return
        declared = subject.capabilities
        late = max(declared.delay_precision, declared.expiry_bound)
        span = timedelta(seconds=2 * subject.short if subject.clock else max(2 * AGE, subject.short))
        leaver = another(subject)
        ways = ["delayed", "put off", "updated"]
        ways += ["leased"] if declared.lease is Lease.TIMED else []
        ways += ["behind"] if declared.ordering.keyed else []
        ways += ["given back"] if leaver is not subject.broker else []
        queues = {way: subject.queue(way) for way in ways}
        eta = subject.now() + span
        if "behind" in ways:
            subject.put(queues["behind"], ordering_key="k")
        messages = {way: subject.message(queue) for way, queue in queues.items()}
        fields: dict[str, dict[str, Any]] = {"delayed": {"eta": eta}, "behind": {"ordering_key": "k"}}
        messages = {way: replace(one, **fields.get(way, {})) for way, one in messages.items()}
        subject.broker.enqueue([*messages.values()])
        held = {
            way: subject.take(
                queues[way],
                lease=span.total_seconds() if way == "leased" else subject.long,
                broker=leaver if way == "given back" else subject.broker,
            )
            for way in ways[1:]
        }
        leased = subject.now() + span
        subject.broker.update([(one, replace(one.message, eta=eta)) for one in held["put off"]])
        subject.advance(max(0.0, (eta - subject.now()).total_seconds()))
        subject.broker.update([(one, replace(one.message, body=b"new")) for one in held["updated"]])
        subject.broker.ack(held.get("behind", []))
        if "given back" in ways:
            leaver.close()
        ready = max(leased, subject.now()) + timedelta(seconds=late)
        subject.advance((ready - subject.now()).total_seconds() + 0.05)
        for way, queue in queues.items():
            looked = subject.now()
            oldest = subject.stats(queue).oldest
            least, most = (looked - ready).total_seconds() - AGE, (subject.now() - eta).total_seconds() + AGE
            if oldest is None or not least <= oldest <= most:
                text = f"{way}: ready for {max(0, least):.2f} to {most:.2f} s, and the age of the oldest is {oldest}"
                raise LawBroken(text, messages[way].id)

    def test_law15_honest__peek_shows_all_and_leases_nothing(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        messages = [subject.message(queue, str(number).encode()) for number in range(27)]
        later = subject.message(queue, b"later", eta=subject.now() + timedelta(days=1))
        subject.broker.enqueue([*messages, later])
        held = subject.take(queue, 3)
        everything = subject.broker.peek(queue, limit=100)
        assert sorted(one.id for one in everything) == sorted(one.id for one in (*messages, later))
        assert {one.id: one for one in everything} == {one.id: one for one in (*messages, later)}
        if subject.capabilities.ordering.fifo:
            assert everything == [*messages, later], "peek has another order than delivery"
        for limit in (0, 1, 5):
            found = subject.broker.peek(queue, limit=limit)
            assert len(found) == limit, f"peek with limit {limit} shows {len(found)} of 28"
        recorded: Any = subject.broker.recorded
        assert len(recorded.peek(queue)) == 20, "peek shows 20 unless told otherwise"
        assert counts(subject, queue) == (24, 3, 1), f"peek has changed the counts: {counts(subject, queue)}"
        assert subject.broker.ack(held) == [True] * 3, "peek has taken the leases of what it showed"
        counted = [one for one in subject.take(queue, 24) if one.delivery_count not in {None, 1}]
        if counted and subject.capabilities.exclusive is Guarantee.EXACT:
            number = counted[0].delivery_count
            raise LawBroken(f"peek counts as a delivery: the first is number {number}", counted[0].message.id)

    def test_law15_honest__peek_in_the_order_of_delivery(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        if not subject.capabilities.ordering.fifo or not subject.capabilities.priorities:
            subject.put(queue)
            assert len(subject.broker.peek(queue)) == 1
            return
        low, high = subject.capabilities.priorities
        messages = [subject.message(queue, priority=priority) for priority in (0, low, high, 0, high, low)]
        subject.broker.enqueue(messages)
        expected = sorted(messages, key=lambda one: -one.priority)
        assert subject.broker.peek(queue) == expected, "peek does not show the higher priority first"
        delivered = [subject.take(queue)[0].message for _ in messages]
        assert delivered == expected, "delivery has another order than peek"

    def test_law15_honest__removing_the_oldest_of_a_key_lets_the_next_in(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        key = "k" if subject.capabilities.ordering.keyed else None
        first, second, third = (subject.put(queue, ordering_key=key) for _ in range(3))
        assert subject.broker.remove(queue, [first.id]) == [True]
        assert (
            subject.take(queue)[0].message
            in ({second.id: second} if key else {second.id: second, third.id: third}).values()
        )

    def test_law15_honest__by_another_object(self, subject: Subject) -> None:
        """As by somebody at a terminal: one that has sent and leased nothing sees what is there now, and removes it."""
        if (queue := inspected(subject)) is None:
            return
        other = another(subject)
        assert other.stats(queue) == NOTHING
        messages = [subject.put(queue) for _ in range(4)]
        held = subject.take(queue)
        delayed = subject.put(queue, eta=subject.now() + timedelta(days=1))
        assert other.queues().count(queue) == 1, "queues() of another object does not list a queue that holds messages"
        assert {one.id for one in other.peek(queue)} == {one.id for one in (*messages, delayed)}
        shown = other.stats(queue)
        assert (shown.ready, shown.leased, shown.delayed) == (3, 1, 1), f"another object shows {shown}"
        assert subject.broker.ack(held) == [True]
        shown = other.stats(queue)
        assert (shown.ready, shown.leased, shown.delayed) == (3, 0, 1), f"after an ack another object shows {shown}"
        assert other.remove(queue, [delayed.id]) == [True]
        assert counts(subject, queue) == (3, 0, 0), "what another object has removed is still there"
        assert other.purge(queue) == 3
        subject.assert_gone(queue, why="another object has purged it")

    def test_law15_honest__by_an_object_that_was_closed(self, subject: Subject) -> None:
        """It refuses, or tells what is there."""
        if (queue := inspected(subject)) is None:
            return
        message = subject.put(queue)
        closed = another(subject)
        if closed is subject.broker:
            return
        closed.stats(queue)
        closed.close()
        calls: dict[str, tuple[Any, Callable[[], Any]]] = {
            "stats": (1, lambda: closed.stats(queue).total),
            "peek": ([message], lambda: closed.peek(queue)),
            "queues": (True, lambda: queue in closed.queues()),
            "remove": ([True], lambda: closed.remove(queue, [message.id])),
        }
        for name, (expected, call) in calls.items():
            with suppress(AnybrokerError):
                found = call()
                assert found == expected, f"{name} of an object that was closed answered {found}"

    def test_law15_honest__purge_of_many(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        for _ in range(3):
            subject.broker.enqueue([subject.message(queue) for _ in range(500)])
        removed = subject.broker.purge(queue)
        assert removed == 1500, f"purge says that it removed {removed} of 1,500"
        subject.assert_gone(queue, why="it was purged")

    def test_law15_honest__remove_spares_what_is_leased(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        other = subject.queue()
        held = subject.message(queue)
        subject.broker.enqueue([held])
        leased = subject.take(queue)
        ready = subject.put(queue)
        later = subject.put(queue, eta=subject.now() + timedelta(days=1))
        elsewhere = subject.put(other)
        assert subject.broker.remove(queue, []) == []
        assert counts(subject, queue) == (1, 1, 1), "remove of nothing has removed something"
        ids = [one.id for one in (held, ready, later, elsewhere)]
        if subject.capabilities.ordering.keyed:
            first, behind = (subject.put(queue, ordering_key="k") for _ in range(2))
            answers = [*subject.broker.remove(queue, [behind.id]), *subject.broker.remove(queue, [first.id])]
            assert answers == [True, True], f"the one that waits for its key, and the one before it: {answers}"
        answers = subject.broker.remove(queue, [*ids, "unknown", ready.id])
        expected = [False, True, True, False, False, False]
        assert answers == expected, f"leased, ready, delayed, elsewhere, unknown, again: {answers}, not {expected}"
        assert counts(subject, queue) == (0, 1, 0), f"left (ready, leased, delayed): {counts(subject, queue)}"
        assert counts(subject, other) == (1, 0, 0), "remove has touched another queue"
        assert subject.broker.ack(leased) == [True], "remove has taken a lease"
        subject.broker.enqueue([replace(ready, body=b"again")])
        assert subject.take(queue)[0].message.body == b"again", "a removed id is not free again"

    def test_law15_honest__purge_spares_what_is_leased(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        other = subject.queue()
        subject.broker.enqueue([subject.message(queue) for _ in range(5)])
        purged = subject.put(queue, eta=subject.now() + timedelta(days=1))
        subject.put(other)
        held = subject.take(queue, 2)
        waiting = [subject.put(queue, ordering_key="k") for _ in range(2 if subject.capabilities.ordering.keyed else 0)]
        removed = subject.broker.purge(queue)
        number = 4 + len(waiting)
        assert removed == number, f"purge says that it removed {removed} of {number} messages that were not leased"
        assert counts(subject, queue) == (0, 2, 0), f"left (ready, leased, delayed): {counts(subject, queue)}"
        assert counts(subject, other) == (1, 0, 0), "purge has touched another queue"
        assert subject.broker.ack(held) == [True, True], "purge has taken a lease"
        subject.broker.enqueue([replace(purged, eta=None, body=b"again")])
        assert subject.take(queue)[0].message.body == b"again", "an id that was purged is not free again"

    def test_law15_honest__purge_and_remove_take_what_has_expired(self, subject: Subject) -> None:
        if (queue := inspected(subject)) is None:
            return
        other = subject.queue()
        subject.require_timed_leases()
        purged, removed = subject.put(queue), subject.put(other)
        held = subject.take(queue, lease=subject.short) + subject.take(other, lease=subject.short)
        subject.expire()
        assert subject.broker.purge(queue) == 1, "purge has not removed a message whose lease had run out"
        assert subject.broker.remove(other, [removed.id]) == [True], "remove has refused what was not leased any more"
        answers = subject.broker.ack(held)
        if answers != [False, False]:
            raise LawBroken(f"ack answered {answers} for messages that had been purged and removed", purged.id)
        subject.assert_gone(queue, other, why="it was purged and removed")

    def test_law15_honest__queues_are_those_that_hold_messages(self, subject: Subject) -> None:
        if (ready := inspected(subject)) is None:
            return
        delayed, leased, never = subject.queue("B"), subject.queue("a"), subject.queue()
        subject.put(ready)
        subject.put(delayed, eta=subject.now() + timedelta(days=1))
        subject.put(leased)
        held = subject.take(leased)
        listed = subject.queues()
        assert listed == sorted([ready, delayed, leased]), f"queues() lists {listed}; {never} was never used"
        subject.broker.ack(held)
        assert leased not in subject.queues(), "queues() lists a queue that was emptied"


class refusing:  # noqa: N801 (reads as a part of the sentence)
    """A call must raise ``Unsupported``."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if error is None:
            raise LawBroken(f"took {self._what}; Unsupported is what it must raise")
        if isinstance(error, AnybrokerError) and not isinstance(error, Unsupported):
            raise LawBroken(f"refused {self._what} with {type(error).__name__}, not with Unsupported")
        return isinstance(error, Unsupported)


def inspected(subject: Subject) -> str | None:
    """A new queue of a broker that can be looked into; None for one that refuses to be, as it declares."""
    if subject.capabilities.inspect:
        return subject.queue()
    assert_not_inspected(subject)
    return None


def assert_not_inspected(subject: Subject) -> None:
    """A method of ``Inspect`` that is there although it is not declared refuses to be used."""
    broker: Any = subject.broker.recorded
    queue = subject.put(subject.queue()).queue
    calls: dict[str, tuple[Any, ...]] = {
        "queues": (), "stats": (queue,), "peek": (queue,), "purge": (queue,), "remove": (queue, ["x"]),
    }  # fmt: skip
    for name, arguments in calls.items():
        if hasattr(broker, name):
            with refusing(f"{name}(); inspect is not declared"):
                getattr(broker, name)(*arguments)


def counts(subject: Subject, queue: str) -> tuple[int, int, int]:
    """Ready, leased, delayed."""
    stats = subject.stats(queue)
    return stats.ready, stats.leased, stats.delayed
