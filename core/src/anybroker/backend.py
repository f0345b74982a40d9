"""The result backend contract: where results are stored, waited for, counted and locked.

Laws. **Read-your-writes.** **Never resurrects** a forgotten or expired result. **One writer wins** per attempt: a
result of a later attempt is never overwritten by one of an earlier attempt, and a final one is overwritten only by
a later attempt. **Join is exact** under duplicates and concurrency. **Claim has one holder** until it is released or
its ttl has passed. **Ttl** is kept within the declared precision. Bodies come back byte for byte. Memory is bounded
by what has not expired. Calls are thread-safe and raise ``BrokerUnavailable`` while the service is away.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.capabilities import BackendCapabilities


class State(Enum):
    """Where a task is."""

    PENDING = "pending"
    """Sent, or never heard of: nothing is stored for it."""
    RUNNING = "running"
    RETRYING = "retrying"
    """Failed, and will be tried again."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Nothing follows, unless the task is sent again by hand."""
        return self in _FINAL


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


class Result(msgspec.Struct, frozen=True, gc=False):
    """The state of one task as a backend stores it; ``body`` is opaque to the backend."""

    id: str
    state: State
    attempt: int
    """1 for the first. Orders the writers of one result."""
    body: bytes = b""

    def replaces(self, stored: Result) -> bool:
        """Whether this result may overwrite ``stored``: the law *one writer wins*, for adapters to use."""
        return self.attempt > stored.attempt or (self.attempt == stored.attempt and not stored.state.final)


class ResultBackend(Protocol):
    """The verbs of a result backend. Sequences may be empty."""

    @property
    def capabilities(self) -> BackendCapabilities:
        """What this backend, as configured, promises."""
        ...

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states, kept for ``ttl`` seconds (None: for ever).

        One bool each: False, a later attempt or a final state is there already and nothing changed. Raises
        ``MessageTooLarge`` before anything is stored.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        ...

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one; nothing after ``timeout`` seconds."""
        ...

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results. Unknown ids are no error."""
        ...

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member of a group finished, once however often it is repeated.

        True when all ``size`` members have, and again on every repeat until ``seal``: whoever sees True enqueues the
        group's callback, under an id that is the same for all who do. A group is remembered for days, sealed or
        not, and not for ever: the adapters of this project have an option ``group_ttl``, of 7 days.
        """
        ...

    def seal(self, group_id: str) -> None:
        """The group's callback has been enqueued: ``join`` answers False from now on."""
        ...

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds: a token that fences it, or None while somebody holds it."""
        ...

    def release(self, key: str, token: str) -> bool:
        """Give the lock back: True if ``token`` still held it, else nothing changed."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent."""
        ...
