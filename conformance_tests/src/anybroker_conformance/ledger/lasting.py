"""What is right for a while: for half a day, for forty heartbeats, for 255 deliveries, up to 64 KiB."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker.validation import check_changes
from anybroker_conformance.ledger.partly import is_held
from anybroker_conformance.ledger.registry import wrong_backend, wrong_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Delivery, Message

replace = msgspec.structs.replace


@wrong_broker("update", "what goes to another queue is cut off at 64 KiB")
class MovesCutAt64K(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        check_changes(changes, self.capabilities)
        moved = [new.queue != one.message.queue for one, new in changes]
        return super().update(
            [
                (one, replace(new, body=new.body[: 64 * 1024]) if cut else new)
                for (one, new), cut in zip(changes, moved, strict=True)
            ]
        )


@wrong_broker("exclusive", "of a lease the first forty extends count")
class ExtendsFortyTimes(MemoryBroker):
    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        times: Counter[object] = vars(self._store).setdefault("extends", Counter())
        times.update(one.token for one in deliveries)
        super().extend([one for one in deliveries if times[one.token] <= 40], lease=lease)
        return [is_held(self, one) for one in deliveries]


@wrong_broker("exclusive", "declares leases of at most 12 hours, and no message is held for longer, however extended")
class TwelveHoursInAll(MemoryBroker):
    longest = 12 * 3600.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, max_lease=self.longest)
        self.taken: dict[object, float] = vars(self._store).setdefault("taken", {})

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        taken = super().acquire(queues, **asked)
        self.taken |= {one.token: self._store.clock.time() for one in taken}
        return taken

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        answers: list[bool] = []
        for one in deliveries:
            left = self.taken.get(one.token, 0.0) + self.longest - self._store.clock.time()
            answers += super().extend([one], lease=max(0.0, min(lease, left)))
        return answers


@wrong_broker("expiry", "deliveries are counted in a byte")
class CountsDeliveriesInAByte(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [
            replace(one, delivery_count=(one.delivery_count or 0) % 256) for one in super().acquire(queues, **asked)
        ]


@wrong_broker("durable", "what nobody has come for in a month is removed")
class KeepsForAMonth(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            now = self._store.clock.time()
            self._store.queues.ring(now)
            for entry in [*self._store.queues.by_id.values()]:
                if entry.state.value == "ready" and entry.due < now - 30 * 86400:
                    self._discard(entry, entry.message.queue, now)
        return super().acquire(queues, **asked)


@wrong_backend("durable", "a group is sealed as long as the object that has sealed it is open")
class SealsUntilItCloses(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sealed: set[str] = set()

    def seal(self, group_id: str) -> None:
        super().seal(group_id)
        self.sealed.add(group_id)

    def close(self) -> None:
        super().close()
        with self._store.changed:
            for group_id in self.sealed:
                self._store.groups.drop(group_id)
