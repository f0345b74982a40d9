"""A broker as simple as can be: lists, and every question looks at every message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anybroker.capabilities import Ordering

if TYPE_CHECKING:
    from anybroker.broker import Delivery, Message


@dataclass
class Stored:
    """What the model knows of a message."""

    message: Message
    place: int
    """In the order of arrival."""
    held_until: float | None = None
    token: object = None
    deliveries: int = 0
    updated: bool = False
    """It is the new version of another."""
    ready_since: float | None = None
    """Since when it can be delivered, if it can."""

    def due(self, now: float) -> bool:
        """Whether its eta has passed."""
        return self.message.eta is None or self.message.eta.timestamp() <= now

    def leased(self, now: float) -> bool:
        """Whether somebody's lease is valid."""
        return self.held_until is not None and self.held_until > now

    def give_up(self) -> None:
        """End the lease."""
        self.token = self.held_until = None


class Model:
    """What is in a broker."""

    def __init__(self, ordering: Ordering) -> None:
        self.stored: dict[str, Stored] = {}
        self._ordering = ordering
        self._arrived = 0

    def arrive(self, message: Message) -> None:
        """A message comes in, at the end of the line."""
        self._arrived += 1
        self.stored[message.id] = Stored(message, self._arrived)

    def replace(self, old: Stored, message: Message) -> None:
        """A message that stays in its queue, and in the line of its ordering key, keeps its place, if declared."""
        stays = (message.queue, message.ordering_key) == (old.message.queue, old.message.ordering_key)
        if stays and self._ordering is not Ordering.PER_KEY:
            self.stored[message.id] = Stored(message, old.place)
        else:
            self.arrive(message)
        self.stored[message.id].updated = True

    def of(self, queue: str) -> list[Stored]:
        """The messages of a queue, in the order of delivery that FIFO has."""
        return sorted(
            (one for one in self.stored.values() if one.message.queue == queue),
            key=lambda one: (-one.message.priority, one.place),
        )

    def holds_back(self, older: Stored, younger: Stored) -> bool:
        """Whether one message waits for another with the same ordering key."""
        if not self._ordering.keyed or younger.message.ordering_key is None:
            return False
        mine = younger.message.queue, younger.message.ordering_key
        return older.place < younger.place and (older.message.queue, older.message.ordering_key) == mine

    def blocked(self, one: Stored) -> bool:
        """Whether an older message with the same ordering key holds it back."""
        return any(self.holds_back(other, one) for other in self.stored.values())

    def deliverable(self, queue: str, now: float) -> list[Stored]:
        """What a queue can deliver now, in its order."""
        return [one for one in self.of(queue) if one.due(now) and not one.leased(now) and not self.blocked(one)]

    def mark_ready(self, since: float, now: float) -> None:
        """Take note of what can be delivered now; what could not at ``since`` has become so then, or by time later."""
        for one in self.stored.values():
            if not one.due(now) or one.leased(now) or self.blocked(one):
                one.ready_since = None
            elif one.ready_since is None:
                eta = one.message.eta.timestamp() if one.message.eta else since
                one.ready_since = max(since, eta, one.held_until or since)

    def holder(self, delivery: Delivery) -> Stored | None:
        """What a delivery still holds: until it is settled or delivered again, even when its time has run out."""
        one = self.stored.get(delivery.message.id)
        return one if one is not None and one.token is not None and one.token == delivery.token else None
