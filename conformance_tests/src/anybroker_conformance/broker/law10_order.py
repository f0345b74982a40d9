"""Law 10: order, priorities and ordering keys are as declared, and refused where they are not."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from anybroker.errors import Unsupported
from anybroker_conformance.broker.consuming import (
    affordable,
    another,
    batches,
    drain,
    end_leases,
    ids,
    passing_holder,
    refusal,
    replace,
)
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Message
    from anybroker_conformance.subject import Subject

BULK_SECONDS = 4.0
"""Seconds after which a slow broker has been sent enough messages."""
LIMITS = (1, 2, 7, 64, 65, 100, 257)
"""How many are acquired at once."""
LEVELS = (
    -(2**31),
    -(2**16),
    -257,
    -256,
    -255,
    -129,
    -128,
    -100,
    -10,
    -9,
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    10,
    11,
)
MORE_LEVELS = (15, 16, 31, 63, 64, 99, 100, 101, 127, 128, 254, 255, 256, 257, 999, 1000, 2**15, 2**16, 2**31 - 1)


class InOrder:
    """Law 10, of the messages of a queue and of priorities."""

    def test_law10_order__thousands(self, subject: Subject) -> None:
        """In the order in which they were sent, in batches of any size, by several objects; unordered: all the same."""
        queue = subject.queue()
        producers = (subject.broker, another(subject))
        sent: list[str] = []
        for n, size in enumerate(batches(BULK_SECONDS, many=affordable(subject, BULK_SECONDS))):
            messages = [subject.message(queue) for _ in range(size)]
            producers[n % 2].enqueue(messages)
            sent += [one.id for one in messages]
        peeked = [one.id for one in subject.broker.peek(queue, limit=500)] if subject.capabilities.inspect else []
        found: list[str] = []
        while len(found) < len(sent):
            limit = min(LIMITS[len(found) % len(LIMITS)], len(sent) - len(found))
            consumer = producers[len(found) % 2 if ordered(subject) else 0]
            held = subject.take(queue, limit, broker=consumer)
            found += ids(held)
            assert consumer.ack(held) == [True] * limit
        if missing := set(sent) - set(found):
            raise LawBroken(f"{len(missing)} of {len(sent)} messages were not delivered", min(missing))
        if ordered(subject):
            as_sent(found, sent)
            if subject.capabilities.inspect:
                assert len(peeked) == min(500, len(sent)), f"peek with limit 500 shows {len(peeked)} of {len(sent)}"
                as_sent(peeked, sent[:500])

    def test_law10_order__what_comes_back_keeps_its_place(self, subject: Subject) -> None:
        """Whether by expiry, by close, by an update in place, or because its eta came."""
        if not ordered(subject):
            self._unordered_comes_back(subject)
            return
        queue = subject.queue()
        soon = subject.now() + timedelta(seconds=subject.short)
        etas = {2: soon, 5: soon - timedelta(seconds=subject.short / 2), 11: soon}
        messages = [subject.message(queue, b"%d" % n, eta=etas.get(n)) for n in range(14)]
        sent = [one.id for one in messages]
        subject.broker.enqueue(messages)
        holder = passing_holder(subject)
        subject.take(queue, 3, broker=holder, lease=subject.short)
        end_leases(subject, holder)
        subject.advance(max(0.0, (soon - subject.now()).total_seconds()) + subject.capabilities.delay_precision + 0.05)
        as_sent(ids(subject.take(queue, 8)), sent[:8])
        closing = another(subject)
        if closing is subject.broker:
            return
        as_sent(ids(subject.take(queue, 3, broker=closing)), sent[8:11])
        subject.broker.close()
        looking = subject.open()
        held = subject.take(queue, 4, broker=looking)
        as_sent(ids(held), sent[:4])
        pairs = [(one, replace(one.message, body=b"new", eta=None)) for one in held]
        assert looking.update([pairs[2], pairs[0]]) == [True, True]
        assert looking.update([pairs[3]]) == [True]
        closing.close()
        remaining = [id_ for id_ in sent if id_ != held[1].message.id]
        as_sent(ids(subject.take(queue, len(remaining), broker=looking)), remaining)

    def test_law10_order__a_late_one_does_not_overtake(self, subject: Subject) -> None:
        """What was sent first and became due goes before what was sent later, in one batch and in several."""
        queue = subject.queue()
        soon = subject.now() + timedelta(seconds=subject.short)
        waiting = [subject.message(queue, eta=soon - n * timedelta(milliseconds=1)) for n in range(150)]
        subject.broker.enqueue(waiting[:100])
        ready = [subject.message(queue) for _ in range(10)]
        subject.broker.enqueue(ready)
        subject.broker.enqueue(waiting[100:])
        subject.advance(subject.short + subject.capabilities.delay_precision + 0.05)
        sent = [one.id for one in (*waiting[:100], *ready, *waiting[100:])]
        found = ids(subject.take(queue, len(sent), within=subject.capabilities.delay_precision))
        assert set(found) == set(sent)
        if ordered(subject):
            as_sent(found, sent)

    def test_law10_order__the_higher_priority_first(self, subject: Subject) -> None:
        """At the bounds, negative, around the limits of number formats; equal ones in their order."""
        if subject.capabilities.priorities is None:
            refused(subject, *({"priority": priority} for priority in (1, -1, 2, 9, 255, -255, 2**31 - 1, 10**30)))
            return
        queue = subject.queue()
        lowest, highest = subject.capabilities.priorities
        levels = [
            n for n in {*LEVELS, *MORE_LEVELS, lowest, lowest + 1, highest - 1, highest} if lowest <= n <= highest
        ]
        chosen = [*levels * 3, *(random.choice(levels) for _ in range(60))]  # noqa: S311 (nothing secret)
        random.shuffle(chosen)
        messages = [subject.message(queue, b"", priority=priority) for priority in chosen]
        subject.broker.enqueue(messages[:100])
        producers = (subject.broker, another(subject))
        for n, message in enumerate(messages[100:120]):
            producers[n % 2].enqueue([message])
        subject.broker.enqueue(messages[120:])
        if subject.capabilities.inspect:
            by_priority(subject, subject.broker.peek(queue, limit=len(messages)), messages)
        found = [one.message for n in (1, 2, 7, 20) for one in subject.take(queue, n)]
        found += [one.message for one in subject.take(queue, len(messages) - len(found))]
        by_priority(subject, found, messages)

    def test_law10_order__a_priority_counts_whenever_it_comes(self, subject: Subject) -> None:
        """Sent later, due later, returned, or changed by an update: the highest of those that are there goes first."""
        if subject.capabilities.priorities is None:
            refused(subject, {"priority": 1}, {"priority": -1})
            return
        queue = subject.queue()
        lowest, highest = subject.capabilities.priorities
        holder = passing_holder(subject)
        for priority in (lowest, 0, highest):
            subject.put(queue, b"%d" % priority, priority=priority)
        subject.take(queue, 3, broker=holder, lease=subject.short)
        end_leases(subject, holder)
        subject.put(queue, b"%d" % lowest, priority=lowest)
        eta = subject.now() + timedelta(seconds=subject.short)
        delayed = [subject.message(queue, b"", eta=eta, priority=n) for n in (lowest, highest)]
        subject.broker.enqueue(delayed)
        subject.put(queue, b"%d" % highest, priority=highest)
        subject.advance(subject.short + subject.capabilities.delay_precision + 0.05)
        found = subject.take(queue, 7, within=subject.capabilities.delay_precision)
        expected = sorted([lowest, 0, highest, lowest, lowest, highest, highest], reverse=True)
        assert [one.message.priority for one in found] == expected, (
            "the highest priority that was there did not go first"
        )
        turned = {lowest: highest, highest: lowest, 0: 0}
        pairs = [(one, replace(one.message, eta=None, priority=turned[one.message.priority])) for one in found]
        assert subject.broker.update(pairs) == [True] * 7
        held = subject.take(queue, 7)
        again = [one.message.priority for one in held]
        assert again == sorted(again, reverse=True), "the priority of the new version did not count"
        eta = subject.now() + timedelta(seconds=subject.short)
        pairs = [(one, replace(one.message, eta=eta)) for one in reversed(held)]
        assert subject.broker.update(pairs) == [True] * 7
        subject.advance(subject.short + subject.capabilities.delay_precision + 0.05)
        late = [one.message.priority for one in subject.take(queue, 7, within=subject.capabilities.delay_precision)]
        assert late == again, "the priority of a new version did not count when its eta had come"

    def test_law10_order__a_priority_out_of_bounds(self, subject: Subject) -> None:
        """Refused before anything of its batch is stored."""
        lowest, highest = subject.capabilities.priorities or (0, 0)
        beyond = (highest + 1, lowest - 1, highest + 2**32, lowest - 2**32, 10**30, -(10**30))
        refused(subject, *({"priority": priority} for priority in beyond))

    def test_law10_order__an_undeclared_key(self, subject: Subject) -> None:
        """Where no order per key is declared a key is refused, in enqueue and in update; else it is taken."""
        keys = tuple({"ordering_key": key} for key in ("k", "", "0", "a:b", "\U0001f98a" * 60))
        if not subject.capabilities.ordering.keyed:
            refused(subject, *keys)
            return
        queue = subject.queue()
        messages = [subject.message(queue, b"", **fields) for fields in keys]
        subject.broker.enqueue(messages)
        assert sorted(one.message.ordering_key or "" for one in subject.take(queue, len(messages))) == sorted(
            one.ordering_key or "" for one in messages
        )

    @staticmethod
    def _unordered_comes_back(subject: Subject) -> None:
        """Whatever the order: what comes back is delivered as all others are."""
        queue = subject.queue()
        sent = {subject.put(queue, b"%d" % n).id for n in range(14)}
        holder = passing_holder(subject)
        subject.take(queue, 5, broker=holder, lease=subject.short)
        end_leases(subject, holder)
        assert {one.message.id for one in drain(subject, [queue], expected=sent)} == sent


def ordered(subject: Subject) -> bool:
    """Whether any order is declared."""
    return subject.capabilities.ordering.fifo


def as_sent(found: Sequence[str], sent: Sequence[str]) -> None:
    """Delivered in the order in which they were sent."""
    for place, (id_, expected) in enumerate(zip(found, sent, strict=True)):
        if id_ != expected:
            raise LawBroken(f"delivered out of order, as number {place + 1}; that place is another one's", id_)


def by_priority(subject: Subject, found: list[Message], sent: list[Message]) -> None:
    """The higher priority before the lower one, and, where an order is declared, equal ones as they were sent."""
    expected = sorted(sent, key=lambda one: -one.priority)
    for one, wanted in zip(found, expected, strict=True):
        if one.priority != wanted.priority:
            raise LawBroken(f"priority {one.priority} went before priority {wanted.priority}", wanted.id)
        if ordered(subject) and one.id != wanted.id:
            raise LawBroken(f"of two messages of priority {one.priority} the later one went first", wanted.id)


def refused(subject: Subject, *undeclared: dict[str, Any]) -> None:
    """Messages with such fields are refused with Unsupported, before anything of their batch is stored or changed."""
    queue = subject.queue()
    for _ in range(2):
        subject.put(queue, b"held")
    held = subject.take(queue, 2)
    for fields in undeclared:
        what = ", ".join(f"{name} {value!r:.60}" for name, value in fields.items())
        good = [subject.message(queue, b"stored") for _ in range(70)]
        bad = subject.message(queue, b"stored", **fields)
        for batch in ([bad], [good[0], bad], [bad, good[0]], [*good, bad]):
            with refusal(Unsupported, f"a message with {what}"):
                subject.broker.enqueue(batch)
        for changed in held:
            pairs = [(one, replace(one.message, body=b"new", **fields if one is changed else {})) for one in held]
            with refusal(Unsupported, f"an update to {what}"):
                subject.broker.update(pairs)
            with refusal(Unsupported, f"an update to {what}"):
                subject.broker.update([(changed, replace(changed.message, **fields))])
    subject.assert_nothing(queue, why=f"it, or one of its batch, was refused: {undeclared!r:.200} is not declared")
    if subject.capabilities.inspect:
        assert subject.stats(queue).total == 2, "stored, although another message of the batch was refused"
    assert subject.broker.update([(one, one.message) for one in held]) == [True, True], (
        "refused, yet the lease has ended"
    )
    assert {one.message.body for one in subject.take(queue, 2)} == {b"held"}, "refused, yet changed"
