"""Threads that run plain functions."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.worker.execution import Execution

_log = logging.getLogger("anybroker.worker")


class Threads:
    """Threads that take executions from one queue; started as they are needed."""

    def __init__(
        self, run: Callable[[Execution], bool], *, between: Callable[[], None], idle: Callable[[], None]
    ) -> None:
        """``run`` says whether its thread is to take another one.

        ``between`` is called when there is another one at once, ``idle`` when the thread has to wait for it.
        """
        self._run = run
        self._between = between
        self._idle = idle
        self._jobs: SimpleQueue[Execution | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        self._threads: set[threading.Thread] = set()

    def submit(self, executions: Sequence[Execution], limit: int) -> None:
        """Run these in up to ``limit`` threads."""
        for execution in executions:
            self._jobs.put(execution)
        self.resize(limit)

    def resize(self, limit: int) -> None:
        """Let there be at most ``limit`` threads, and as many as there are jobs until then."""
        with self._lock:
            for _ in range(self._alive - limit):
                self._alive -= 1
                self._jobs.put(None)
            self._start(min(limit - self._alive, self._jobs.qsize()))

    def lost_one(self) -> None:
        """A thread will not come back; another takes its place if there is work for it."""
        with self._lock:
            self._alive -= 1
            self._start(min(1, self._jobs.qsize()))

    def close(self, timeout: float) -> None:
        """End the threads; wait up to ``timeout`` seconds for those that are idle, or nearly so."""
        self.resize(0)
        deadline = time.monotonic() + timeout
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self, count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=self._work, name="anybroker-task", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:  # the system's limit; what waits is tried again with the next resize
                self._threads.discard(thread)
                _log.warning("%s; going on with %d", error, self._alive)
                return
            self._alive += 1

    def _work(self) -> None:
        while (execution := self._next()) is not None and self._run(execution):
            del execution  # nothing of a finished task is kept while the thread waits
        self._threads.discard(threading.current_thread())

    def _next(self) -> Execution | None:
        try:
            execution = self._jobs.get_nowait()
        except Empty:
            pass  # go on outside of the handler: what is settled there may run code of users
        else:
            self._between()
            return execution
        self._idle()
        return self._jobs.get()
