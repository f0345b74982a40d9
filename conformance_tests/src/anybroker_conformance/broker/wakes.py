"""What wakes a waiting acquire, each cause with a queue of its own."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from anybroker.capabilities import Lease
from anybroker_conformance.broker.consuming import another, replace
from anybroker_conformance.broker.waiting import WAIT, Waiter
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

CAUSES = 12
"""More than the causes that are waited for at the same time."""
SOON = 0.3
"""Seconds until an eta that is waited for."""


class Wake:
    """An acquire that waits for one cause, which is still to come."""

    def __init__(
        self, subject: Subject, cause: str, queues: list[str], act: Callable[[], object], *, after: float = 0.0
    ) -> None:
        self.cause = cause
        self._consumer = subject.broker
        self._act = act
        self._after = after
        """Seconds after the act at which there is a message."""
        wait = 2 * WAIT + CAUSES * subject.capabilities.wake_bound
        self._waiter = Waiter(self._consumer, queues, wait=wait, lease=subject.long)

    def lateness(self, bound: float) -> float:
        """Do what makes a message deliverable; seconds from the moment at which it is until it was returned."""
        acting = time.monotonic()
        self._act()
        there = time.monotonic() + self._after
        if there - self._after - acting > WAIT / 2:
            raise LawBroken(f"{self.cause}: the call did not return while another thread waited in acquire")
        taken = self._waiter.result(self._after + bound + PATIENCE, why=self.cause)
        if len(taken) != 1:
            raise LawBroken(f"{self.cause}: the waiting acquire returned {len(taken)} messages, and there was one")
        self._consumer.ack(taken)
        return max(0.0, self._waiter.ended - there)


def wakes_at_once(subject: Subject) -> Iterator[Wake]:
    """Causes after which there is a message at once. Nothing falls due meanwhile that could wake by chance."""
    consumer, other = subject.broker, another(subject)
    queue = subject.queue()
    yield Wake(subject, "a message from the same object", [queue], put(subject, consumer, queue))
    queue = subject.queue()
    yield Wake(subject, "a message from another object", [queue, subject.queue()], put(subject, other, queue))
    queue = subject.queue()
    yield Wake(subject, "a message in the last of its queues", [subject.queue(), queue], put(subject, other, queue))
    queue = subject.queue()
    yield Wake(subject, "an update by another object", [queue], held(subject, queue, other))
    queue = subject.queue()
    yield Wake(subject, "an update by the same object", [queue], held(subject, queue, consumer))
    queue, moved = subject.queue(), subject.queue()
    yield Wake(subject, "an update to its queue", [moved], held(subject, queue, other, queue=moved))
    closing = another(subject)
    if closing is not consumer:
        queue = subject.queue()
        held(subject, queue, closing)
        yield Wake(subject, "the close of its holder", [queue], closing.close)
    if subject.capabilities.ordering.keyed:
        yield from _turns(subject, other)


def wakes_in_time(subject: Subject) -> Iterator[tuple[Wake, float]]:
    """Causes after which there is a message in a little time, within a declared bound; one after the other."""
    declared, other = subject.capabilities, another(subject)
    soon, tomorrow = timedelta(seconds=SOON), timedelta(days=1)
    for place in ("first", "second", "last"):
        queue, queues = _among_three(subject, place)
        subject.put(queue, eta=subject.now() + tomorrow)
        due_soon = put(subject, other, queue, delay=soon)
        cause = f"the eta of a new message in the {place} of three queues"
        yield Wake(subject, cause, queues, due_soon, after=SOON), declared.delay_precision
    queue, queues = _among_three(subject, "second")
    subject.put(queue)
    [delivery] = subject.take(queue, broker=other)

    def retry() -> None:
        assert other.update([(delivery, replace(delivery.message, eta=subject.now() + soon))]) == [True]

    yield Wake(subject, "the eta of a new version", queues, retry, after=SOON), declared.delay_precision
    if declared.lease is not Lease.TIMED:
        return
    queue, queues = _among_three(subject, "first")
    subject.put(queue)
    shortened = subject.take(queue, broker=other)

    def shorten() -> None:
        assert other.extend(shortened, lease=subject.short) == [True]

    wake = Wake(subject, "the end of a lease that was shortened", queues, shorten, after=subject.short)
    yield wake, declared.expiry_bound
    queue, queues = _among_three(subject, "second")
    subject.put(queue)
    subject.take(queue, broker=other, lease=subject.short)
    ends = time.monotonic() + subject.short
    wait_for_it = partial(_sleep_until, ends)
    yield Wake(subject, "the end of a lease", queues, wait_for_it), declared.expiry_bound


def _among_three(subject: Subject, place: str) -> tuple[str, list[str]]:
    """A queue, and three to wait for, of which it is the ``place``: who looks at one of them alone misses it."""
    queue, before, behind = subject.queue(), subject.queue(), subject.queue()
    return queue, {
        "first": [queue, before, behind],
        "second": [before, queue, behind],
        "last": [before, behind, queue],
    }[place]


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def put(subject: Subject, by: RecordedBroker, queue: str, *, delay: timedelta | None = None) -> Callable[[], None]:
    """Something that enqueues a message, due after a delay."""
    return lambda: by.enqueue([subject.message(queue, eta=None if delay is None else subject.now() + delay)])


def held(subject: Subject, where: str, by: RecordedBroker, **fields: object) -> Callable[[], None]:
    """Have a message of a queue held by ``by``; returns what gives it back, as a version with these fields."""
    subject.put(where)
    [delivery] = subject.take(where, broker=by)

    def give_back() -> None:
        assert by.update([(delivery, replace(delivery.message, **fields))]) == [True]

    return give_back


def _turns(subject: Subject, other: RecordedBroker) -> Iterator[Wake]:
    """The next of an ordering key, when the one before it leaves."""

    def blocked(eta: datetime | None = None) -> tuple[str, str]:
        queue = subject.queue()
        first = subject.put(queue, ordering_key="k", eta=eta)
        subject.put(queue, ordering_key="k")
        return queue, first.id

    queue, _ = blocked()
    acked = subject.take(queue, broker=other)
    yield Wake(subject, "the ack of the one before it", [queue], lambda: other.ack(acked))
    moving, _ = blocked()
    [leaving] = subject.take(moving, broker=other)
    away = replace(leaving.message, queue=subject.queue())
    yield Wake(subject, "the move of the one before it", [moving], lambda: other.update([(leaving, away)]))
    if subject.capabilities.inspect:
        removing, first = blocked(eta=subject.now() + timedelta(days=1))
        yield Wake(subject, "the removal of the one before it", [removing], lambda: other.remove(removing, [first]))
