"""Waiting for signals without locks.

A Python signal handler runs between two instructions of the main thread, also while that thread holds the lock of an
``Event`` that it waits for; setting the event in the handler would then wait for ever. A pipe has no such lock.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_start_when_asked() -> None:
    """From now on, until there are :class:`StopSignals`, either stop signal raises ``KeyboardInterrupt``.

    That includes one that came while they were held back, as the command line does.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


class StopSignals:
    """Counts the signals that ask this process to stop, and wakes its main thread."""

    def __init__(self, on_signal: Callable[[signal.Signals], None]) -> None:
        """``on_signal`` is called in the handler, so it must not take locks or log."""
        self.count = 0
        self._on_signal = on_signal
        self._receive, self._send = os.pipe()
        os.set_blocking(self._send, False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        self._on_signal(signal.Signals(number))
        self.wake()

    def wake(self) -> None:
        """End a :meth:`wait` that is under way, or else the next one. Any thread may call it, and a signal handler."""
        try:
            os.write(self._send, b"\0")
        except BlockingIOError:  # full: it will be woken anyway
            return

    def wait(self, timeout: float) -> None:
        """Until a signal, a call of :meth:`wake`, or ``timeout`` seconds have passed."""
        ready, _, _ = select.select([self._receive], [], [], timeout)
        if ready:
            os.read(self._receive, 4096)
