"""Time limits of running tasks: first the task is asked to stop, then it is given up."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from typing import TYPE_CHECKING

from anybroker.errors import TaskTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.worker.execution import Execution

GIVE_UP_AFTER = 1.0
"""Seconds after its time limit for which a task may still end by itself."""
SHIELDED_POLL = 0.005
"""Seconds between two looks at a task that is past its limit and in a call that must not be interrupted."""
_log = logging.getLogger("anybroker.worker")


class Deadlines:
    """One thread that watches the time limits of all running tasks; it exists while there are any.

    A task in a thread gets ``TaskTimeout`` raised in it. Who takes an entry out of ``_armed`` decides: the task's
    thread, then it has finished and nothing is raised any more; or this one, then the exception is on its way.
    """

    def __init__(self, give_up: Callable[[Execution], None]) -> None:
        self._give_up = give_up
        self._armed: dict[int, tuple[float, int, Execution]] = {}
        self._overdue: dict[int, tuple[float, Execution]] = {}
        self._changed = threading.Condition()
        self._running = False

    def arm(self, execution: Execution, timeout: float, *, thread: int | None) -> None:
        """Watch an execution from now on; ``thread`` is where the exception is raised, None: nowhere."""
        now = time.monotonic()
        with self._changed:
            if not self._running:  # the new thread waits for this lock, so it finds what follows
                threading.Thread(target=self._run, name="anybroker-deadlines", daemon=True).start()
                self._running = True
            if thread is not None:
                self._armed[execution.key] = (now + timeout, thread, execution)
            self._overdue[execution.key] = (now + timeout + GIVE_UP_AFTER, execution)
            self._changed.notify()

    def disarm(self, execution: Execution) -> None:
        """The task has ended in the calling thread. Raises ``TaskTimeout`` if that is on its way, and never later."""
        self._overdue.pop(execution.key, None)
        if self._armed.pop(execution.key, None) is None:
            while not execution.interrupted:  # no lock, which it would leave taken if it arrived right behind that
                time.sleep(0.0005)
            _raise_in(threading.get_ident(), None)

    def forget(self, execution: Execution) -> None:
        """The task has ended; nothing was to be raised in it."""
        self._overdue.pop(execution.key, None)

    def _interrupt(self, execution: Execution, thread: int) -> None:
        """Raise ``TaskTimeout`` in a task, unless it is in a call that must not be interrupted, or has ended."""
        execution.interrupting = True  # from here on it begins no such call
        if not execution.shielded and self._armed.pop(execution.key, None) is not None:
            _raise_in(thread, TaskTimeout)
            execution.interrupted = True
        execution.interrupting = False

    def _do_give_up(self, execution: Execution) -> None:
        try:
            self._give_up(execution)
        except Exception:  # this thread is there for all the other tasks as well
            _log.exception("task %s (%s) could not be given up", execution.name, execution.id)

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            with self._changed:  # so that nobody is in arm(), which an exception would leave with the lock taken
                for deadline, thread, execution in list(self._armed.values()):  # others take entries out meanwhile
                    if deadline <= now:
                        self._interrupt(execution, thread)
            for deadline, execution in list(self._overdue.values()):
                if deadline <= now and self._overdue.pop(execution.key, None) is not None:
                    if self._armed.pop(execution.key, None) is not None:
                        execution.interrupted = True
                    self._do_give_up(execution)
            with self._changed:
                armed, overdue = list(self._armed.values()), list(self._overdue.values())
                moments = [entry[0] for entry in armed] + [entry[0] for entry in overdue]
                if not moments:
                    self._running = False
                    return
                left = min(moments) - time.monotonic()
                self._changed.wait(min(max(SHIELDED_POLL, left), threading.TIMEOUT_MAX))


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in a thread, at its next bytecode instruction. None: take back one that has not arrived."""
    what = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
