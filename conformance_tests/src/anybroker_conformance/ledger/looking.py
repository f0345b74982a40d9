"""Wrong brokers of law 15 that change what is looked at, or misjudge its age."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.memory import MemoryBroker
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Message, Stats


@wrong_broker("honest", "the age of the oldest counts from its enqueue")
class OldestFromEnqueue(MemoryBroker):
    born: dict[str, float]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.born = vars(self._store).setdefault("born", {})

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages)
        for one in messages:
            self.born[one.id] = self.born.get(one.id, self._store.clock.time())

    def stats(self, queue: str) -> Stats:
        found = super().stats(queue)
        entries = self._store.queues.by_id.values()
        ready = [one.message.id for one in entries if one.message.queue == queue and one.state.value == "ready"]
        if not ready:
            return found
        return msgspec.structs.replace(found, oldest=self._store.clock.time() - min(self.born[id_] for id_ in ready))


@wrong_broker("honest", "remove with no ids removes all")
class RemovesAllForNone(MemoryBroker):
    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        if not ids:
            self.purge(queue)
        return super().remove(queue, ids)


@wrong_broker("honest", "the age of the oldest is that of the newest")
class OldestIsTheNewest(MemoryBroker):
    def stats(self, queue: str) -> Stats:
        found = super().stats(queue)
        entries = self._store.queues.by_id.values()
        since = [one.due for one in entries if one.message.queue == queue and one.state.value == "ready"]
        return msgspec.structs.replace(found, oldest=self._store.clock.time() - max(since)) if since else found


class SparesWaiting(MemoryBroker):
    """Knows who waits for an ordering key."""

    def waits(self, id_: str) -> bool:
        """Whether an earlier message with its key is there."""
        entry = self._store.queues.by_id.get(id_)
        return entry is not None and entry.state.value == "blocked"


@wrong_broker("honest", "purge leaves those that wait for their key")
class PurgeSparesWaiting(SparesWaiting):
    def purge(self, queue: str) -> int:
        ids = [one.id for one in self.peek(queue, limit=10_000) if not self.waits(one.id)]
        return sum(super().remove(queue, ids))


@wrong_broker("honest", "remove refuses those that wait for their key")
class RemoveSparesWaiting(SparesWaiting):
    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        return [not self.waits(id_) and super(RemoveSparesWaiting, self).remove(queue, [id_]) == [True] for id_ in ids]


@wrong_broker("honest", "peek counts as a delivery")
class PeekCounts(MemoryBroker):
    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        for entry in self._store.queues.by_id.values():
            if entry.message.queue == queue and entry.state.value == "ready":
                entry.deliveries += 1
        return super().peek(queue, limit=limit)
