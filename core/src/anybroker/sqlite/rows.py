"""Between the contract's messages and the columns of the table ``messages``."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from anybroker.broker import Message
from anybroker.errors import Unsupported

MAX_LEASE = 365 * 86400.0
"""Seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def due_at(message: Message, now: int) -> int:
    """When a message may be delivered, in milliseconds, rounded up so that it is never early (law 8)."""
    return now if message.eta is None else max(now, -((_EPOCH - message.eta) // _MILLISECOND))


def eta_text(eta: datetime | None) -> str | None:
    """An eta as it is stored: to the microsecond and with its offset from UTC, so that it comes back as it was."""
    return None if eta is None else eta.isoformat()


def to_message(id_: str, queue: str, body: bytes, eta: str | None, priority: int, ordering_key: str | None) -> Message:
    """A message from its columns."""
    return Message(id_, queue, body, None if eta is None else _to_eta(eta), priority, ordering_key)


def _to_eta(text: str) -> datetime | None:
    """The eta that we or another program wrote: without an offset it is UTC, and what is no moment counts as none."""
    try:
        eta = datetime.fromisoformat(text)
    except ValueError:
        return None
    return eta if eta.tzinfo is not None else eta.replace(tzinfo=UTC)


def to_datetime(milliseconds: int) -> datetime:
    """A moment as SQLite's clock counts it."""
    return _EPOCH + milliseconds * _MILLISECOND


def lease_milliseconds(lease: float) -> int:
    """A lease given in seconds. Raises ``Unsupported`` when it is negative or longer than ``MAX_LEASE``."""
    if not 0 <= lease <= MAX_LEASE:
        raise Unsupported(f"a lease of {lease} seconds; this broker takes 0 to {MAX_LEASE:.0f}")
    return math.ceil(lease * 1000)
