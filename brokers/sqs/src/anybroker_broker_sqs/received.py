"""A message as it was received, before anybody outside knows of it: due or not, how often delivered, how long kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anybroker_broker_sqs.envelope import whole
from anybroker_broker_sqs.options import MAX_LEASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anybroker.broker import Message
    from anybroker_broker_sqs.leases import Lease

MARGIN = 43_200
"""Seconds before SQS forgets a message (MessageRetentionPeriod) in which it is sent anew, at the latest; fewer where
it is kept for less than two days."""


class Received:
    """One of the messages that a ReceiveMessage brought. ``attributes`` are those of the system.

    ``deliveries`` are those before it was sent anew.
    """

    def __init__(self, message: Message, lease: Lease, attributes: Mapping[str, str], deliveries: int = 0) -> None:
        self.message = message
        self.lease = lease
        self._attributes = attributes
        self._deliveries = deliveries

    def waits(self, now: datetime) -> bool:
        """Whether it is not due yet."""
        return self.message.eta is not None and self.message.eta > now

    def left(self, now: datetime) -> int:
        """Whole seconds until it is due."""
        return 0 if self.message.eta is None else max(0, whole((self.message.eta - now).total_seconds()))

    def hidden(self, now: datetime, kept: float) -> int:
        """Seconds until the next look at a message of a FIFO queue, where SQS keeps it for ``kept`` seconds."""
        return min(self.left(now), MAX_LEASE - 1, int(kept / 4))

    def lasts(self, now: datetime, kept: float) -> bool:
        """Whether SQS, where it is ``kept`` for so many seconds, still has it at the next look; of a FIFO queue."""
        next_look = now + timedelta(seconds=self.hidden(now, kept))
        return next_look < self._moment("SentTimestamp") + timedelta(seconds=kept - min(MARGIN, kept / 4))

    @property
    def count(self) -> int:
        """How often it was delivered. Each look at a message of a FIFO queue that was not due yet was no delivery."""
        received = self._deliveries + int(self._attributes["ApproximateReceiveCount"])
        eta = self.message.eta
        if eta is None or "ApproximateFirstReceiveTimestamp" not in self._attributes:
            return received
        waited = (eta - self._moment("ApproximateFirstReceiveTimestamp")).total_seconds()
        looks = -int(-waited // (MAX_LEASE - 1)) if waited > 0 else 0
        return max(1, received - looks)

    def _moment(self, name: str) -> datetime:
        return datetime.fromtimestamp(int(self._attributes[name]) / 1000, UTC)
