"""How many messages a worker takes in advance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Delivery

MAX_PREFETCH = 1000
PREFETCH_SECONDS = 0.05
"""A worker takes as many messages in advance as it has finished in this time, and in that of one ``acquire``."""
MAX_ACQUIRE = 0.25
"""Seconds; what takes longer than this is waited for without work."""
PREFETCH_BYTES = 64 * 1024 * 1024


class Pace:
    """How many messages to take in advance: what is finished until the next ones can be there, within bounds."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self._prefetch = 0
        self._body = 1024.0
        self._acquire = 0.0
        """Seconds that the broker takes to hand out what is there."""

    def took(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Keep in mind how large bodies are, and how long it took to get them."""
        # A call that had to wait for a message says nothing, so that the quickest ones count.
        self._acquire = min(seconds, MAX_ACQUIRE, self._acquire * 1.25 + 0.001)
        mean = sum(len(delivery.message.body) for delivery in deliveries) / len(deliveries)
        self._body = max(mean, (self._body + mean) / 2, 1.0)

    def finished(self, count: int) -> None:
        """So many tasks have been settled."""
        self._count += count
        elapsed = time.monotonic() - self._since
        if elapsed >= PREFETCH_SECONDS / 2:
            rate = self._count / elapsed
            wanted = min(rate * (PREFETCH_SECONDS + self._acquire), MAX_PREFETCH, PREFETCH_BYTES / self._body)
            self._prefetch = int(wanted if wanted < self._prefetch else (self._prefetch + 3 * wanted) / 4)
            self._since, self._count = time.monotonic(), 0

    def prefetch(self) -> int:
        """How many messages to hold beyond those that run."""
        if time.monotonic() - self._since > 20 * PREFETCH_SECONDS:
            self._prefetch = 0
        return self._prefetch
