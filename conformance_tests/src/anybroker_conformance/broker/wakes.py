"""What wakes a waiting acquire, each cause with a queue of its own."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from anybroker.capabilities import Lease, Ordering
from anybroker_conformance.broker.consuming import another, replace
from anybroker_conformance.broker.waiting import JITTER, Waiter
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

SOON = 0.3
"""Seconds until an eta that is waited for."""


class Wake:
    """An acquire that waits for one cause."""

    def __init__(
        self, cause: str, consumer: RecordedBroker, queues: list[str], act: Callable[[], float], bound: float, lease: float
    ) -> None:
        self.cause = cause
        self.bound = bound + JITTER
        """Seconds after the cause at which it has returned, by the best of several measurements."""
        self._consumer = consumer
        self._queues = queues
        self._act = act
        self._lease = lease
        self._waiter: Waiter | None = None
        self._due = 0.0

    @property
    def started(self) -> bool:
        """Whether it waits, or has waited."""
        return self._waiter is not None

    def start(self) -> None:
        """Begin to wait."""
        self._waiter = Waiter(self._consumer, self._queues, lease=self._lease)

    def trigger(self) -> None:
        """Do what makes a message deliverable, now or in some time."""
        self._due = self._act()

    def lateness(self) -> float:
        """Seconds from the moment at which there was a message until it was returned."""
        assert self._waiter is not None
        left = max(0.0, self._due - time.monotonic())
        taken = self._waiter.result(left + self.bound + PATIENCE, why=self.cause)
        if len(taken) != 1:
            raise LawBroken(f"{self.cause}: the waiting acquire returned {len(taken)} messages, and there was one")
        self._consumer.ack(taken)
        return max(0.0, self._waiter.ended - max(self._due, self._waiter.began))


def wakes(subject: Subject, idle: float) -> list[Wake]:
    """All causes, prepared for a consumer that will have waited ``idle`` seconds."""
    consumer, other = subject.broker, another(subject)
    declared = subject.capabilities
    found: list[Wake] = []

    def add(
        cause: str,
        queues: list[str],
        act: Callable[[], object],
        *,
        after: float = 0.0,
        at: float | None = None,
        bound: float = 0.0,
    ) -> None:
        def acted() -> float:
            act()
            return time.monotonic() + after if at is None else at

        found.append(Wake(cause, consumer, queues, acted, declared.wake_bound + bound, subject.long))

    def arrival(cause: str, by: RecordedBroker, *, first: bool = True, **fields: float) -> None:
        queue = subject.queue()
        queues = [queue, subject.queue()] if first else [subject.queue(), queue]

        def act() -> None:
            eta = subject.now() + timedelta(seconds=fields["eta"]) if fields else None
            by.enqueue([subject.message(queue, eta=eta)])

        precision = declared.delay_precision if fields else 0.0
        add(cause, queues, act, after=fields.get("eta", 0.0), bound=precision)

    arrival("a message from the same object", consumer)
    arrival("a message from another object", other)
    arrival("a message in the last of its queues", other, first=False)
    arrival("a message that was due a little later", other, eta=SOON)
    _returns(subject, other, add)
    if declared.lease is Lease.TIMED:
        _expiries(subject, other, idle, add)
    if declared.ordering is Ordering.FIFO_PER_KEY:
        _turns(subject, other, add)
    return found


def _returns(subject: Subject, other: RecordedBroker, add: Callable[..., None]) -> None:
    """What a holder gives back."""

    def held(queue: str, by: RecordedBroker) -> Callable[..., None]:
        subject.put(queue)
        [delivery] = subject.take(queue, broker=by)

        def update(**fields: object) -> None:
            assert by.update([(delivery, replace(delivery.message, **fields))]) == [True]

        return update

    queue = subject.queue()
    add("an update by another object", [queue], held(queue, other))
    queue = subject.queue()
    add("an update by the same object", [queue], held(queue, subject.broker))
    queue, moved = subject.queue(), subject.queue()
    move = held(queue, other)
    add("an update to its queue", [moved], lambda: move(queue=moved))
    queue = subject.queue()
    retry = held(queue, other)
    add(
        "an update with an eta a little later",
        [queue],
        lambda: retry(eta=subject.now() + timedelta(seconds=SOON)),
        after=SOON,
        bound=subject.capabilities.delay_precision,
    )
    closing = another(subject)
    if closing is not subject.broker:
        queue = subject.queue()
        held(queue, closing)
        add("the close of its holder", [queue], closing.close)


def _expiries(subject: Subject, other: RecordedBroker, idle: float, add: Callable[..., None]) -> None:
    """Leases that run out, as they were taken or after they were shortened."""
    bound = subject.capabilities.expiry_bound
    queue = subject.queue()
    subject.put(queue)
    [shortened] = subject.take(queue, broker=other)
    add(
        "the end of a lease that was shortened",
        [queue],
        lambda: other.extend([shortened], lease=subject.short),
        after=subject.short,
        bound=bound,
    )
    queue = subject.queue()
    subject.put(queue)
    lease = subject.short + idle
    subject.take(queue, broker=other, lease=lease)
    due = time.monotonic() + lease
    add("the end of a lease", [queue], lambda: None, at=due, bound=bound)


def _turns(subject: Subject, other: RecordedBroker, add: Callable[..., None]) -> None:
    """The next of an ordering key."""

    def blocked(**fields: object) -> tuple[str, str]:
        queue = subject.queue()
        first = subject.put(queue, ordering_key="k", **fields)
        subject.put(queue, ordering_key="k")
        return queue, first.id

    queue, _ = blocked()
    acked = subject.take(queue, broker=other)
    add("the ack of the one before it", [queue], lambda: other.ack(acked))
    moving, _ = blocked()
    [leaving] = subject.take(moving, broker=other)
    elsewhere = subject.queue()
    add(
        "the move of the one before it",
        [moving],
        lambda: other.update([(leaving, replace(leaving.message, queue=elsewhere))]),
    )
    if subject.capabilities.inspect:
        removing, first = blocked(eta=subject.now() + timedelta(days=1))
        add("the removal of the one before it", [removing], lambda: other.remove(removing, [first]))
