"""Wrong brokers of law 10 that mind ordering keys, but for one way in or out of a key's line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.memory import MemoryBroker
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.broker import Delivery, Message
    from anybroker.memory.queues import Entry


class LetsIn(MemoryBroker):
    """Makes messages deliverable that wait for their key."""

    def let_in(self, chosen: Callable[[Entry], bool]) -> None:
        """Those that are chosen."""
        store = self._store
        with store.changed:
            for entry in store.queues.by_id.values():
                if entry.state.value == "blocked" and chosen(entry):
                    store.queues.make_ready(entry, store.clock.time())
            store.changed.notify_all()


@wrong_broker("order", "an update in place to a key that has messages is deliverable at once")
class NewKeyIsNotBlocked(LetsIn):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        stayed = {new.id for one, new in changes if new.queue == one.message.queue}
        self.let_in(lambda entry: entry.message.id in stayed)
        return answers


@wrong_broker("order", "a retry of more than an hour frees its key")
class LongRetryFreesKey(LetsIn):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        soon = self._store.clock.time() + 3600
        freed = {new.ordering_key for _, new in changes if new.eta is not None and new.eta.timestamp() > soon}
        self.let_in(lambda entry: entry.message.ordering_key in freed)
        return answers


@wrong_broker("order", "when close gives a key back, its highest priority goes first")
class PriorityAfterClose(LetsIn):
    def close(self) -> None:
        leases = self._store.queues.leases.values()
        held = {one.message.ordering_key: one.message.priority for one in leases if one.holder == self._holder}
        super().close()
        self.let_in(lambda entry: entry.message.priority > held.get(entry.message.ordering_key, entry.message.priority))
