"""Wrong brokers of laws 5 to 7: stale settles that win, acks that are not final, updates that lose or double."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.errors import ConfigurationError
from anybroker.memory import MemoryBroker
from anybroker.memory.queues import Entry
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Delivery, Message

replace = msgspec.structs.replace


class ByIdNotToken(MemoryBroker):
    """Finds what a settle is about by its id."""

    def fresh(self, delivery: Delivery) -> Delivery:
        """The delivery as if it were made under the newest lease of its message."""
        entry = self._store.queues.by_id.get(delivery.message.id)
        return replace(delivery, token=entry.token) if entry is not None and entry.token else delivery


# Law 5: fenced


@wrong_broker("fenced", "a stale ack removes the message")
class StaleAck(ByIdNotToken):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return super().ack([self.fresh(one) for one in deliveries])


@wrong_broker("fenced", "a stale update replaces the message")
class StaleUpdate(ByIdNotToken):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(self.fresh(one), new) for one, new in changes])


@wrong_broker("fenced", "a stale extend prolongs the lease of another")
class StaleExtend(ByIdNotToken):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        return super().extend([self.fresh(one) for one in deliveries], lease=lease)


@wrong_broker("fenced", "a stale ack in a batch with a valid one is honoured")
class StaleAckInBatch(ByIdNotToken):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        if len(deliveries) > 1:
            deliveries = [self.fresh(one) for one in deliveries]
        return super().ack(deliveries)


@wrong_broker("fenced", "a stale ack is refused, and removes the message all the same")
class RefusedAckRemoves(ByIdNotToken):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        answers = [one.token in self._store.queues.leases for one in deliveries]
        super().ack([self.fresh(one) for one in deliveries])
        return answers


@wrong_broker("fenced", "a refused extend ends the lease of another")
class RefusedExtendEnds(ByIdNotToken):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        answers = super().extend(deliveries, lease=lease)
        stale = [self.fresh(one) for one, ours in zip(deliveries, answers, strict=True) if not ours]
        super().extend(stale, lease=0)
        return answers


@wrong_broker("fenced", "a settle answers True whatever it did")
class AlwaysTrue(MemoryBroker):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        super().ack(deliveries)
        return [True] * len(deliveries)


@wrong_broker("fenced", "a token is the delivery count")
class TokenIsCount(ByIdNotToken):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [replace(one, token=one.delivery_count) for one in super().acquire(queues, **asked)]

    def fresh(self, delivery: Delivery) -> Delivery:
        entry = self._store.queues.by_id.get(delivery.message.id)
        same = entry is not None and entry.token and entry.deliveries == delivery.token
        return replace(delivery, token=entry.token if entry and same else -1)

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return super().ack([self.fresh(one) for one in deliveries])

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(self.fresh(one), new) for one, new in changes])

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        return super().extend([self.fresh(one) for one in deliveries], lease=lease)


@wrong_broker("fenced", "answers of a batch come in another order")
class AnswersSorted(MemoryBroker):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return sorted(super().ack(deliveries), reverse=True)


# Law 6: final


@wrong_broker("final", "ack does nothing")
class AckDoesNothing(MemoryBroker):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return [one.token in self._store.queues.leases for one in deliveries]


@wrong_broker("final", "ack removes the first of a batch only")
class AcksFirst(AckDoesNothing):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return MemoryBroker.ack(self, deliveries[:1]) + super().ack(deliveries[1:])


@wrong_broker("final", "ack removes the first 64 of a batch only")
class AcksSixtyFour(AckDoesNothing):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return MemoryBroker.ack(self, deliveries[:64]) + super().ack(deliveries[64:])


@wrong_broker("final", "one acknowledged message in 1000 comes back")
class OneInThousandReturns(AckDoesNothing):
    acked = 0

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        answers = []
        for one in deliveries:
            self.acked += 1
            verb = AckDoesNothing.ack if self.acked % 1000 == 0 else MemoryBroker.ack
            answers += verb(self, [one])
        return answers


@wrong_broker("final", "what was delivered for the second time is not removed by its ack")
class SecondAckDoesNothing(AckDoesNothing):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return [
            (MemoryBroker.ack if one.delivery_count == 1 else AckDoesNothing.ack)(self, [one])[0] for one in deliveries
        ]


@wrong_broker("final", "what was acknowledged is stored for ever in another queue")
class KeepsAnArchive(MemoryBroker):
    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        with self._store.changed:
            for one in deliveries:
                entry = self._store.queues.end_lease(one.token)
                if entry is not None:
                    self._store.queues.remove(entry, 0.0)
                    entry.message = replace(entry.message, id=f"{one.message.id}.done")
                    self._store.queues.add(entry, self._store.clock.time())
                    self._store.queues.hold(entry, 2.0**60)
                    entry.state = type(entry.state).LEASED
        return [True] * len(deliveries)


@wrong_broker("final", "an id that was acknowledged is taken for ever")
class IdsAreTaken(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: set[str] = set()

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([one for one in messages if one.id not in self.seen])

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        self.seen |= {one.message.id for one in deliveries}
        return super().ack(deliveries)


# Law 7: update


@wrong_broker("update", "acknowledges and enqueues again, and not what goes to another queue")
class UpdateLosesMoves(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = self.ack([one for one, _ in changes])
        self.enqueue([new for one, new in changes if new.queue == one.message.queue])
        return answers


@wrong_broker("update", "loses what goes to another queue and is not due")
class UpdateLosesDelayedMoves(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        with self._store.changed:
            answers = super().update(changes)
            now = self._store.clock.time()
            for (one, new), ours in zip(changes, answers, strict=True):
                if ours and new.queue != one.message.queue and new.eta is not None and new.eta.timestamp() > now:
                    self._store.queues.remove(self._store.queues.by_id[new.id], now)
        return answers


@wrong_broker("update", "keeps the old version beside the new one")
class UpdateKeepsBoth(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        with self._store.changed:
            for (one, new), ours in zip(changes, answers, strict=True):
                if ours and new.body != one.message.body:
                    self._store.queues.add(Entry(one.message), self._store.clock.time())
        return answers


@wrong_broker("update", "keeps the old version of what goes to another queue, too")
class UpdateCopies(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        with self._store.changed:
            for (one, new), ours in zip(changes, answers, strict=True):
                if ours and new.queue != one.message.queue:
                    copy = replace(one.message, id=new.id)
                    self._store.queues.add(Entry(copy), self._store.clock.time())
        return answers


class Selective(MemoryBroker):
    """Changes a part of what an update asks for."""

    def changed(self, old: Message, new: Message) -> Message:
        """What the new version becomes."""
        raise NotImplementedError

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(one, self.changed(one.message, new)) for one, new in changes])


@wrong_broker("update", "no key is taken for the key that was there")
class KeepsKeyForNone(Selective):
    def changed(self, old: Message, new: Message) -> Message:
        return replace(new, ordering_key=old.ordering_key if new.ordering_key is None else new.ordering_key)


@wrong_broker("update", "priority 0 is taken for the priority that was there")
class KeepsPriorityForZero(Selective):
    def changed(self, old: Message, new: Message) -> Message:
        return replace(new, priority=new.priority or old.priority)


@wrong_broker("update", "keeps the old body")
class UpdateKeepsBody(Selective):
    def changed(self, old: Message, new: Message) -> Message:
        return replace(new, body=old.body)


@wrong_broker("update", "keeps the old priority")
class UpdateKeepsPriority(Selective):
    def changed(self, old: Message, new: Message) -> Message:
        return replace(new, priority=old.priority)


@wrong_broker("update", "ignores the new eta")
class UpdateIgnoresEta(Selective):
    def changed(self, old: Message, new: Message) -> Message:
        return replace(new, eta=old.eta)


@wrong_broker("update", "ignores the new ordering key")
class UpdateIgnoresKey(Selective):
    def changed(self, old: Message, new: Message) -> Message:
        return replace(new, ordering_key=old.ordering_key)


@wrong_broker("update", "changes the first of a batch only")
class UpdatesFirst(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update(changes[:1]) + [one.token in self._store.queues.leases for one, _ in changes[1:]]


@wrong_broker("update", "keeps the lease")
class UpdateKeepsLease(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        with self._store.changed:
            for one, new in changes:
                if (entry := self._store.queues.leases.get(one.token)) is not None and new.queue == one.message.queue:
                    entry.message = replace(new, priority=one.message.priority, ordering_key=one.message.ordering_key)
        moved = [(one, new) for one, new in changes if new.queue != one.message.queue]
        answers = iter(super().update(moved))
        return [next(answers) if new.queue != one.message.queue else True for one, new in changes]


@wrong_broker("update", "goes on counting the deliveries of the old version")
class UpdateGoesOnCounting(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        with self._store.changed:
            for one, new in changes:
                if (entry := self._store.queues.by_id.get(new.id)) is not None:
                    entry.deliveries = one.delivery_count or 0
        return answers


@wrong_broker("update", "loses the message when a batch is of two queues that swap it")
class UpdateLosesSwaps(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        olds, news = {one.message.queue for one, _ in changes}, {new.queue for _, new in changes}
        if len(changes) > 1 and olds == news and len(news) > 1:
            with self._store.changed:
                entry = self._store.queues.by_id[changes[0][1].id]
                self._store.queues.remove(entry, self._store.clock.time())
        return answers


@wrong_broker("update", "writes what is before one that is too large")
class HalfAnUpdate(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return [super(HalfAnUpdate, self).update([change])[0] for change in changes]


@wrong_broker("update", "lets the id change")
class UpdateChangesId(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        try:
            return super().update(changes)
        except ConfigurationError:
            return super().update([(one, replace(new, id=one.message.id)) for one, new in changes])
