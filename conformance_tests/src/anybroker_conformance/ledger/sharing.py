"""Wrong brokers of laws 9, 10, 12, 14 and 15: names, order, threads, growth, and what is declared."""

from __future__ import annotations

import os
import threading
import time
import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.capabilities import Ordering
from anybroker.errors import AnybrokerError
from anybroker.memory import MemoryBroker
from anybroker.memory.queues import Entry
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Delivery, Message, Stats

replace = msgspec.structs.replace


class Naming(MemoryBroker):
    """Keeps the messages of a queue under another name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.names: dict[str, str] = {}

    def named(self, queue: str) -> str:
        """The name that it uses."""
        raise NotImplementedError

    def stored(self, message: Message) -> Message:
        """A message as it keeps it."""
        self.names[message.id] = message.queue
        return replace(message, queue=self.named(message.queue))

    def original(self, message: Message) -> Message:
        """A message as it came."""
        return replace(message, queue=self.names.get(message.id, message.queue))

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([self.stored(one) for one in messages])

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire([self.named(queue) for queue in queues], **asked)
        return [replace(one, message=self.original(one.message)) for one in taken]

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(one, self.stored(new)) for one, new in changes])

    def queues(self) -> list[str]:
        return sorted({self.names.get(id_, "") for id_ in self._store.queues.by_id})

    def stats(self, queue: str) -> Stats:
        return super().stats(self.named(queue))

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        return [self.original(one) for one in super().peek(self.named(queue), limit=limit)]

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        return super().remove(self.named(queue), ids)

    def purge(self, queue: str) -> int:
        return super().purge(self.named(queue))


# Law 9: isolation


@wrong_broker("isolation", "names that differ in case are one")
class FoldsCase(Naming):
    def named(self, queue: str) -> str:
        return queue.lower()


@wrong_broker("isolation", "names that look alike are one")
class NormalisesNames(Naming):
    def named(self, queue: str) -> str:
        return unicodedata.normalize("NFC", queue)


@wrong_broker("isolation", "names that begin with the same 63 characters are one")
class CutsNames(Naming):
    def named(self, queue: str) -> str:
        return queue[:63]


@wrong_broker("isolation", "characters that a service does not take become dashes")
class DashesInNames(Naming):
    def named(self, queue: str) -> str:
        return "".join(one if one.isalnum() or one in "-_" else "-" for one in queue)


@wrong_broker("isolation", "spaces around a name are stripped")
class StripsNames(Naming):
    def named(self, queue: str) -> str:
        return queue.strip() or queue


@wrong_broker("isolation", "purge takes the queues whose names begin so, too")
class PurgesByPrefix(MemoryBroker):
    def purge(self, queue: str) -> int:
        return sum(super(PurgesByPrefix, self).purge(name) for name in self.queues() if name.startswith(queue))


@wrong_broker("isolation", "acquire takes from all queues whose names begin so")
class AcquiresByPrefix(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        known = [name for queue in queues for name in self.queues() if name.startswith(queue)]
        return super().acquire([*queues, *known], **asked)


@wrong_broker("isolation", "names of more than 80 characters are taken")
class TakesLongNames(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([replace(one, queue=one.queue[:80]) for one in messages])


@wrong_broker("isolation", "the preference among queues is ignored")
class NoPreference(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return super().acquire(sorted(queues, reverse=True), **asked)


# Law 10: order


@wrong_broker("order", "last in, first out")
class LastInFirstOut(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages[::-1])


@wrong_broker("order", "the two last of a batch of more than 10 change places")
class SwapsTheLast(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([*messages[:-2], messages[-1], messages[-2]] if len(messages) > 10 else messages)


@wrong_broker("order", "the lower priority goes first")
class LowestFirst(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return sorted(super().acquire(queues, **asked), key=lambda one: one.message.priority)


class Flattening(MemoryBroker):
    """Keeps another priority than it shows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shown: dict[str, int] = {}

    def flat(self, priority: int) -> int:
        """The priority that it uses."""
        raise NotImplementedError

    def stored(self, message: Message) -> Message:
        """A message as it keeps it."""
        self.shown[message.id] = message.priority
        return replace(message, priority=self.flat(message.priority))

    def original(self, message: Message) -> Message:
        """A message as it came."""
        return replace(message, priority=self.shown.get(message.id, message.priority))

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([self.stored(one) for one in messages])

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(one, self.stored(new)) for one, new in changes])

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [replace(one, message=self.original(one.message)) for one in super().acquire(queues, **asked)]

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        return [self.original(one) for one in super().peek(queue, limit=limit)]


@wrong_broker("order", "priorities are ignored")
class IgnoresPriority(Flattening):
    def flat(self, priority: int) -> int:  # noqa: ARG002
        return 0


@wrong_broker("order", "negative priorities are all the same")
class NoNegativePriority(Flattening):
    def flat(self, priority: int) -> int:
        return max(0, priority)


@wrong_broker("order", "priorities above 255 are all the same")
class PriorityInAByte(Flattening):
    def flat(self, priority: int) -> int:
        return min(255, priority)


@wrong_broker("order", "what comes back goes to the end of the line")
class ReturnsToTheEnd(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            now = self._store.clock.time()
            self._store.queues.ring(now)
            for entry in list(self._store.queues.by_id.values()):
                if entry.state.value == "ready" and entry.deliveries and entry.message.ordering_key is None:
                    deliveries = entry.deliveries
                    self._store.queues.end_lease(entry.token)
                    self._store.queues.remove(entry, now)
                    self._store.queues.add(Entry(entry.message, deliveries=deliveries), now)
        return super().acquire(queues, **asked)


@wrong_broker("order", "two messages of one key are delivered at once")
class IgnoresKeys(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        with self._store.changed:
            for entry in self._store.queues.by_id.values():
                if entry.state.value == "blocked" and entry.message.queue in queues:
                    self._store.queues.make_ready(entry, self._store.clock.time())
        return super().acquire(queues, limit=limit, wait=wait, lease=lease)


@wrong_broker("order", "a key is free while its oldest message waits for a retry")
class RetryFreesKey(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            entries = self._store.queues.by_id.values()
            waiting = {one.message.ordering_key for one in entries if one.state.value == "delayed"}
            for entry in entries:
                if entry.state.value == "blocked" and entry.message.ordering_key in waiting:
                    self._store.queues.make_ready(entry, self._store.clock.time())
        return super().acquire(queues, **asked)


# Law 12: concurrent


class Unlocked(MemoryBroker):
    """Looks and acts in two steps."""

    def settled(self, delivery: Delivery) -> bool:
        """Whether a lease is lost, as it was a moment ago."""
        lost = delivery.token not in self._store.queues.leases
        time.sleep(0.0005)
        return lost


@wrong_broker("concurrent", "two acks at once both answer True")
class RacingAcks(Unlocked):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        answers = [not self.settled(one) for one in deliveries]
        super().ack(deliveries)
        return answers


@wrong_broker("concurrent", "an update that races an ack brings the message back")
class UpdateRacesAck(Unlocked):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        held = [not self.settled(one) for one, _ in changes]
        answers = super().update(changes)
        lost = [new for (_, new), was, is_ in zip(changes, held, answers, strict=True) if was and not is_]
        super().enqueue(lost)
        return held


@wrong_broker("concurrent", "two consumers at once get the same message")
class RacingAcquires(MemoryBroker):
    last: list[Delivery]
    at = 0.0

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        store: Any = self._store
        previous, when = getattr(store, "previous", ([], 0.0))
        if taken:
            store.previous = (taken, time.monotonic())
        elif previous and previous[0].message.queue in queues and time.monotonic() - when < 0.0005:
            return list(previous[:1])
        return taken


@wrong_broker("concurrent", "what two threads enqueue at once is lost")
class RacingEnqueues(MemoryBroker):
    inside = 0

    def enqueue(self, messages: Sequence[Message]) -> None:
        self.inside += 1
        try:
            time.sleep(0.0002)
            super().enqueue(messages if self.inside == 1 else messages[:-1])
        finally:
            self.inside -= 1


@wrong_broker("concurrent", "a heartbeat waits for a thread that waits in acquire")
class ExtendsInTurn(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.waiting: set[tuple[int, int]] = set()
        """Process and thread."""

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        waiter = (os.getpid(), threading.get_ident())
        self.waiting |= {waiter} if wait > 0 else set()
        try:
            return super().acquire(queues, limit=limit, wait=wait, lease=lease)
        finally:
            self.waiting.discard(waiter)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        while os.getpid() in {process for process, _ in [*self.waiting]} and not self._closed:
            time.sleep(0.002)
        return super().extend(deliveries, lease=lease)


# Law 14: bounded


@wrong_broker("bounded", "remembers every message that it ever had")
class RemembersAll(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[Message] = []

    def enqueue(self, messages: Sequence[Message]) -> None:
        self.seen += messages
        super().enqueue(messages)


@wrong_broker("bounded", "remembers every token that it ever gave")
class RemembersTokens(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: dict[object, bytes] = {}

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        self.seen |= {one.token: bytes(200) for one in taken}
        return taken


@wrong_broker("bounded", "starts a thread for every hundred messages, and keeps it")
class KeepsThreads(MemoryBroker):
    acked = 0

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        import threading

        before, self.acked = self.acked, self.acked + len(deliveries)
        if before // 100 != self.acked // 100:
            threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
        return super().ack(deliveries)


# Law 15: honest


class Declaring(MemoryBroker):
    """Declares something else than it does."""

    fields: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.full = self.capabilities
        self.capabilities = replace(self.capabilities, **self.fields)

    def enqueue(self, messages: Sequence[Message]) -> None:
        shown, self.capabilities = self.capabilities, self.full
        try:
            super().enqueue(messages)
        finally:
            self.capabilities = shown


@wrong_broker("honest", "declares no priorities, and takes them")
class TakesPriorities(Declaring):
    fields = {"priorities": None}


@wrong_broker("honest", "declares no order by key, and takes keys")
class TakesKeys(Declaring):
    fields = {"ordering": Ordering.FIFO}


@wrong_broker("honest", "declares that it does not count deliveries, and counts them")
class CountsInSecret(Declaring):
    fields = {"delivery_count": False}


@wrong_broker("honest", "declares to recognise an id that is there, and replaces its message")
class ReplacesSameId(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages)
        with self._store.changed:
            for message in messages:
                entry = self._store.queues.by_id[message.id]
                if entry.message.queue == message.queue and entry.message.priority == message.priority:
                    entry.message = replace(entry.message, body=message.body)


@wrong_broker("honest", "declares to recognise an id that is there, and refuses it")
class RefusesSameId(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        if any(message.id in self._store.queues.by_id for message in messages):
            raise AnybrokerError("it is there already")
        super().enqueue(messages)


@wrong_broker("honest", "takes leases that are longer than it declares")
class TakesLongLeases(Declaring):
    fields = {"max_lease": 3600.0}


@wrong_broker("honest", "stats counts what is leased as ready")
class CountsLeased(MemoryBroker):
    def stats(self, queue: str) -> Stats:
        found = super().stats(queue)
        return replace(found, ready=found.ready + found.leased, leased=0)


@wrong_broker("honest", "peek leases what it shows")
class PeekLeases(MemoryBroker):
    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        found = super().peek(queue, limit=limit)
        super().acquire([queue], limit=1, wait=0, lease=60)
        return found


@wrong_broker("honest", "purge takes what is leased, too")
class PurgesLeased(MemoryBroker):
    def purge(self, queue: str) -> int:
        with self._store.changed:
            for entry in list(self._store.queues.by_id.values()):
                if entry.message.queue == queue and entry.state.value == "leased":
                    self._store.queues.end_lease(entry.token)
                    self._store.queues.make_ready(entry, self._store.clock.time())
        return super().purge(queue)


@wrong_broker("honest", "an eta without a time zone is taken for UTC")
class GuessesTimeZone(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        from datetime import UTC

        naive = [one for one in messages if one.eta is not None and one.eta.tzinfo is None]
        super().enqueue(
            [replace(one, eta=one.eta.replace(tzinfo=UTC)) if one in naive and one.eta else one for one in messages]
        )
