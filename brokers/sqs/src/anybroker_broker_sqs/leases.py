"""What this process holds.

A receipt handle that has expired may still delete the message (DeleteMessage, standard queues), so whether a lease is
lost is decided here first: by its time, and by what was done with it in this process.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from anybroker.errors import Unsupported
from anybroker_broker_sqs.envelope import whole
from anybroker_broker_sqs.options import MAX_LEASE

if TYPE_CHECKING:
    from anybroker.broker import Message


class Lease:
    """The token of a delivery. Any object of the process that took it may settle it, one thread alone at a time.

    The child of a fork holds nothing: its parent still does.

    ``claim`` it before settling; ``release`` it if the settle could not be done.
    """

    __slots__ = ("_free", "_pid", "began", "ends", "handle", "message_id", "settled", "successor", "url")

    def __init__(self, url: str, handle: str, message_id: str, began: float, seconds: int) -> None:
        self.url = url
        self.handle = handle
        self.message_id = message_id
        self.began = began
        """By the monotonic clock, as ``ends``."""
        self.ends = began + seconds
        self._pid = os.getpid()
        self.settled = False
        """It was, in a call that raised because of another message: to be answered when the call is repeated."""
        self.successor: Message | None = None
        """The new version of an update that could not delete the old one."""
        self._free = [True]  # taking out of a list is atomic, and needs no lock that a fork could find taken

    def claim(self) -> bool:
        """Take it for a settle; False if it is lost, or somebody else is at it."""
        if not self.valid:
            return False
        try:
            return self._free.pop()
        except IndexError:
            return False

    def release(self) -> None:
        """Give it back after a settle that could not be done, or not be answered."""
        self._free.append(True)

    @property
    def key(self) -> tuple[str, str]:
        """URL and receipt handle, by which SQS knows it."""
        return self.url, self.handle

    @property
    def valid(self) -> bool:
        """Whether this process has it, and its time has not run out."""
        return (self.settled or time.monotonic() < self.ends) and self._pid == os.getpid()

    @property
    def held(self) -> bool:
        """Whether it is valid and nobody has settled it."""
        return bool(self._free) and self.valid and not self.settled

    def __repr__(self) -> str:
        return f"{self.message_id}/{self.handle[-12:]}"


def whole_lease(lease: float) -> int:
    """A lease as SQS takes it: whole seconds, one at least. Raises ``Unsupported`` for more than 12 hours."""
    if not 0 <= lease <= MAX_LEASE:
        raise Unsupported(f"a lease of {lease:g} seconds; SQS takes up to {MAX_LEASE:,}")
    return max(1, whole(lease))


class Held:
    """The leases that one broker object holds. Those that have ended are forgotten now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: list[Lease] = []
        self._enough = 128

    def add(self, leases: list[Lease]) -> None:
        """Remember leases."""
        with self._lock:
            self._leases += leases
            if len(self._leases) > self._enough:
                self._leases = [lease for lease in self._leases if lease.held]
                self._enough = max(128, 2 * len(self._leases))

    def all(self) -> list[Lease]:
        """What is still held."""
        with self._lock:
            return [lease for lease in self._leases if lease.held]
