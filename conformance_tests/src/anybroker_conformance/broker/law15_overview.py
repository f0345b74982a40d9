"""Law 15: what a service tells of queues that it cannot look into, where it is declared."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from anybroker.broker import Estimate, Overview
from anybroker.errors import Unsupported
from anybroker_conformance.broker.law15_honest import refusing
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.broker import Delivery
    from anybroker_conformance.subject import Subject

T = TypeVar("T")

LATE = 65.0
"""Seconds by which what a service tells may be late, and an order to remove messages may take."""
POLL = 0.2
"""Seconds between two looks."""


class Told:
    """Law 15: the overview of a service's queues."""

    def test_law15_honest__overview_is_there_or_refused(self, subject: Subject) -> None:
        queue = subject.put(subject.queue()).queue
        broker: Any = subject.broker.recorded
        if subject.capabilities.overview:
            assert isinstance(broker, Overview), "overview is declared, and methods of anybroker.broker.Overview lack"
            unused = told(lambda: subject.broker.estimate(subject.queue())) or Estimate()
            assert {unused.ready, unused.leased, unused.delayed} <= {0, None}, f"of a queue without messages: {unused}"
            return
        calls: dict[str, tuple[Any, ...]] = {"known_queues": (), "estimate": (queue,), "clear": (queue,)}
        for name, arguments in calls.items():
            if hasattr(broker, name):
                with refusing(f"{name}(); overview is not declared"):
                    getattr(broker, name)(*arguments)

    def test_law15_honest__estimates_come_true(self, subject: Subject) -> None:
        """What is told of a queue is right after a while, and again when the messages have gone."""
        if not subject.capabilities.overview:
            return
        queue, other = subject.queue(), subject.queue()
        subject.broker.enqueue([subject.message(name) for name in (*[queue] * 5, other)])
        held = subject.take(queue, 2)
        subject.put(queue, eta=subject.now() + timedelta(hours=1))
        self._comes_true(subject, queue, ready=3, leased=2, delayed=1)
        assert subject.broker.ack(held) == [True, True]
        assert subject.broker.ack(subject.take(queue, 3)) == [True] * 3
        self._comes_true(subject, queue, ready=0, leased=0, delayed=1)

    def test_law15_honest__the_queues_are_known(self, subject: Subject) -> None:
        if not subject.capabilities.overview:
            return
        used = {subject.put(subject.queue()).queue for _ in range(3)}
        missing: set[str] = set()
        for _ in looks(subject):
            known = told(subject.broker.known_queues)
            if known is None:
                return
            if known != sorted(known):
                raise LawBroken(f"known_queues() is not sorted: {known}")
            missing = used.difference(known)
            if not missing:
                return
        raise LawBroken(f"known_queues() leaves out {sorted(missing)}, which hold messages")

    def test_law15_honest__clear_leaves_nothing(self, subject: Subject) -> None:
        """Nothing of the queue is delivered any more, after a while; queues with similar names are left alone."""
        if not subject.capabilities.overview:
            return
        queue = subject.queue()
        others = [subject.clean_up(f"{queue}{suffix}") for suffix in ("0", "-dead", ".x")]
        subject.broker.enqueue([subject.message(name) for name in (*[queue] * 15, *others)])
        try:
            subject.broker.clear(queue)
        except Unsupported:
            return
        found: list[Delivery] = []
        for _ in looks(subject):
            found = subject.broker.acquire([queue], limit=15, wait=0, lease=subject.short)
            if not found:
                break
            subject.expire(subject.short)
        if found:
            raise LawBroken("still delivered a minute after the queue was cleared", found[0].message.id)
        for other in others:
            subject.take(other)

    @staticmethod
    def _comes_true(subject: Subject, queue: str, *, ready: int, leased: int, delayed: int) -> None:
        estimate: Estimate | None = None
        for _ in looks(subject):
            estimate = told(lambda: subject.broker.estimate(queue))
            if estimate is None:
                return
            among = delayed if estimate.delayed is None else 0
            if (
                estimate.ready in {None, ready, ready + among}
                and estimate.leased in {None, leased}
                and estimate.delayed in {None, delayed}
            ):
                return
        raise LawBroken(f"{ready} are ready, {leased} leased, {delayed} delayed; a minute later it tells {estimate}")


def looks(subject: Subject) -> Iterator[None]:
    """Times to look again, until what a service tells must be right."""
    yield
    if subject.clock:
        subject.advance(LATE)
        yield
        return
    deadline = time.monotonic() + LATE
    while time.monotonic() < deadline:
        time.sleep(POLL)
        yield


def told(ask: Callable[[], T]) -> T | None:
    """What a service tells; None where it, as configured, has nothing of the kind."""
    try:
        return ask()
    except Unsupported:
        return None
