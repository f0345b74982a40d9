"""Law 10 where each ordering key alone is in order (``Ordering.PER_KEY``): a right broker, and wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.capabilities import Ordering
from anybroker.memory import MemoryBroker
from anybroker_conformance.ledger.registry import wrong_broker
from anybroker_conformance.ledger.sharing import IgnoresKeys, RetryFreesKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Delivery, Message
    from anybroker.memory.queues import Entry


class PerKey(MemoryBroker):
    """Right: of the messages with one key the oldest is deliverable; a new version gives way to the next of its key."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capabilities = msgspec.structs.replace(self.capabilities, ordering=Ordering.PER_KEY)

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        store = self._store
        with store.changed:
            answers = super().update(changes)
            for (delivery, new), settled in zip(changes, answers, strict=True):
                if settled and new != delivery.message:
                    self.give_way(store.queues.by_id[new.id])
            store.changed.notify_all()
        return answers

    def give_way(self, entry: Entry) -> None:
        """Put a new version at the end of the line."""
        now = self._store.clock.time()
        self._store.queues.remove(entry, now)
        self._store.queues.add(entry, now)


@wrong_broker("order", "declares the order of each key alone, and a new version keeps its place in it")
class KeepsPlaceInKey(PerKey):
    def give_way(self, entry: Entry) -> None:
        pass


@wrong_broker("order", "declares the order of each key alone, and delivers two messages of a key at once")
class TwoOfAKey(IgnoresKeys, PerKey):
    pass


@wrong_broker("order", "declares the order of each key alone, and what is not due lets the next of its key by")
class EtaFreesKey(RetryFreesKey, PerKey):
    pass


@wrong_broker("order", "declares the order of each key alone, and frees a key when the lease of its oldest has run out")
class ExpiryFreesKey(PerKey):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            self._store.queues.ring(self._store.clock.time())
            entries = self._store.queues.by_id.values()
            lost = {one.message.ordering_key for one in entries if one.state.value == "ready" and one.deliveries}
            for entry in entries:
                if entry.state.value == "blocked" and entry.message.ordering_key in lost:
                    self._store.queues.make_ready(entry, self._store.clock.time())
        return super().acquire(queues, **asked)
