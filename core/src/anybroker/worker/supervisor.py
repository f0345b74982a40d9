"""Child processes that run tasks, and their replacement when they die."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from anybroker.worker.child import Child
from anybroker.worker.process import EXIT_MISCONFIGURED, EXIT_RECYCLE, EXIT_STOPPED
from anybroker.worker.signals import StopSignals

if TYPE_CHECKING:
    from pathlib import Path

    from anybroker.worker.process import WorkerOptions

_log = logging.getLogger("anybroker.supervisor")

SHORT_LIFE = 2.0
"""Seconds; a child that dies younger is replaced with growing delay."""
LONGEST_DELAY = 30.0
POLL = 0.5
"""Seconds between two looks at the children, and at files."""


class Supervisor:
    """Keeps ``processes`` worker processes running until a signal stops them.

    A child that dies, by a signal or by ``os._exit``, is replaced, and so is one that hangs; what it held is delivered
    again after its lease. When this process dies, however it does, the children stop by themselves.
    """

    def __init__(self, options: WorkerOptions, processes: int, *, reload: Path | None = None) -> None:
        """``reload``: a directory whose Python files are watched; a change replaces all children."""
        self._options = options
        self._slots = [_Slot() for _ in range(processes)]
        self._files = _Files(reload) if reload else None
        self._lifeline, self._held_end = os.pipe()
        self._code = EXIT_STOPPED
        self._signals = StopSignals(self._stop_all)

    def run(self) -> int:
        """Until all children have stopped; returns the exit code."""
        while not self._stopping or any(slot.child for slot in self._slots):
            for slot in self._slots:
                self._attend(slot)
            if self._files and self._files.changed() and not self._stopping:
                _log.info("files changed; replacing the worker")
                for slot in self._slots:
                    slot.not_before = 0.0
                self._stop_all(signal.SIGTERM)
            self._signals.wait(POLL)
        os.close(self._held_end)
        os.close(self._lifeline)
        return self._code

    @property
    def _stopping(self) -> bool:
        return self._signals.count > 0 or self._code != EXIT_STOPPED

    def _stop_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.child is not None:
                slot.child.stop(number)

    def _attend(self, slot: _Slot) -> None:
        child = slot.child
        if child is not None:
            child.listen()
            if child.exit_code() is None:
                if reason := child.kill_if_stuck():
                    _log.error("worker process %d %s; killed", child.pid, reason)
                return
            slot.child = None
            child.close()
            self._mourn(slot, child)
        if not self._stopping and time.monotonic() >= slot.not_before:
            self._start(slot)

    def _mourn(self, slot: _Slot, child: Child) -> None:
        code = child.exit_code() or 0
        if code == EXIT_MISCONFIGURED and not child.begun and not child.asked:
            if self._files:  # wait for the mistake to be mended
                slot.not_before = float("inf")
            else:  # the next one would fail in the same way
                self._code = EXIT_MISCONFIGURED
                self._stop_all(signal.SIGTERM)
            return
        if child.asked or (child.stopped_by_itself and code == EXIT_RECYCLE):
            return
        how = f"killed by {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        slot.failures = slot.failures + 1 if time.monotonic() - child.started < SHORT_LIFE else 0
        delay = min(0.5 * 2**slot.failures, LONGEST_DELAY) if slot.failures else 0.0
        slot.not_before = time.monotonic() + delay
        _log.error("worker process %d died (%s); its tasks are delivered again after their lease", child.pid, how)

    def _start(self, slot: _Slot) -> None:
        try:
            slot.child = Child(self._options, self._lifeline, self._signals.wake)
        except OSError as error:  # the system's limit of processes or memory
            _log.error("no worker process can be started: %s", error)
            slot.not_before = time.monotonic() + LONGEST_DELAY
            return
        if self._stopping:  # the signal came while there was no child yet to pass it on to
            slot.child.stop(signal.SIGTERM)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


class _Slot:
    """The place of one child."""

    def __init__(self) -> None:
        self.child: Child | None = None
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

    def _scan(self) -> dict[str, float]:
        found = {}
        for folder, below, names in os.walk(self._directory):
            below[:] = [
                name for name in below if not name.startswith(".") and name != "__pycache__"
            ]  # go on into these
            for name in names:
                if name.endswith(".py") and not name.startswith("."):
                    path = os.path.join(folder, name)  # noqa: PTH118  of thousands, twice a second
                    with suppress(OSError):  # removed since it was listed
                        found[path] = os.stat(path).st_mtime  # noqa: PTH116
        return found
