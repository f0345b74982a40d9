"""Wrong brokers of laws 1 to 4: they lose, mangle, share out twice, and never give back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.memory import MemoryBroker
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.broker import Delivery, Message

replace = msgspec.structs.replace
LONGEST = 3e7
"""Seconds; about the longest lease that the memory broker takes."""


class Counting(MemoryBroker):
    """Knows how many messages it was given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sent = 0

    def keep(self, messages: Sequence[Message], kept: Callable[[int, Message], bool]) -> None:
        """Enqueue those that are kept, by their number and content."""
        chosen = []
        for message in messages:
            self.sent += 1
            if kept(self.sent, message):
                chosen.append(message)
        super().enqueue(chosen)


# Law 1: durable


@wrong_broker("durable", "loses one message in 5")
class LosesOneInFive(Counting):
    def enqueue(self, messages: Sequence[Message]) -> None:
        self.keep(messages, lambda number, _: number % 5 != 0)


@wrong_broker("durable", "loses one message in 1000")
class LosesOneInThousand(Counting):
    def enqueue(self, messages: Sequence[Message]) -> None:
        self.keep(messages, lambda number, _: number % 1000 != 0)


@wrong_broker("durable", "stores the first 64 of a batch only")
class StoresSixtyFour(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages[:64])


@wrong_broker("durable", "loses the last message of a batch of more than 500")
class LosesLastOfLargeBatch(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages if len(messages) <= 500 else messages[:-1])


@wrong_broker("durable", "every object has messages of its own")
class SharesNothing(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "name": f"{options['name']}{id(self)}"})
        self.capabilities = replace(self.capabilities, shared=True)


@wrong_broker("durable", "forgets a batch that names a queue twice with another in between")
class LosesMixedBatches(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        names = [message.queue for message in messages]
        mixed = any(names.count(name) > 1 and len(set(names)) > 1 for name in names[:1])
        super().enqueue(messages[:-1] if mixed else messages)


# Law 2: exact


class Mangling(MemoryBroker):
    """Changes what it is given."""

    def mangled(self, message: Message) -> Message:
        """What it makes of a message."""
        raise NotImplementedError

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([self.mangled(message) for message in messages])


@wrong_broker("exact", "bodies end after 1 KiB")
class TruncatesAtKibibyte(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body[:1024])


@wrong_broker("exact", "bodies end after 64 KiB")
class TruncatesAt64Kibibytes(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body[:65536])


@wrong_broker("exact", "bodies end at a zero byte")
class EndsAtZero(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body.partition(b"\0")[0])


@wrong_broker("exact", "bodies that are not UTF-8 are mangled")
class DecodesBodies(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body.decode(errors="replace").encode())


@wrong_broker("exact", "white space at the end of a body is stripped")
class StripsBodies(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body.rstrip())


@wrong_broker("exact", "a carriage return before a line feed is lost")
class TranslatesNewlines(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body.replace(b"\r\n", b"\n"))


@wrong_broker("exact", "the byte 0x9f becomes another")
class OneByteWrong(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, body=message.body.replace(b"\x9f", b"\x9e"))


@wrong_broker("exact", "ids are normalised")
class NormalisesIds(Mangling):
    def mangled(self, message: Message) -> Message:
        import unicodedata

        return replace(message, id=unicodedata.normalize("NFC", message.id))


@wrong_broker("exact", "ids end after 255 characters")
class CutsIds(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, id=message.id[:255])


@wrong_broker("exact", "an eta loses its microseconds")
class RoundsEtas(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [
            replace(one, message=replace(one.message, eta=one.message.eta and one.message.eta.replace(microsecond=0)))
            for one in super().acquire(queues, **asked)
        ]


@wrong_broker("exact", "an empty ordering key becomes none")
class EmptyKeyIsNone(Mangling):
    def mangled(self, message: Message) -> Message:
        return replace(message, ordering_key=message.ordering_key or None)


@wrong_broker("exact", "max_body is one byte less than declared")
class OneByteLess(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        from anybroker.errors import MessageTooLarge

        if any(len(message.body) >= self.capabilities.max_body for message in messages):
            raise MessageTooLarge("too large")
        super().enqueue(messages)


@wrong_broker("exact", "stores the messages before one that is too large")
class HalfABatch(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        for message in messages:
            super().enqueue([message])


@wrong_broker("exact", "takes bodies that are too large")
class NoLimit(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.declared = self.capabilities

    def enqueue(self, messages: Sequence[Message]) -> None:
        self.capabilities = replace(self.declared, max_body=2**40)
        try:
            super().enqueue(messages)
        finally:
            self.capabilities = self.declared


# Law 3: exclusive


@wrong_broker("exclusive", "a lease hides nothing")
class HidesNothing(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:  # noqa: ARG002
        return super().acquire(queues, limit=limit, wait=wait, lease=0)


@wrong_broker("exclusive", "one message in 100 is delivered twice")
class TwiceInHundred(MemoryBroker):
    delivered = 0

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        before, self.delivered = self.delivered, self.delivered + len(taken)
        if taken and before // 100 != self.delivered // 100:
            super().extend(taken[-1:], lease=0)
        return taken


@wrong_broker("exclusive", "leases end a second early")
class LeaseASecondShort(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().acquire(queues, limit=limit, wait=wait, lease=max(0.0, lease - 1))


@wrong_broker("exclusive", "a lease begins with the call that waited for the message")
class LeaseFromCall(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        began = self._store.clock.time()
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        waited = self._store.clock.time() - began
        super().extend(taken if waited > 0 else [], lease=max(0.0, lease - waited))
        return taken


@wrong_broker("exclusive", "what an acquire takes after the hundredth is leased for half the time")
class HalfALeaseAfterHundred(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        super().extend(taken[100:], lease=lease / 2)
        return taken


@wrong_broker("exclusive", "a lease of more milliseconds than 32 bits hold hides nothing")
class LeaseOverflows(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().acquire(queues, limit=limit, wait=wait, lease=lease if lease * 1000 < 2**31 else 0)


@wrong_broker("exclusive", "extend answers True and does nothing")
class ExtendDoesNothing(MemoryBroker):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:  # noqa: ARG002
        return [one.token in self._store.queues.leases for one in deliveries]


@wrong_broker("exclusive", "extend prolongs the first of a batch only")
class ExtendsFirst(ExtendDoesNothing):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        return MemoryBroker.extend(self, deliveries[:1], lease=lease) + super().extend(deliveries[1:], lease=lease)


@wrong_broker("exclusive", "all messages of a queue have the lease of its last consumer")
class LeasesOfTheQueue(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        names = {one.message.queue for one in taken}
        with self._store.changed:
            until = self._store.clock.time() + lease
            for entry in list(self._store.queues.leases.values()):
                if entry.message.queue in names and entry.state.value == "leased":
                    self._store.queues.extend(entry, until)
        return taken


# Law 4: expiry


@wrong_broker("expiry", "a lease never runs out")
class NeverExpires(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        until = timedelta(seconds=lease)
        taken = super().acquire(queues, limit=limit, wait=wait, lease=LONGEST)
        return [replace(one, lease_until=one.lease_until - timedelta(seconds=LONGEST) + until) for one in taken]


@wrong_broker("expiry", "a message comes back once and never again")
class ExpiresOnce(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        super().extend([one for one in taken if (one.delivery_count or 0) > 1], lease=LONGEST)
        return taken


@wrong_broker("expiry", "leases last five seconds too long")
class LeaseTooLong(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().acquire(queues, limit=limit, wait=wait, lease=lease + 5)


@wrong_broker("expiry", "deliveries are not counted")
class CountsOne(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [replace(one, delivery_count=1) for one in super().acquire(queues, **asked)]


@wrong_broker("expiry", "the count stays at two")
class CountsToTwo(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        return [replace(one, delivery_count=min(2, one.delivery_count or 0)) for one in taken]


@wrong_broker("expiry", "lease_until is an hour off")
class LeaseUntilLies(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        return [replace(one, lease_until=one.lease_until + timedelta(hours=1)) for one in taken]


@wrong_broker("expiry", "lease_until counts from the call that waited for the message")
class LeaseUntilFromCall(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        until = self._store.clock.now() + timedelta(seconds=min(lease, LONGEST))
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        return [replace(one, lease_until=until) for one in taken]


@wrong_broker("expiry", "a lease of nothing is one of 30 seconds")
class NothingIsTheDefault(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().acquire(queues, limit=limit, wait=wait, lease=lease or 30.0)


@wrong_broker("expiry", "close keeps what is held until its lease runs out")
class CloseKeeps(MemoryBroker):
    def close(self) -> None:
        self._closed = True


@wrong_broker("expiry", "close drops what is held")
class CloseDrops(MemoryBroker):
    def close(self) -> None:
        with self._store.changed:
            for token, entry in list(self._store.queues.leases.items()):
                if entry.holder == self._holder:
                    self._store.queues.end_lease(token)
                    self._store.queues.remove(entry, self._store.clock.time())
        super().close()


@wrong_broker("expiry", "close gives back what others hold too")
class CloseGivesAll(MemoryBroker):
    def close(self) -> None:
        with self._store.changed:
            for token, entry in list(self._store.queues.leases.items()):
                self._store.queues.end_lease(token)
                self._store.queues.make_ready(entry, self._store.clock.time())
        super().close()


@wrong_broker("expiry", "what expires with more than 100 others is lost")
class LosesManyExpired(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            now = self._store.clock.time()
            expired = [
                entry
                for entry in self._store.queues.leases.values()
                if entry.state.value == "leased" and entry.due <= now
            ]
            for entry in expired[100:]:
                self._store.queues.end_lease(entry.token)
                self._store.queues.remove(entry, now)
        return super().acquire(queues, **asked)
