"""Law 7: an update never loses the message, and after True only the new version exists."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from anybroker.capabilities import Guarantee, Lease
from anybroker_conformance.broker.consuming import (
    another,
    batches,
    drain,
    end_leases,
    ids,
    passing_holder,
    refusal,
    replace,
)
from anybroker_conformance.broker.new_versions import base, changes, moves, refused, version
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker.broker import Broker, Delivery, Message
    from anybroker_conformance.subject import Subject

BULK_SECONDS = 5.0
"""Seconds after which a slow broker has been sent enough messages."""
KILLED = 2
"""Processes that are killed while they update."""
UPDATERS = 6
"""Threads that update in each of them."""


class AtomicUpdate:
    """Law 7."""

    def test_law07_update__whatever_changes(self, subject: Subject) -> None:
        """Any field, several at once, or none: the new version is delivered as it was given, at once, and alone."""
        source, used, never_used = subject.queue("from"), subject.queue("to"), subject.queue("never")
        variants = {**changes(subject, source), **moves(subject, used, never_used)}
        for together in (True, False):
            there = subject.put(used, b"was there before")
            old = [subject.message(source, b"old", **base(subject, label)) for label in variants]
            subject.broker.enqueue(old)
            held = {one.message.id: one for one in subject.take(source, len(old))}
            pairs = [
                (held[one.id], replace(held[one.id].message, **fields))
                for one, fields in zip(old, variants.values(), strict=True)
            ]
            answers = (
                update(subject.broker, pairs) if together else [subject.broker.update([pair])[0] for pair in pairs]
            )
            if not all(answers):
                raise LawBroken(
                    "update of a valid lease was answered by False", pairs[answers.index(False)][0].message.id
                )
            only_these(subject, [source, never_used, used], [there, *(new for _, new in pairs)])

    def test_law07_update__moved_and_delayed(self, subject: Subject) -> None:
        """To another queue, for later: it is there when it is due, and nowhere before."""
        source, there = subject.queue("from"), subject.queue("to")
        eta = subject.now() + timedelta(seconds=2 * subject.short)
        subject.broker.enqueue([subject.message(source, b"old") for _ in range(3)])
        held = subject.take(source, 3)
        new = [replace(one.message, queue=there, body=b"new", eta=eta) for one in held]
        assert update(subject.broker, list(zip(held, new, strict=True))) == [True] * 3
        early = subject.broker.acquire([source, there], limit=9, wait=0, lease=subject.long)
        if early and subject.now() < eta - timedelta(seconds=0.1):
            raise LawBroken("a new version was delivered before its eta", early[0].message.id)
        subject.advance(2 * subject.short + subject.capabilities.delay_precision + 0.05)
        found = early + subject.take(there, 3 - len(early), within=subject.capabilities.delay_precision)
        assert {one.message.id: one.message for one in found} == {one.id: one for one in new}
        subject.assert_nothing(source, there, why="every new version was delivered")

    def test_law07_update__batches_of_any_size(self, subject: Subject) -> None:
        """Thousands, updated in batches of 1 to 1,001: one version of each, also after the old leases have ended."""
        queue, moved = subject.queue(), subject.queue("moved")
        holder = passing_holder(subject)
        old: dict[str, Message] = {}
        new: dict[str, Message] = {}
        longest = subject.short
        assert holder.update([]) == []
        for size in batches(BULK_SECONDS):
            messages = [subject.message(queue, b"old") for _ in range(size)]
            started = time.monotonic()
            holder.enqueue(messages)
            lease = subject.short + (0 if subject.clock else 3 * (time.monotonic() - started))
            longest = max(longest, lease)
            old.update((one.id, one) for one in messages)
            taken = {one.message.id: one for one in subject.take(queue, size, broker=holder, lease=lease)}
            pairs = [(one, version(one.message, n, moved)) for n, one in enumerate(taken.values())]
            # A slow machine may lose a lease here, and then hears so: of these the old version must be left.
            new.update(
                (one.message.id, to) for (one, to), answer in zip(pairs, holder.update(pairs), strict=True) if answer
            )
            if len(new) > 600 and size > 500:  # nothing is left in front of the next round
                versions(drain(subject, [queue, moved], expected=old), old, new)
                old.clear()
                new.clear()
        end_leases(subject, holder, longest)
        versions(drain(subject, [queue, moved], expected=old), old, new)
        subject.assert_gone(queue, moved, why="the one version of every message was acknowledged")

    def test_law07_update__one_after_another(self, subject: Subject) -> None:
        """Ten versions of one message, in two queues, by two consumers: each gives up its lease and begins to count."""
        queues = (subject.queue(), subject.queue())
        consumers = (subject.broker, another(subject))
        message = subject.put(queues[0], b"0")
        counts = subject.capabilities.delivery_count and subject.capabilities.exclusive is Guarantee.EXACT
        for generation in range(1, 11):
            consumer = consumers[generation % 2]
            [delivery] = subject.take(message.queue, broker=consumer)
            if delivery.message != message:
                raise LawBroken(f"version {generation - 1} came back as another one", message.id)
            if counts and delivery.delivery_count != 1:
                raise LawBroken(
                    f"the first delivery of a new version is counted as number {delivery.delivery_count}", message.id
                )
            message = replace(message, body=b"%d" % generation, queue=queues[generation // 3 % 2])
            if consumer.update([(delivery, message)]) != [True]:
                raise LawBroken("update of a valid lease was answered by False", message.id)
        only_these(subject, queues, [message])

    def test_law07_update__counts_the_deliveries_of_the_new_version(self, subject: Subject) -> None:
        queue, elsewhere = subject.queue(), subject.queue()
        for _ in range(6):
            subject.put(queue)
        subject.lose(queue, 6)
        held = subject.take(queue, 6)
        if not subject.capabilities.delivery_count:
            assert {one.delivery_count for one in held} == {None}, "deliveries are counted, and declared not to be"
        pairs = [(one, replace(one.message, queue=(queue, elsewhere)[n % 2])) for n, one in enumerate(held)]
        assert update(subject.broker, pairs) == [True] * 6
        fresh = subject.take(queue, 3) + subject.take(elsewhere, 3)
        wrong = [one for one in fresh if one.delivery_count not in {None, 1}]
        if wrong and subject.capabilities.exclusive is Guarantee.EXACT:
            raise LawBroken(
                f"the first delivery of a new version counts as {wrong[0].delivery_count}", wrong[0].message.id
            )

    def test_law07_update__an_expired_lease_and_its_answer(self, subject: Subject) -> None:
        """A lease has run out and nobody else has the message yet: whatever update answers is what then holds."""
        queue, moved = subject.queue(), subject.queue("moved")
        old = {one.id: one for one in (subject.put(queue, b"old") for _ in range(10))}
        pairs = [(one, version(one.message, n, moved)) for n, one in enumerate(subject.lose(queue, 10))]
        answers = subject.broker.update(pairs[:5]) + [subject.broker.update([pair])[0] for pair in pairs[5:]]
        new = {one.message.id: to for (one, to), answer in zip(pairs, answers, strict=True) if answer}
        versions(drain(subject, [queue, moved], expected=old), old, new)
        subject.assert_gone(queue, moved, why="the one version of every message was acknowledged")

    def test_law07_update__a_lost_lease_in_the_batch(self, subject: Subject) -> None:
        """Those whose lease is valid are updated, whatever stands before or behind them."""
        queue = subject.queue()
        for n in range(4):
            subject.put(queue, b"%d" % n)
        stale = subject.lose(queue, 4)
        fresh = {one.message.id: one for one in subject.take(queue, 4)}
        valid = [fresh[one.message.id] for one in stale]
        mixed = [stale[0], valid[1], stale[2], valid[3]]
        answers = update(subject.broker, [(one, replace(one.message, body=b"new")) for one in mixed])
        if not (answers[1] and answers[3]):
            raise LawBroken("a valid update in one batch with a stale one was answered by False", valid[1].message.id)
        if subject.capabilities.fencing is Guarantee.EXACT:
            if answers[0] or answers[2]:
                raise LawBroken("a stale update in one batch with a valid one was honoured", stale[0].message.id)
            assert subject.broker.ack([valid[0], valid[2]]) == [True, True]
            only_these(subject, [queue], [replace(one.message, body=b"new") for one in (valid[1], valid[3])])

    def test_law07_update__swaps_two_messages(self, subject: Subject) -> None:
        one, other = subject.queue(), subject.queue()
        x, y = subject.put(one, b"x"), subject.put(other, b"y")
        [held_x], [held_y] = subject.take(one), subject.take(other)
        swapped = [replace(x, queue=other), replace(y, queue=one)]
        assert update(subject.broker, [(held_x, swapped[0]), (held_y, swapped[1])]) == [True, True]
        assert ids(subject.take(one)) == [y.id]
        assert ids(subject.take(other)) == [x.id]

    def test_law07_update__one_that_is_refused_changes_nothing(self, subject: Subject) -> None:
        """Of a batch in which one new version cannot be, nothing is changed, lost, or given up."""
        queue = subject.queue()
        for n in range(3):
            subject.put(queue, b"%d" % n)
        held = subject.take(queue, 3)
        for why, fields, error in refused(subject):
            for place in range(3):
                pairs = [(one, replace(one.message, body=b"new")) for one in held]
                pairs[place] = (held[place], replace(held[place].message, **fields))
                with refusal(error, f"an update to {why}"):
                    subject.broker.update(pairs)
        for one, answer in zip(held, subject.broker.extend(held, lease=subject.long), strict=True):
            if not answer:
                raise LawBroken("an update that was refused has ended its lease all the same", one.message.id)
        assert update(subject.broker, [(one, one.message) for one in held]) == [True] * 3
        only_these(subject, [queue], [one.message for one in held])

    def test_law07_update__what_is_seen_of_it(self, subject: Subject) -> None:
        """Who looks into the queues sees the new version, where it is, and nothing where it was."""
        queue, moved = subject.queue(), subject.queue("moved")
        for _ in range(2):
            subject.put(queue, b"old")
        held = subject.take(queue, 2)
        new = [replace(held[0].message, body=b"new"), replace(held[1].message, body=b"new", queue=moved)]
        assert update(subject.broker, list(zip(held, new, strict=True))) == [True, True]
        if subject.capabilities.inspect:
            for message in new:
                if subject.broker.peek(message.queue) != [message]:
                    raise LawBroken("peek does not show the new version, and only that", message.id)
                stats = subject.stats(message.queue)
                assert (stats.ready, stats.leased, stats.delayed) == (1, 0, 0)
            assert set(subject.queues()) == {queue, moved}
            assert subject.broker.remove(queue, [new[1].id]) == [False], "removed from the queue that it has left"
        only_these(subject, [moved], new[1:])
        only_these(subject, [queue], new[:1])

    def test_law07_update__the_id_stays_taken(self, subject: Subject) -> None:
        """An update is not the end of a message: its id is not free, neither then nor for a moment meanwhile."""
        queue, moved = subject.queue(), subject.queue("moved")
        message = subject.put(queue, b"0", id="taken")
        intruder, stop = replace(message, body=b"intruder"), threading.Event()
        recognised = subject.capabilities.idempotent_enqueue
        intruding = threading.Thread(target=lambda: enqueue_until(another(subject), intruder, stop))
        if recognised:
            intruding.start()
        try:
            deadline = time.monotonic() + 1.0
            for generation in range(300):
                [delivery] = subject.take(message.queue)
                if delivery.message.body == intruder.body:
                    raise LawBroken(
                        "in the middle of an update its id was free, and another message took it", message.id
                    )
                message = replace(message, body=b"%d" % generation, queue=(queue, moved)[generation % 3 == 0])
                assert subject.broker.update([(delivery, message)]) == [True]
                if time.monotonic() > deadline and generation > 20:
                    break
        finally:
            stop.set()
            if recognised:
                intruding.join()
        subject.broker.enqueue([intruder])
        expected = [message] if recognised else [message, intruder]
        only_these(subject, [queue, moved], expected)

    def test_law07_update__in_the_order(self, subject: Subject) -> None:
        """Where an order is declared, a new version keeps its place; and its new priority counts."""
        queue = subject.queue()
        sent = [subject.put(queue, b"%d" % n).id for n in range(4)]
        if subject.capabilities.ordering.fifo:
            held = subject.take(queue, 2)
            assert update(subject.broker, [(one, replace(one.message, body=b"again")) for one in held]) == [True, True]
            found = subject.take(queue, 4)
            if ids(found) != sent:
                raise LawBroken("a new version has lost its place in the queue", sent[0])
        else:
            found = subject.take(queue, 4)
        if not subject.capabilities.priorities:
            return
        lowest, highest = subject.capabilities.priorities
        wanted = {sent[3]: highest, sent[0]: lowest}
        pairs = [(one, replace(one.message, priority=wanted.get(one.message.id, 0))) for one in found]
        assert update(subject.broker, pairs) == [True] * 4
        places = ids(subject.take(queue, 4))
        if (highest and places[0] != sent[3]) or (lowest and places[3] != sent[0]):
            raise LawBroken("the priority of the new version does not count", sent[3])

    def test_law07_update__killed_in_the_middle(self, subject: Subject) -> None:
        """Processes are killed while they update: of every message one version is left, or, best effort, both."""
        lease = subject.short + 2.0
        queues = [(subject.queue(), subject.queue("moved")) for _ in range(KILLED * UPDATERS)]
        messages = [subject.message(pair[0], b"0") for pair in queues for _ in range(20)]
        subject.broker.enqueue(messages)
        sent = {one.id for one in messages}
        with ThreadPoolExecutor(KILLED) as pool:
            peers = list(pool.map(lambda _: subject.peer(), range(KILLED)))
        for n, peer in enumerate(peers):
            arguments = {"queues": queues[n::KILLED], "lease": lease}
            peer.ask("run", function=f"{__name__}:keep_updating", arguments=arguments)
        for n, peer in enumerate(peers):
            time.sleep(0.2 + 0.0137 * n)
            peer.kill()
        if subject.capabilities.lease is Lease.TIMED:
            subject.expire(lease)
        within = subject.back_within(lease)
        found = defaultdict(list)
        for one in drain(subject, [queue for pair in queues for queue in pair], expected=sent, within=within):
            found[one.message.id].append(one.message.body)
        lost = sent - found.keys()
        if lost:
            raise LawBroken("lost: its holder was killed in an update, and no version is left", min(lost))
        twice = [id_ for id_, bodies in found.items() if len(bodies) > 1]
        if twice and subject.capabilities.update is Guarantee.EXACT:
            raise LawBroken("its holder was killed in an update, and the old version is left beside the new", twice[0])


def keep_updating(broker: Broker, queues: list[tuple[str, str]], lease: float) -> None:
    """Acquire and update, in a thread for every pair of queues, until the process is killed."""
    threads = [
        threading.Thread(target=_keep_updating, args=(broker, pair, lease, (1, 20)[n % 2]))
        for n, pair in enumerate(queues)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _keep_updating(broker: Broker, queues: tuple[str, str], lease: float, limit: int) -> None:
    generation = 0
    while True:
        generation += 1
        held = broker.acquire(queues, limit=limit, wait=1, lease=lease)
        new = {"body": b"%d" % generation, "queue": queues[generation // 4 % 2]}
        broker.update([(one, replace(one.message, **new)) for one in held])


def enqueue_until(broker: Broker, message: Message, stop: threading.Event) -> None:
    """Enqueue the same message again and again."""
    while not stop.wait(0.0005):
        broker.enqueue([message])


def update(broker: Broker, pairs: list[tuple[Delivery, Message]]) -> list[bool]:
    """Update in one batch, given as a tuple: any sequence will do."""
    return broker.update(tuple(pairs))


def versions(left: list[Delivery], old: dict[str, Message], new: dict[str, Message]) -> None:
    """Of each message one version was left: the new one where update had answered True, else the old one."""
    found: dict[str, list[Message]] = defaultdict(list)
    for one in left:
        found[one.message.id].append(one.message)
    for id_, was in old.items():
        if not found[id_]:
            raise LawBroken("lost in an update", id_)
        if len(found[id_]) > 1:
            raise LawBroken("two versions are left of one message after an update", id_)
        if found[id_] != [new.get(id_, was)]:
            raise LawBroken(f"the {'old' if id_ in new else 'new'} version is left although update said otherwise", id_)


def only_these(subject: Subject, queues: Iterable[str], messages: list[Message]) -> None:
    """Of each message this version is deliverable, now and once, and nothing else is in those queues."""
    expected = {one.id: one for one in messages}
    found: dict[str, list[Message]] = defaultdict(list)
    for one in drain(subject, list(queues), expected=expected):
        found[one.message.id].append(one.message)
    for id_, message in expected.items():
        wanted = [one for one in messages if one.id == id_]
        if not found[id_]:
            raise LawBroken("the new version of an update is not delivered", id_)
        if sorted(found[id_], key=lambda one: one.body) != sorted(wanted, key=lambda one: one.body):
            raise LawBroken(f"delivered as {found[id_]!r:.500}, and not as updated: {message!r:.500}", id_)
    subject.assert_gone(*queues, why="the one version of every message was acknowledged")
