"""Steps that the tests of several laws take: second consumers, the end of their leases, what is left after it all."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import msgspec

from anybroker.capabilities import Lease
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anybroker.broker import Broker, Delivery
    from anybroker.errors import AnybrokerError
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

replace = msgspec.structs.replace

BATCHES = (1, 2, 3, 64, 65, 129, 257, 500, 1001)
"""Sizes of batches on both sides of the limits that services have."""
MANY = 4000
"""Messages among which a fault in one of a thousand shows."""
ENOUGH = 300
"""Messages of which a test sends at least so many, however slow the broker is."""
_TOO_OFTEN = 5


def ids(deliveries: Iterable[Delivery]) -> list[str]:
    """The ids of the messages, in their order."""
    return [one.message.id for one in deliveries]


def another(subject: Subject) -> RecordedBroker:
    """A second object on the same messages; where the objects of a factory share none, the first."""
    shared = subject.capabilities.shared or subject.suite.objects_share()
    return subject.open() if shared else subject.broker


def passing_holder(subject: Subject) -> RecordedBroker:
    """A consumer whose leases :func:`end_leases` can end."""
    return subject.open() if subject.capabilities.lease is Lease.CONNECTION else subject.broker


def end_leases(subject: Subject, holder: RecordedBroker, lease: float | None = None) -> None:
    """End all leases of a :func:`passing_holder` that were taken for ``lease`` seconds, or for ``subject.short``."""
    if subject.capabilities.lease is Lease.CONNECTION:
        holder.close()
    else:
        subject.expire(lease)


def batches(seconds: float, *, many: int = MANY) -> Iterator[int]:
    """Sizes of batches, until they are ``many`` in all, or enough, and the next would take longer than ``seconds``."""
    began = time.monotonic()
    sent = 0
    for size in cycle(BATCHES):
        passed = time.monotonic() - began
        slow = sent > 0 and passed + size * passed / sent > seconds
        if sent >= many or (slow and sent >= ENOUGH):
            return
        size = min(size, many - sent, ENOUGH // 2 if slow else many)  # noqa: PLW2901 (the same size, bounded)
        yield size
        sent += size


def affordable(subject: Subject, seconds: float, many: int = MANY) -> int:
    """How many messages can be sent, acquired and acknowledged in so many seconds; between enough and ``many``.

    All of them where time leaps: then nothing but a busy machine makes a broker slow, and it is to hide nothing.
    """
    if subject.clock:
        return many
    queue, tried = subject.queue("tried"), 65
    started = time.monotonic()
    subject.broker.enqueue([subject.message(queue) for _ in range(tried)])
    subject.broker.ack(subject.take(queue, tried))
    return max(ENOUGH, min(many, int(seconds / (time.monotonic() - started) * tried)))


def drain(
    subject: Subject,
    queues: Sequence[str],
    *,
    expected: Iterable[str] = (),
    within: float = 0.0,
    broker: Broker | None = None,
) -> list[Delivery]:
    """Acquire and acknowledge whatever comes, until the expected ids have come and nothing more does.

    Gives up when nothing has come ``within`` so many seconds and the patience with a loaded machine.
    """
    broker = broker or subject.broker
    missing, seen = set(expected), Counter[str]()
    taken: list[Delivery] = []
    last = time.monotonic()
    while True:
        wait = 0.0 if subject.clock else WATCH
        more = broker.acquire(list(queues), limit=100, wait=wait, lease=subject.long)
        if more:
            last = time.monotonic()
            refused = [one for one, answer in zip(more, broker.ack(more), strict=True) if not answer]
            if refused:
                raise LawBroken("ack of a valid lease was answered by False", refused[0].message.id)
        elif not missing or subject.clock or time.monotonic() - last > within + PATIENCE:
            return taken
        missing.difference_update(ids(more))
        taken += more
        seen.update(ids(more))
        if seen and seen.most_common(1)[0][1] > _TOO_OFTEN:
            raise LawBroken("delivered again and again after every ack was answered by True", seen.most_common(1)[0][0])


@contextmanager
def refusal(error: type[AnybrokerError], what: str) -> Iterator[None]:
    """What is done in it is refused with this error."""
    try:
        yield
    except error:
        return
    except Exception as other:
        raise LawBroken(
            f"{what} was refused with {type(other).__name__}, not with {error.__name__}: {other}"
        ) from other
    raise LawBroken(f"{what} was accepted, and should be refused with {error.__name__}")
