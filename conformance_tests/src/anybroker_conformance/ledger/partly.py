"""What is right for most: wrong for a second object, a second queue, the twentieth message, or one kind of body."""

from __future__ import annotations

import threading
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.backend import State
from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker_conformance.ledger.registry import wrong_backend, wrong_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.backend import Result
    from anybroker.broker import Delivery, Message, Stats

replace = msgspec.structs.replace
LATE = 0.7
"""Seconds by which some come too late."""


def is_held(broker: MemoryBroker, delivery: Delivery) -> bool:
    """Whether a lease is valid."""
    return delivery.token in broker._store.queues.leases


# Several queues in one call


@wrong_broker("exclusive", "what is not from the first queue of an acquire is leased for a quarter of the time")
class ShorterElsewhere(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        super().extend([one for one in taken if one.message.queue != queues[0]], lease=lease / 4)
        return taken


@wrong_broker("exclusive", "an extend of messages of several queues holds those of one")
class ExtendsOneQueue(MemoryBroker):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        of_first = [one for one in deliveries if one.message.queue == deliveries[0].message.queue]
        super().extend(of_first, lease=lease)
        return [is_held(self, one) for one in deliveries]


@wrong_broker("final", "an ack of messages of several queues removes those of one")
class AcksOneQueue(MemoryBroker):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        held = [is_held(self, one) for one in deliveries]
        super().ack([one for one in deliveries if one.message.queue == deliveries[0].message.queue])
        return held


@wrong_broker("update", "what goes from several queues into one has the body of the first")
class OneBodyForAll(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        if len({one.message.queue for one, _ in changes}) > 1 and len({new.queue for _, new in changes}) == 1:
            changes = [(one, replace(new, body=changes[0][1].body)) for one, new in changes]
        return super().update(changes)


@wrong_broker("isolation", "looks into the first sixteen queues of those that are asked for")
class SixteenQueues(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return super().acquire(queues[:16], **asked)


# Some messages


@wrong_broker("durable", "loses the last of seven")
class LosesTheSeventh(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages[:6] if len(messages) == 7 else messages)


@wrong_broker("exact", "a body that is compressed comes back decompressed")
class Decompresses(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([replace(one, body=self.plain(one.body)) for one in messages])

    @staticmethod
    def plain(body: bytes) -> bytes:
        """What a program meant that sends gzip."""
        try:
            return zlib.decompress(body, wbits=31)
        except zlib.error:
            return body


@wrong_broker("expiry", "all that one acquire takes is counted as the first of them")
class CountsTheFirst(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        return [replace(one, delivery_count=taken[0].delivery_count) for one in taken]


@wrong_broker("expiry", "lease_until is right for the first twenty of an acquire")
class TellsTwenty(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        late = [replace(one, lease_until=one.lease_until + timedelta(seconds=1)) for one in taken[20:]]
        return [*taken[:20], *late]


@wrong_broker("exclusive", "declares that no lease is shorter than 5 s, and shorter ones are")
class ShorterThanDeclared(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, min_lease=5.0)


@wrong_broker("order", "what is retried later has no priority when its time has come")
class RetryLosesPriority(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.meant: dict[str, int] = {}

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        later = [(one, new if new.eta is None else replace(new, priority=0)) for one, new in changes]
        answers = super().update(later)
        self.meant |= {new.id: new.priority for (_, new), answer in zip(changes, answers, strict=True) if answer}
        return answers

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [
            replace(one, message=replace(one.message, priority=self.meant.get(one.message.id, one.message.priority)))
            for one in super().acquire(queues, **asked)
        ]


@wrong_broker("honest", "queues are sorted without regard to case")
class SortsWithoutCase(MemoryBroker):
    def queues(self) -> list[str]:
        return sorted(super().queues(), key=str.lower)


# Objects that were not made first


class Later(MemoryBroker):
    """Knows whether it was made first, of those on the same messages."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made = vars(self._store)
        self.is_later = made.setdefault("first", self._holder) != self._holder
        self.asleep = threading.Condition()


@wrong_broker("exclusive", "extend does nothing, but in the object that was made first")
class FirstExtends(Later):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        if self.is_later:
            return [is_held(self, one) for one in deliveries]
        return super().extend(deliveries, lease=lease)


@wrong_broker("prompt", "objects that were not made first look for messages now and then")
class FirstIsPrompt(Later):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        left = wait
        while self.is_later and left > LATE:
            if taken := super().acquire(queues, limit=limit, wait=0, lease=lease):
                return taken
            with self.asleep:
                self._store.clock.wait(self.asleep, LATE)
            left -= LATE
        return super().acquire(queues, limit=limit, wait=left, lease=lease)


@wrong_broker("honest", "an object that was not made first purges and removes in vain")
class FirstRemoves(Later):
    def purge(self, queue: str) -> int:
        stats = self.stats(queue)
        return stats.ready + stats.delayed if self.is_later else super().purge(queue)

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        return [True] * len(ids) if self.is_later else super().remove(queue, ids)


@wrong_broker("honest", "an object that was not made first shows what it has seen once")
class FirstSees(Later):
    def stats(self, queue: str) -> Stats:
        found = super().stats(queue)
        seen: dict[str, Stats] = vars(self).setdefault("seen", {})
        return seen.setdefault(queue, found) if self.is_later else found


# Objects that were closed


@wrong_broker("durable", "what a closed object enqueues is lost")
class LosesWhenClosed(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        if not self._closed:
            super().enqueue(messages)


@wrong_broker("honest", "a closed object shows empty queues")
class EmptyWhenClosed(MemoryBroker):
    def stats(self, queue: str) -> Stats:
        return super().stats("" if self._closed else queue)


# What is kept of the past


@wrong_broker("final", "a message without eta has that of the one before it with its id")
class EtaOfTheLast(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.etas: dict[str, Any] = {}

    def enqueue(self, messages: Sequence[Message]) -> None:
        self.etas |= {one.id: one.eta for one in messages if one.eta is not None}
        super().enqueue([replace(one, eta=one.eta or self.etas.get(one.id)) for one in messages])


class Keeps:
    """Keeps something of what was done."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kept: list[str] = []

    def keep(self, text: object) -> None:
        """As somebody does who wants to recognise it."""
        self.kept.append(f"{text} " * 20)


class Keeping(Keeps, MemoryBroker):
    """Of messages."""


@wrong_broker("bounded", "keeps what was moved to another queue")
class KeepsMoved(Keeping):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        for one, new in changes:
            if new.queue != one.message.queue:
                self.keep(new.id)
        return super().update(changes)


@wrong_broker("bounded", "keeps what was purged")
class KeepsPurged(Keeping):
    def purge(self, queue: str) -> int:
        for one in self.peek(queue, limit=1000):
            self.keep(one.id)
        return super().purge(queue)


@wrong_broker("bounded", "keeps leases that were settled twice")
class KeepsSettledTwice(Keeping):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        answers = super().ack(deliveries)
        for one, answer in zip(deliveries, answers, strict=True):
            if not answer:
                self.keep(one.message.id)
        return answers


@wrong_broker("bounded", "keeps ids that it has recognised")
class KeepsRecognised(Keeping):
    def enqueue(self, messages: Sequence[Message]) -> None:
        for one in messages:
            if one.id in self._store.queues.by_id:
                self.keep(one.id)
        super().enqueue(messages)


@wrong_broker("honest", "an id that was purged stays taken")
class PurgedStayTaken(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.purged: set[str] = set()

    def purge(self, queue: str) -> int:
        self.purged.update(one.id for one in self.peek(queue, limit=1000))
        return super().purge(queue)

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([one for one in messages if one.id not in self.purged])


@wrong_broker("honest", "peek shows 10 unless told otherwise")
class PeeksTen(MemoryBroker):
    def peek(self, queue: str, *, limit: int = 10) -> list[Message]:
        return super().peek(queue, limit=limit)


# Result backends


class LaterBackend(MemoryBackend):
    """Knows whether it was made first, of those on the same results."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_later = vars(self._store).setdefault("first", self) is not self
        self.asleep = threading.Condition()


@wrong_backend("join", "members are cut off after 250 characters")
class MembersCutAt250(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        return super().join(group_id, member_id[:250], size=size)


@wrong_backend("ttl", "what another object than the first stores has no end")
class FirstForgets(LaterBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        return super().store(results, ttl=None if self.is_later else ttl)


@wrong_backend("wait", "another object than the first looks for results now and then")
class FirstIsWoken(LaterBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        left = timeout
        while self.is_later and left > LATE:
            if found := super().wait(ids, timeout=0):
                return found
            with self.asleep:
                self._store.clock.wait(self.asleep, LATE)
            left -= LATE
        return super().wait(ids, timeout=left)


@wrong_backend("wait", "who waits for what was cancelled hears of it late")
class CancelledLate(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        found = super().wait(ids, timeout=timeout)
        if timeout > LATE and found and all(one.state is State.CANCELLED for one in found):
            late = threading.Condition()
            with late:
                self._store.clock.wait(late, LATE)
        return found


@wrong_backend("wait", "wait returns views of bodies, which are like bytes and are none")
class ViewsOfBodies(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        found = super().wait(ids, timeout=timeout)
        views: list[Any] = [memoryview(one.body) for one in found]
        return [replace(one, body=view) for one, view in zip(found, views, strict=True)]


@wrong_backend("durable", "what a closed object stores is lost")
class StoresNothingWhenClosed(MemoryBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        return [True] * len(results) if self._closed else super().store(results, ttl=ttl)


@wrong_backend("claim", "a closed object gives out tokens that hold nothing")
class TokensWhenClosed(MemoryBackend):
    def claim(self, key: str, *, ttl: float) -> str | None:
        return key if self._closed else super().claim(key, ttl=ttl)


class KeepingBackend(Keeps, MemoryBackend):
    """Of results."""


@wrong_backend("bounded", "keeps who could not claim a lock")
class KeepsFailedClaims(KeepingBackend):
    def claim(self, key: str, *, ttl: float) -> str | None:
        token = super().claim(key, ttl=ttl)
        if token is None:
            self.keep(key)
        return token


@wrong_backend("bounded", "keeps results that were refused")
class KeepsRefused(KeepingBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        answers = super().store(results, ttl=ttl)
        for one, answer in zip(results, answers, strict=True):
            if not answer:
                self.keep(one)
        return answers
