"""A worker process as its supervisor sees it: whether it lives, whether it has begun, whether it was asked to stop.

The child says what it does on a pipe of its own: first a line with its lease and its grace time in seconds, once its
worker runs; then a byte every second from its main thread; another one when it begins to stop.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from anybroker.worker.process import WorkerOptions

BEAT = b"."
STOPPING = b"s"
SILENCE = 10.0
"""Seconds without a beat after which a child is taken for stuck, unless its lease is longer: a task keeps the
interpreter to itself, so that nothing else runs in it, neither heartbeats nor time limits nor signal handlers."""
PATIENCE = 5.0
"""Seconds beyond its grace time after which a child that was to stop is killed."""


class Pulse:
    """The child's end of its pipe; without one, as in a worker that has no supervisor, nothing is said."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    def begun(self, lease: float, grace: float) -> None:
        """The worker runs."""
        self._write(f"{lease} {grace}\n".encode())

    def beat(self) -> None:
        """The main thread runs."""
        self._write(BEAT)

    def stopping(self) -> None:
        """The main thread is busy stopping."""
        self._write(STOPPING)

    def _write(self, what: bytes) -> None:
        if self._descriptor is not None:
            try:
                os.write(self._descriptor, what)
            except (BlockingIOError, BrokenPipeError):  # nobody listens: the supervisor is stopped, or gone
                return


class Child:
    """One worker process."""

    def __init__(self, options: WorkerOptions, lifeline: int, ended: Callable[[], None]) -> None:
        """``ended`` is called, in another thread, when the process has ended. Raises ``OSError``."""
        self.started = time.monotonic()
        self.begun = False
        self.asked = 0
        """How often it was asked to stop."""
        self._heard = self.started
        self._stopping_since: float | None = None
        self._lease = self._grace = 0.0
        self._said = b""
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        options = msgspec.structs.replace(options, lifeline=lifeline, pulse=theirs)
        # a session of its own: Ctrl-C reaches the supervisor alone, which passes it on
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own module with our own arguments
                [sys.executable, "-P", "-m", "anybroker.worker.process", msgspec.json.encode(options).decode()],
                pass_fds=[lifeline, theirs],
                start_new_session=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        self._ended = ended
        threading.Thread(target=self._watch, name="anybroker-child", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def stopped_by_itself(self) -> bool:
        """It said that it stops, without having been asked: to be replaced by a fresh one."""
        return self._stopping_since is not None and not self.asked

    def exit_code(self) -> int | None:
        """None while it lives. Negative: the signal that killed it."""
        return self._process.poll()

    def stop(self, number: signal.Signals) -> None:
        """Ask it to stop; the second time, to hurry."""
        if self.exit_code() is None:
            self.asked += 1
            self._stopping_since = time.monotonic()
            self._process.send_signal(number)

    def listen(self) -> None:
        """Take in what it has said."""
        try:
            said = os.read(self._pipe, 4096)
        except BlockingIOError:
            return
        if said:
            self._heard = time.monotonic()
        self._said += said
        line, line_break, rest = self._said.partition(b"\n")
        if not self.begun and line_break:
            self.begun = True
            self._lease, self._grace = map(float, line.split())
            self._said = rest
        if self.begun and STOPPING in self._said and self._stopping_since is None:
            self._stopping_since = self._heard
        if self.begun:
            self._said = b""

    def kill_if_stuck(self) -> str | None:
        """Kill it if it gives no sign of life or does not come to an end; returns why it was."""
        now, reason = time.monotonic(), None
        if self._stopping_since is not None:
            patience = PATIENCE + (self._grace if self.asked < 2 else 0.0)  # noqa: PLR2004  the second says: hurry
            if now - self._stopping_since > patience:
                reason = "did not stop"
        elif self.begun and now - self._heard > max(self._lease, SILENCE):
            reason = f"gave no sign of life for {now - self._heard:.0f} s: a task keeps the interpreter to itself"
        if reason is not None:
            self._process.kill()
        return reason

    def close(self) -> None:
        """Free the pipe of one that has ended."""
        os.close(self._pipe)

    def _watch(self) -> None:
        self._process.wait()
        self._ended()
