"""A dictionary whose items expire, bounded by what has not expired."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
SLACK = 1024
"""The heap may hold this many outdated items, and as many again as there are values, before it is rebuilt."""


class Expiring(Generic[T]):
    """Values by key, each until a moment of its own. Every call is told the time, in unix seconds."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[T, float]] = {}
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """How many values are stored, those included that expired since the last ``put``."""
        return len(self._items)

    def get(self, key: str, now: float) -> T | None:
        """The value, or None if there is none or it has expired."""
        value, end = self._items.get(key, (None, now))
        return value if now < end else None

    def put(self, key: str, value: T, end: float, now: float) -> None:
        """Set a value and its end, and drop what has expired."""
        self._items[key] = (value, end)
        heappush(self._ends, (end, key))
        if len(self._ends) > 2 * len(self._items) + SLACK:
            self._ends = [(end, key) for key, (_, end) in self._items.items()]
            heapify(self._ends)
        while self._ends and self._ends[0][0] <= now:
            end, key = heappop(self._ends)
            if key in self._items and self._items[key][1] <= now:
                del self._items[key]

    def drop(self, key: str) -> None:
        """Remove a value if it is there."""
        self._items.pop(key, None)
