"""Where the time comes from. It is injected, so that a delay of two days takes no time in a test.

The embedded brokers, the scheduler and the testing mode take a :class:`Clock`; everything else that measures
how long something took uses ``time.monotonic`` and has no need of one.
"""

from __future__ import annotations

import threading
import time
import weakref
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and waits by it. Thread-safe."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def time(self) -> float:
        """The same moment in seconds since 1970."""
        ...

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait until ``condition`` is notified or ``timeout`` seconds have passed by this clock.

        The caller holds the condition. May also return early, like every wait on a condition: look again, in a loop.
        """
        ...


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait until notified or until ``timeout`` seconds have passed."""
        condition.wait(min(timeout, threading.TIMEOUT_MAX))


class ManualClock:
    """A clock that stands still until :meth:`advance` moves it, for tests."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = start.astimezone(UTC)
        self._lock = threading.Lock()
        self._conditions: weakref.WeakSet[threading.Condition] = weakref.WeakSet()

    def now(self) -> datetime:
        """The time it was moved to, aware, in UTC."""
        return self._now

    def time(self) -> float:
        """The same moment in seconds since 1970."""
        return self._now.timestamp()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait until notified or until the clock has been moved."""
        if timeout <= 0:
            return
        with self._lock:
            known = condition in self._conditions
            self._conditions.add(condition)
        # Had the clock been moved just before it knew this condition, nobody would wake the caller: look again.
        if known:
            condition.wait()

    def advance(self, by: float | timedelta) -> None:
        """Move the clock forward by seconds or a ``timedelta`` and wake everybody who waits by it."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError(f"a clock does not go backwards: {by!r}")
        with self._lock:
            self._now += step
            conditions = list(self._conditions)
        for condition in conditions:
            with condition:
                condition.notify_all()
