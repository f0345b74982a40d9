"""Waiting for signals without locks.

A Python signal handler runs between two instructions of the main thread, also while that thread holds the lock of an
``Event`` that it waits for; setting the event in the handler would then wait for ever. A pipe has no such lock.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object] | signal.Handlers

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OF_ANY_PROCESS: dict[signal.Signals, Handler] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


def end_start_when_asked() -> None:
    """From now on, until there are :class:`StopSignals`, either stop signal raises ``KeyboardInterrupt``.

    That includes one that came while they were held back, as the command line does.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


class StopSignals:
    """Counts the signals that ask this process to stop, and wakes its main thread.

    The child of a fork, which a task may make, is no worker: there they do what they do in any process.
    """

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


_at_fork = threading.local()


def _hold_back() -> None:
    """A signal that reaches the child in its first moments would be forgotten."""
    _at_fork.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _go_on() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _at_fork.before)


def _be_any_process() -> None:
    for number, handler in _OF_ANY_PROCESS.items():
        if isinstance(getattr(signal.getsignal(number), "__self__", None), StopSignals):
            signal.signal(number, handler)
    _go_on()


os.register_at_fork(before=_hold_back, after_in_parent=_go_on, after_in_child=_be_any_process)
