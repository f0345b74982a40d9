"""What a thread waits for while another one, which owns the connection, works for it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Reply(Generic[T]):
    """A value or an error that comes once, for all who wait for it."""

    __slots__ = ("_arrived", "_first", "done", "error", "value")

    def __init__(self) -> None:
        self._arrived = threading.Lock()  # half the cost of an Event, and there is one for every call
        self._arrived.acquire()
        self._first = threading.Lock()
        """Held by whoever has said first what came."""
        self.done = False
        """It is there."""
        self.value: T | None = None
        self.error: BaseException | None = None

    def set(self, value: T) -> None:
        """Here is the value. What comes after the first is ignored."""
        if self._first.acquire(blocking=False):
            self.value = value
            self._arrive()

    def fail(self, error: BaseException) -> None:
        """Here is why there is no value. The same."""
        if self._first.acquire(blocking=False):
            self.error = error
            self._arrive()

    def _arrive(self) -> None:
        self.done = True
        self._arrived.release()

    def wait(self, timeout: float) -> bool:
        """Wait; whether it is there."""
        if self._arrived.acquire(timeout=max(0.0, min(timeout, threading.TIMEOUT_MAX))):
            self._arrived.release()
            return True
        return False

    def result(self) -> T:
        """The value that is there, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set() has been called
