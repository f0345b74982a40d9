"""What an object holds, and until when.

Pub/Sub confirms an ack with a lost lease like any other, unless the subscription has exactly-once delivery. So a lease
whose time is over is not settled at all, and neither is one that was settled before.
"""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anybroker.broker import Delivery

_MANY = 1000


class Token(NamedTuple):
    """Names a lease."""

    owner: str
    """The object that took it."""
    ack_id: str


class Claim(NamedTuple):
    """A lease that one call is settling, so that no other one does."""

    ack_id: str
    queue: str
    until: float | None
    """By ``time.monotonic``; None: it was taken by another object, and what that one did since is not known here."""


class Leases:
    """The leases of one object in one process. Thread-safe."""

    def __init__(self) -> None:
        self._owner = secrets.token_hex(8)
        self._held: dict[str, tuple[str, float]] = {}
        """By ack id: the queue, and until when it is held."""
        self._lock = threading.Lock()
        self._prune_at = _MANY

    def hold(self, queue: str, ack_ids: Sequence[str], until: float) -> list[Token]:
        """Note new leases; returns their tokens."""
        with self._lock:
            for ack_id in ack_ids:
                self._held[ack_id] = (queue, until)
            if len(self._held) > self._prune_at:
                now = time.monotonic()
                self._held = {ack_id: held for ack_id, held in self._held.items() if held[1] > now}
                self._prune_at = 2 * len(self._held) + _MANY
        return [Token(self._owner, ack_id) for ack_id in ack_ids]

    def live(self, delivery: Delivery) -> Claim | None:
        """The lease of a delivery; None if its time is over, or if it was settled."""
        token = delivery.token
        if not isinstance(token, Token):
            return None
        if token.owner != self._owner:
            valid = datetime.now(UTC) < delivery.lease_until
            return Claim(token.ack_id, delivery.message.queue, None) if valid else None
        queue, until = self._held.get(token.ack_id, ("", 0.0))
        return Claim(token.ack_id, queue, until) if time.monotonic() < until else None

    def claim(self, deliveries: Iterable[Delivery]) -> list[Claim | None]:
        """The leases of deliveries, which this object does not have any more; of one given twice, once."""
        claims: list[Claim | None] = []
        seen: set[str] = set()
        with self._lock:
            for delivery in deliveries:
                claim = self.live(delivery)
                if claim is not None and claim.ack_id in seen:
                    claim = None
                if claim is not None:
                    seen.add(claim.ack_id)
                    self._held.pop(claim.ack_id, None)
                claims.append(claim)
        return claims

    def restore(self, claims: Iterable[Claim]) -> None:
        """They were not settled after all."""
        with self._lock:
            self._held |= {one.ack_id: (one.queue, one.until) for one in claims if one.until is not None}

    def extend(self, ack_ids: Iterable[str], until: float) -> None:
        """Note that leases were extended, or, with an ``until`` of 0, that they are lost."""
        with self._lock:
            for ack_id in ack_ids:
                if ack_id in self._held:
                    self._held[ack_id] = (self._held[ack_id][0], until)

    def end_all(self) -> dict[str, list[str]]:
        """Forget everything; returns the ack ids whose time is not over, by queue."""
        with self._lock:
            held, self._held = self._held, {}
        now = time.monotonic()
        left: dict[str, list[str]] = {}
        for ack_id, (queue, until) in held.items():
            if until > now:
                left.setdefault(queue, []).append(ack_id)
        return left
