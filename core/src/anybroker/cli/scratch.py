"""Queues that a command makes for itself, and leaves empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.task import new_id

if TYPE_CHECKING:
    from anybroker.broker import Broker

_BATCH = 100
_LEASE = 30.0


def scratch_name(purpose: str) -> str:
    """A queue name, or an id, that nobody else uses."""
    return f"anybroker-{purpose}-{new_id()}"


def clear(broker: Broker, queue: str) -> None:
    """Remove what is left in a queue, as far as nobody holds it. Raises ``BrokerUnavailable``."""
    while left := broker.acquire([queue], limit=_BATCH, wait=0, lease=_LEASE):
        broker.ack(left)
