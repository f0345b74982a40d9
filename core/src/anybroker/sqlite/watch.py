"""Waiting for a change of the file: told at once of this process's own, polling for those of others."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST_PAUSE = 0.0005
LONGEST_PAUSE = 0.03
"""Seconds between two polls: right after a change, and when nothing has happened for long. Bounds law 11."""
_BACK_OFF = 32
"""A pause is this fraction of the time since the last change."""


class Watch:
    """Wakes the threads that wait for a change. One of them polls for all.

    ``poll`` says whether another process has changed the file since it was last called.
    """

    def __init__(self, poll: Callable[[], bool]) -> None:
        self._poll = poll
        self.version = 0
        """Differs after every change that was noticed."""
        self.reset()

    def reset(self) -> None:
        """Forget the waiting threads: they do not exist in the child of a fork."""
        self._changed = threading.Condition()
        self._polling = False
        self._last_change = time.monotonic()

    def notify(self) -> None:
        """This process has changed the file."""
        with self._changed:
            self._advance()

    def quiet(self) -> float:
        """Seconds since the last change."""
        return time.monotonic() - self._last_change

    def wait(self, seen: int, timeout: float) -> None:
        """Return as soon as ``version`` is another than ``seen``, after ``timeout`` seconds at the latest."""
        deadline = time.monotonic() + min(timeout, threading.TIMEOUT_MAX)
        with self._changed:
            try:
                while self.version == seen and (left := deadline - time.monotonic()) > 0:
                    if self._polling:
                        self._changed.wait(left)
                    else:
                        self._poll_until(seen, deadline)
            finally:
                if not self._polling:
                    self._changed.notify()  # somebody else has to poll now

    def _poll_until(self, seen: int, deadline: float) -> None:
        self._polling = True
        try:
            while self.version == seen and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, max(SHORTEST_PAUSE, min(LONGEST_PAUSE, self.quiet() / _BACK_OFF))))
                self._changed.release()
                try:
                    changed = self._poll()
                finally:
                    self._changed.acquire()
                if changed:
                    self._advance()
        finally:
            self._polling = False

    def _advance(self) -> None:
        self.version += 1
        self._last_change = time.monotonic()
        self._changed.notify_all()
