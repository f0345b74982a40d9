"""A test that does not end: a call that never returns is a broken law, not a run that never ends."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 90.0
"""Seconds that one test may take, on a service with the shortest of leases."""
PER_LEASE = 20.0
"""Seconds more for each second of the shortest lease: a test may outlive so many of them."""
_REPEAT = 5.0  # a call that swallows the interruption is interrupted again


class Hang(BaseException):
    """A test has not ended in time. No ``Exception``: neither an adapter nor Hypothesis is to swallow it."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise :class:`Hang` in the block when it takes longer. Only works in the main thread, as signals do.

    Another timer, such as that of a plugin for time-outs, goes on afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise Hang(f"the test has not ended within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - began)), interval)
