"""Child processes that run tasks, and their replacement when they die."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from anybroker.worker.process import EXIT_MISCONFIGURED, EXIT_RECYCLE, EXIT_STOPPED, WorkerOptions
from anybroker.worker.signals import StopSignals

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("anybroker.supervisor")

SHORT_LIFE = 2.0
"""Seconds; a child that dies younger is replaced with growing delay."""
LONGEST_DELAY = 30.0
RELOAD_INTERVAL = 0.5


class Supervisor:
    """Keeps ``processes`` worker processes running until a signal stops them.

    A child that dies, by a signal or by ``os._exit``, is replaced; what it held is delivered again after its lease.
    When this process dies, however it does, the children stop by themselves.
    """

    def __init__(self, options: WorkerOptions, processes: int, *, reload: Path | None = None) -> None:
        """``reload``: a directory whose Python files are watched; a change replaces all children."""
        self._options = options
        self._slots = [_Slot() for _ in range(processes)]
        self._files = _Files(reload) if reload else None
        self._lifeline, self._held_end = os.pipe()
        self._code = EXIT_STOPPED
        self._signals = StopSignals(self._send_all)

    def run(self) -> int:
        """Until all children have stopped; returns the exit code."""
        while not self._stopping or any(slot.process for slot in self._slots):
            for slot in self._slots:
                self._attend(slot)
            if self._files and self._files.changed() and not self._stopping:
                _log.info("files changed; replacing the worker")
                for slot in self._slots:
                    slot.not_before = 0.0
                self._send_all(signal.SIGTERM)
            self._signals.wait(RELOAD_INTERVAL)
        os.close(self._held_end)
        os.close(self._lifeline)
        return self._code

    @property
    def _stopping(self) -> bool:
        return self._signals.count > 0 or self._code != EXIT_STOPPED

    def _send_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.send_signal(number)

    def _attend(self, slot: _Slot) -> None:
        process = slot.process
        if process is not None and process.poll() is not None:
            slot.process = None
            self._mourn(slot, process)
        if slot.process is None and not self._stopping and time.monotonic() >= slot.not_before:
            self._start(slot)

    def _mourn(self, slot: _Slot, process: subprocess.Popen[bytes]) -> None:
        code = process.returncode
        if code == EXIT_MISCONFIGURED and self._files:  # wait for the mistake to be mended
            slot.not_before = float("inf")
            return
        if code == EXIT_MISCONFIGURED:  # the next one would fail in the same way
            self._code = EXIT_MISCONFIGURED
            self._send_all(signal.SIGTERM)
            return
        if self._stopping or code in (EXIT_STOPPED, EXIT_RECYCLE):
            return
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        short = time.monotonic() - slot.started < SHORT_LIFE
        slot.failures = slot.failures + 1 if short else 0
        delay = min(0.5 * 2**slot.failures, LONGEST_DELAY) if slot.failures else 0.0
        slot.not_before = time.monotonic() + delay
        _log.error("worker process %d died (%s); its tasks are delivered again after their lease", process.pid, how)

    def _start(self, slot: _Slot) -> None:
        options = msgspec.structs.replace(self._options, lifeline=self._lifeline)
        slot.started = time.monotonic()
        # a session of its own: Ctrl-C reaches this process alone, which passes it on
        slot.process = subprocess.Popen(  # noqa: S603  our own module with our own arguments
            [sys.executable, "-P", "-m", "anybroker.worker.process", msgspec.json.encode(options).decode()],
            pass_fds=[self._lifeline],
            start_new_session=True,
        )
        if self._stopping:  # the signal came while there was no process yet to pass it on to
            slot.process.send_signal(signal.SIGTERM)
        threading.Thread(target=self._watch, args=(slot.process,), name="anybroker-child", daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._signals.wake()


class _Slot:
    """The place of one child."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.failures = 0
        self.not_before = 0.0


class _Files:
    """The Python files below a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen = self._scan()

    def changed(self) -> bool:
        """Whether one was changed, added or removed since the last call."""
        before, self._seen = self._seen, self._scan()
        return before != self._seen

    def _scan(self) -> dict[Path, float]:
        found = {}
        for path in self._directory.rglob("*.py"):
            if not any(
                part.startswith(".") or part == "__pycache__" for part in path.relative_to(self._directory).parts
            ):
                try:
                    found[path] = path.stat().st_mtime
                except OSError:  # removed since it was listed
                    continue
        return found
