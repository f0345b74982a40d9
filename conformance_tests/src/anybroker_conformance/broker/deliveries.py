"""What the laws of leases share: messages held and for how long, their returns timed, everything counted."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from typing import TYPE_CHECKING

import msgspec

from anybroker.broker import Delivery, Message
from anybroker.capabilities import Guarantee, Lease
from anybroker_conformance.subject import PATIENCE, LawBroken, Untested

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

NEVER = float("inf")
EARLY = 0.02
"""Seconds that a clock's resolution may take from a lease."""
LATE = 0.5
"""Seconds that a starved server may add to a declared bound, measured where a stalled test adds none."""
POLL = 0.1
"""Seconds of one look for what comes back, in real time."""

DAYS = 86400.0
LEASES = (
    1.0,
    59.9,
    61.0,
    299.0,
    901.0,
    3599.0,
    3601.0,
    0.49 * DAYS,
    0.51 * DAYS,
    0.99 * DAYS,
    1.01 * DAYS,
    8 * DAYS,
    31 * DAYS,
)
"""Seconds, on both sides of where units or fields may overflow."""


PAST = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)


class Window(msgspec.Struct, frozen=True):
    """When a held message is to come back, by :func:`moment`."""

    opens: float = NEVER
    """Not before: until then its lease is valid."""
    closes: float = NEVER
    """It is available from then on; ``NEVER``: it may as well stay away."""


class Held(msgspec.Struct, frozen=True):
    """A delivery, and when its lease ends."""

    delivery: Delivery
    window: Window


class Return(msgspec.Struct, frozen=True):
    """A message that was held, delivered again."""

    delivery: Delivery
    at: float
    """When the call that delivered it ended, by :func:`moment`."""


class Watched(msgspec.Struct, frozen=True):
    """What came back while it was looked out for."""

    windows: dict[str, Window]
    """By message id."""
    returns: dict[str, list[Return]]
    """By message id."""
    late: dict[str, float]
    """By how many seconds a message is proven late: by an ``acquire`` that began then and found nothing."""


def moment(subject: Subject) -> float:
    """Seconds by the time in which the subject lives."""
    return subject.clock.time() if subject.clock else time.monotonic()


def keep(subject: Subject) -> float:
    """Seconds of a lease that outlives even what a manual clock leaps over."""
    return min(300 * 86400.0, subject.capabilities.max_lease) if subject.clock else subject.long


def brief(subject: Subject, calls: int = 1) -> float:
    """Seconds of a lease that a test can outlive, and that does not end within so many calls of a slow service."""
    started = time.monotonic()
    subject.broker.acquire([subject.queue("idle")], limit=1, wait=0, lease=subject.short)
    return max(subject.short, round(0.2 + 3 * calls * (time.monotonic() - started), 2))


def another(subject: Subject) -> RecordedBroker:
    """One more object where there can be one, else the same."""
    try:
        return subject.open()
    except Untested:
        return subject.broker


def volume(subject: Subject, *, seconds: float = 25.0) -> int:
    """How many messages a test can send and receive: 10,000, or 3,000 when that takes long, or what is possible."""
    queue = subject.queue("pace")
    started = time.monotonic()
    messages = [subject.message(queue) for _ in range(65)]
    subject.broker.enqueue(messages)
    collect(subject, [queue], {one.id for one in messages}, ack=True)
    each = (time.monotonic() - started) / len(messages)
    if 10_000 * each < seconds / 4:
        return 10_000
    return 3000 if 3000 * each < seconds else max(300, int(seconds / each))


def collect(
    subject: Subject,
    queues: Sequence[str],
    expected: Collection[str],
    *,
    limits: Sequence[int] = (1000,),
    lease: float | None = None,
    brokers: Sequence[RecordedBroker] = (),
    ack: bool = False,
    known: Collection[str] = (),
) -> dict[str, list[Delivery]]:
    """Acquire until every expected id was delivered. Raises ``LawBroken`` for one that does not come.

    Also raised for one that is neither expected nor ``known``, and for one that is delivered again under a valid lease.
    Several brokers take turns, and so do several limits.
    """
    declared = subject.capabilities
    patience = PATIENCE + max(declared.wake_bound, declared.expiry_bound, declared.delay_precision)
    turns = cycle(brokers or (subject.broker,))
    sizes = cycle(limits)
    found: dict[str, list[Delivery]] = {}
    held_until: dict[str, float] = {}
    missing = set(expected)
    fruitless, progress = 0, time.monotonic()
    lease = lease or subject.long
    while missing:
        broker = next(turns)
        began = moment(subject)
        taken = broker.acquire(queues, limit=next(sizes), wait=0.0 if subject.clock else 0.2, lease=lease)
        for delivery in taken:
            if delivery.message.id not in expected and delivery.message.id not in known:
                raise LawBroken("delivered although nobody sent it here", delivery.message.id)
            before = found.setdefault(delivery.message.id, [])
            if held_until.get(delivery.message.id, 0.0) > began and len(before) >= _sent(subject, delivery.message.id):
                raise LawBroken("delivered again under a valid lease", delivery.message.id, law="exclusive")
            before.append(delivery)
            if declared.exclusive is Guarantee.EXACT and not ack:
                held_until[delivery.message.id] = began + lease
            missing.discard(delivery.message.id)
        if ack and taken:
            broker.ack(taken)
        if taken:
            fruitless, progress = 0, time.monotonic()
            continue
        fruitless += 1
        if fruitless > 2 * max(1, len(brokers)) and (subject.clock or time.monotonic() - progress > patience):
            first = next(one for one in expected if one in missing)
            raise LawBroken(f"{len(missing)} of {len(expected)} messages are lost", first)
    return found


def hold(
    subject: Subject, queue: str, number: int, lease: float, *, broker: RecordedBroker | None = None
) -> dict[str, Held]:
    """Acquire so many different messages for a lease of which it is known when it ends; by message id."""
    broker = broker or subject.broker
    held: dict[str, Held] = {}
    deadline = time.monotonic() + PATIENCE + subject.capabilities.expiry_bound
    while len(held) < number:
        began = moment(subject)
        taken = broker.acquire([queue], limit=number - len(held), wait=0.0 if subject.clock else 0.2, lease=lease)
        window = lasting(subject, lease, began, moment(subject))
        held |= {one.message.id: Held(one, window) for one in taken}
        if not taken and (subject.clock or time.monotonic() > deadline):
            raise LawBroken(f"{len(held)} of {number} messages are deliverable", _absent(subject, queue, held))
    return held


def lose(subject: Subject, queue: str, number: int) -> dict[str, Delivery]:
    """Acquire so many messages and let their leases be lost, by time or by the connection; by message id."""
    if subject.capabilities.lease is Lease.CONNECTION:
        holder = subject.open()
        held = hold(subject, queue, number, subject.long, broker=holder)
        holder.close()
    else:
        lease = brief(subject, number)
        held = hold(subject, queue, number, lease)
        subject.expire(lease)
    return {id_: one.delivery for id_, one in held.items()}


def lasting(subject: Subject, lease: float, began: float, ended: float) -> Window:
    """When a message comes back that was leased by a call of which these are the beginning and the end."""
    declared = subject.capabilities
    if declared.lease is Lease.CONNECTION:
        return Window()
    lease = max(lease, declared.min_lease)
    return Window(began + lease - EARLY, ended + lease + declared.expiry_bound)


def watch(
    subject: Subject, queues: Sequence[str], windows: dict[str, Window], *, broker: RecordedBroker | None = None
) -> Watched:
    """Hold whatever comes back, until all has that must and nothing else can be expected soon."""
    broker = broker or subject.broker
    watched = Watched(windows, {}, {})
    marks = {one for window in windows.values() for one in (window.opens, window.closes) if one != NEVER}
    end = max(marks, default=moment(subject) + subject.short + subject.capabilities.expiry_bound) + EARLY
    if subject.clock:
        for step in sorted({mark + shift for mark in marks for shift in (-EARLY, EARLY)} | {end}):
            subject.advance(max(0.0, step - moment(subject)))
            _look(subject, broker, queues, watched)
    else:
        while (now := moment(subject)) < end or (_due(watched) and now < end + PATIENCE):
            _look(subject, broker, queues, watched)
    for id_ in _due(watched):
        watched.late[id_] = max(watched.late.get(id_, 0.0), moment(subject) - windows[id_].closes, LATE + EARLY)
    return watched


def assert_hidden(subject: Subject, *queues: str, why: str) -> None:
    """Nothing is delivered of what others hold; where exclusivity is best effort, law 3 says how much may be."""
    if subject.capabilities.exclusive is Guarantee.EXACT:
        subject.assert_nothing(*queues, why=why)


def assert_not_early(subject: Subject, watched: Watched) -> None:
    """No message came back within its lease; where exclusivity is best effort, hardly any did."""
    early = {
        id_: watched.windows[id_].opens - returns[0].at
        for id_, returns in watched.returns.items()
        if id_ in watched.windows and returns[0].at < watched.windows[id_].opens
    }
    allowed = 0 if subject.capabilities.exclusive is Guarantee.EXACT else len(watched.windows) // 2
    if len(early) > allowed:
        id_, seconds = next(iter(early.items()))
        how_early = "although it was held for good" if seconds == NEVER else f"{seconds:.3f} s before its lease ended"
        raise LawBroken(f"delivered again {how_early}", id_)


def assert_not_late(watched: Watched) -> None:
    """Every message was back in time."""
    for id_, seconds in watched.late.items():
        if seconds > LATE:
            raise LawBroken(f"not available {seconds:.1f} s after its lease had ended and expiry_bound had passed", id_)


def assert_counted(subject: Subject, delivery: Delivery, number: int) -> None:
    """This is, as declared, the so many-th delivery of this version."""
    declared = subject.capabilities
    count = delivery.delivery_count
    if not declared.delivery_count:
        right, expected = count is None, "None, as deliveries are declared not to be counted"
    elif declared.exclusive is Guarantee.EXACT:
        right, expected = type(count) is int and count == number, str(number)
    else:
        right, expected = type(count) is int and count >= number, f"at least {number}"
    if not right:
        raise LawBroken(f"delivery_count is {count!r} instead of {expected}", delivery.message.id)


def varied(subject: Subject, queue: str, number: int) -> list[Message]:
    """Messages that differ in whatever the broker declares to take, deliverable in any order."""
    bounds = subject.capabilities.priorities
    priorities = (0, 0, *bounds, *(one for one in (1, -1) if bounds[0] <= one <= bounds[1])) if bounds else (0,)
    keyed = subject.capabilities.ordering.keyed
    return [
        subject.message(
            queue,
            b"%d " % index * (index % 40) if index % 97 else b"x" * min(70_000, subject.capabilities.max_body),
            priority=priorities[index % len(priorities)],
            ordering_key=f"key {index}" if keyed and index % 5 == 0 else None,
            eta=PAST if index % 11 == 0 else None,
        )
        for index in range(number)
    ]


@contextmanager
def frequent_switches() -> Iterator[None]:
    """Let threads take turns as often as they can, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _look(subject: Subject, broker: RecordedBroker, queues: Sequence[str], watched: Watched) -> None:
    for _ in range(50):  # a broker whose leases hide nothing never ends
        began = moment(subject)
        taken = broker.acquire(queues, limit=1000, wait=0.0 if subject.clock else POLL, lease=keep(subject))
        ended = moment(subject)
        for delivery in taken:
            watched.returns.setdefault(delivery.message.id, []).append(Return(delivery, ended))
        if not taken:
            for id_ in _due(watched):
                if began > (closes := watched.windows[id_].closes):
                    watched.late[id_] = began - closes + (LATE if subject.clock else 0.0)
            return


def _sent(subject: Subject, id_: str) -> int:
    """How often a message was enqueued."""
    return sum(item.id == id_ for call in subject.history().calls if call.verb == "enqueue" for item in call.items)


def _due(watched: Watched) -> list[str]:
    """What has to come back, and did not yet."""
    return [id_ for id_, one in watched.windows.items() if one.closes != NEVER and id_ not in watched.returns]


def _absent(subject: Subject, queue: str, held: Collection[str]) -> str | None:
    """A message that should be in the queue, as far as is known."""
    sent = (item.content for call in subject.history().calls if call.verb == "enqueue" for item in call.items)
    return next((one.id for one in sent if one.queue == queue and one.id not in held), None)
