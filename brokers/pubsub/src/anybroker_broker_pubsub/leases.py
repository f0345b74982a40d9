"""What an object holds, and until when.

Pub/Sub confirms an ack with a lost lease like any other, unless the subscription has exactly-once delivery. So a lease
whose time is over is not settled at all, and neither is one that was settled before.

A call that raised may be repeated. So what it had done is remembered: the repeat does the rest, and answers for all.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from anybroker_broker_pubsub.options import MAX_LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anybroker.broker import Delivery, Message

REMEMBERED = float(MAX_LEASE)
"""Seconds for which it is remembered what a call that raised had done: as long as any lease, if it is not extended."""
_MANY = 1000


class Token(NamedTuple):
    """Names a lease."""

    owner: str
    """The object that took it."""
    ack_id: str


class Progress(NamedTuple):
    """How far a call that raised had come with a lease, for when it is repeated."""

    new: Message | None
    """The new version that an update had stored; None: it was an ack."""
    settled: bool
    """The old message is gone too: only the answer is left."""
    until: float
    """When this is forgotten; by ``time.monotonic``."""


class Claim(NamedTuple):
    """A lease that one call is settling, so that no other one does."""

    ack_id: str
    until: float | None
    """By ``time.monotonic``; None: it was taken by another object, and what that one did since is not known here."""
    old: Message
    """What is held."""
    new: Message | None = None
    """By which an update replaces it."""
    progress: Progress | None = None
    """Of this call, when it was made before."""


class Settlement:
    """An ``ack`` or an ``update`` on its way: what it has claimed, and how far it has come."""

    def __init__(self, claims: Sequence[Claim | None]) -> None:
        self._claims = claims
        self.stored = {one.ack_id for one in self.claimed if one.progress is not None}
        """The ack ids of messages whose new version is stored."""
        self.answers = {one.ack_id: True for one in self.claimed if one.progress is not None and one.progress.settled}
        """By ack id: True, it is settled; False, its lease was lost."""

    @property
    def claimed(self) -> list[Claim]:
        """All leases that were valid, or were settled when this call was made before."""
        return [one for one in self._claims if one is not None]

    @property
    def left(self) -> list[Claim]:
        """Those that are neither settled nor lost."""
        return [one for one in self.claimed if one.ack_id not in self.answers]

    def result(self) -> list[bool]:
        """One answer for each delivery."""
        return [one is not None and self.answers.get(one.ack_id, False) for one in self._claims]


class Leases:
    """The leases of one object in one process. Thread-safe."""

    def __init__(self) -> None:
        self._owner = secrets.token_hex(8)
        self._held: dict[str, tuple[str, float]] = {}
        """By ack id: the queue, and until when it is held."""
        self._progress: dict[str, Progress] = {}
        """Of calls that raised, by ack id; until they are repeated, or :data:`REMEMBERED`."""
        self._lock = threading.Lock()
        self._prune_at = _MANY

    def hold(self, queue: str, ack_ids: Sequence[str], until: float) -> list[Token]:
        """Note new leases; returns their tokens."""
        with self._lock:
            for ack_id in ack_ids:
                self._held[ack_id] = (queue, until)
                self._progress.pop(ack_id, None)  # it is a new lease, should the service use an ack id again
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
            return Claim(token.ack_id, None, delivery.message) if valid else None
        _, until = self._held.get(token.ack_id, ("", 0.0))
        return Claim(token.ack_id, until, delivery.message) if time.monotonic() < until else None

    @contextmanager
    def settling(self, changes: Iterable[tuple[Delivery, Message | None]]) -> Iterator[Settlement]:
        """Claim leases, so that this object does not have them any more; of a delivery given twice, once.

        A call that raises gets back what it has not settled, and goes on from there when it is repeated. ``changes``:
        each with its new version, if it is an update.
        """
        settlement = Settlement(self._claim_all(changes))
        try:
            yield settlement
        except BaseException:
            self._restore(settlement)
            raise

    def _claim_all(self, changes: Iterable[tuple[Delivery, Message | None]]) -> list[Claim | None]:
        """The claims of a call, one of each lease."""
        claims: list[Claim | None] = []
        seen: set[str] = set()
        now = time.monotonic()
        with self._lock:
            self._progress = {ack_id: one for ack_id, one in self._progress.items() if one.until > now}
            for delivery, new in changes:
                claim = self._claim(delivery, new)
                if claim is not None and claim.ack_id in seen:
                    claim = None
                if claim is not None:
                    seen.add(claim.ack_id)
                claims.append(claim)
        return claims

    def _claim(self, delivery: Delivery, new: Message | None) -> Claim | None:
        """The claim of one delivery; None if its lease was lost, and not by this call when it was made before."""
        token = delivery.token
        if not isinstance(token, Token):
            return None
        progress = self._progress.get(token.ack_id)
        if progress is not None and progress.new != new:  # that was another call
            progress = None
        if progress is not None:
            del self._progress[token.ack_id]
            if progress.settled:
                return Claim(token.ack_id, None, delivery.message, new, progress)
        claim = self.live(delivery)
        if claim is None:
            return None
        self._held.pop(token.ack_id, None)
        return claim._replace(new=new, progress=progress)

    def _restore(self, settlement: Settlement) -> None:
        """Keep what was not settled after all, and how far all had come."""
        until = time.monotonic() + REMEMBERED
        with self._lock:
            for one in settlement.claimed:
                settled = settlement.answers.get(one.ack_id)
                if settled is None and one.until is not None:
                    self._held[one.ack_id] = (one.old.queue, one.until)
                if settled or (settled is None and one.ack_id in settlement.stored):
                    self._progress[one.ack_id] = Progress(one.new, settled is True, until)

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
