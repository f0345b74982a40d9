"""Where task functions run: threads for plain functions, an event loop for coroutine functions."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from anybroker.context import _current
from anybroker.errors import ArgumentsError, TaskTimeout
from anybroker.events import Started
from anybroker.worker.deadlines import GIVE_UP_AFTER, Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.events import Listeners
    from anybroker.worker.execution import Execution, Outcome
    from anybroker.worker.pipeline import Pipeline

_log = logging.getLogger("anybroker.worker")


class Executors:
    """Runs executions and hands over their outcomes.

    An execution is first in ``waiting``, then in ``running``, then it has an outcome. Who takes it out of one of the
    two dictionaries, which is atomic, owns what comes next: a task that is given back or given up has one outcome only.
    """

    def __init__(self, pipeline: Pipeline, finish: Callable[[Outcome], None], listeners: Listeners) -> None:
        self.waiting: dict[int, Execution] = {}
        self.running: dict[int, Execution] = {}
        self.abandoned = 0
        """Tasks that ran on after their time limit although they were told to stop; their threads are lost."""
        self._pipeline = pipeline
        self._finish = finish
        self._listeners = listeners
        self._deadlines = Deadlines(self._give_up)
        self._threads = _Threads(self._run_in_thread)
        self._loop = _Loop()

    def submit(self, executions: Sequence[Execution], *, limit: int) -> None:
        """Run these, up to ``limit`` plain functions and as many coroutine functions at once."""
        self.waiting.update({execution.key: execution for execution in executions})
        plain = [execution for execution in executions if not execution.step_to_run.is_async]
        if plain:
            self._threads.submit(plain, limit)
        if len(plain) < len(executions):
            coroutines = [execution for execution in executions if execution.step_to_run.is_async]
            self._loop.submit(self._run_in_loop, coroutines, limit)

    def run_here(self, execution: Execution) -> Outcome:
        """Run one plain function in the calling thread, without a time limit."""
        return self._call(execution)

    def take_waiting(self, older_than: float = 0.0) -> list[Execution]:
        """Take out what has been waiting for at least so many seconds, so that it is not run here."""
        limit = time.monotonic() - older_than
        return [one for one in list(self.waiting.values()) if one.acquired_at <= limit and _take(self.waiting, one)]

    def take_running(self) -> list[Execution]:
        """Take out what is running; coroutines are cancelled, threads run on and what they return is dropped."""
        taken = [one for one in list(self.running.values()) if _take(self.running, one)]
        self._loop.cancel({execution.key for execution in taken})
        return taken

    def resize(self, limit: int) -> None:
        """Let there be at most so many threads."""
        self._threads.resize(limit)

    def close(self) -> None:
        """End the threads that are idle, the others when they are done."""
        self._threads.resize(0)
        self._loop.close()

    # plain functions

    def _run_in_thread(self, execution: Execution) -> bool:
        """Whether the thread is to take another one."""
        if not _take(self.waiting, execution):
            return True
        self.running[execution.key] = execution
        timeout = execution.timeout
        outcome = self._call(execution) if timeout is None else self._call_limited(execution, timeout)
        if not _take(self.running, execution):
            return False
        self._finish(outcome)
        return True

    def _call(self, execution: Execution) -> Outcome:
        token = _current.set(execution)
        try:
            args, kwargs = self._pipeline.arguments(execution)
        except ArgumentsError as error:
            _current.reset(token)
            return self._pipeline.bad_arguments(execution, error)
        self._started(execution)
        try:
            value = execution.step_to_run.function(*args, **kwargs)
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the task, not the worker
            if isinstance(error, TaskTimeout) and not error.args:  # raised in this thread by Deadlines
                execution.timed_out = True
                error = _timed_out(execution.timeout).with_traceback(error.__traceback__)
            return self._pipeline.raised(execution, error)
        else:
            return self._pipeline.succeeded(execution, value)
        finally:
            _current.reset(token)

    def _call_limited(self, execution: Execution, timeout: float) -> Outcome:
        outcome: Outcome | None = None
        with suppress(
            TaskTimeout
        ):  # where it arrives outside of the function, which has returned or was not called yet
            self._deadlines.arm(execution, timeout, thread=threading.get_ident())
            try:
                outcome = self._call(execution)
            finally:
                self._deadlines.disarm(execution)
        return self._pipeline.raised(execution, _timed_out(timeout)) if outcome is None else outcome

    # coroutine functions

    async def _run_in_loop(self, execution: Execution) -> None:
        if not _take(self.waiting, execution):
            return
        self.running[execution.key] = execution
        outcome = await self.run_coroutine(execution)
        if _take(self.running, execution):
            self._finish(outcome)

    async def run_coroutine(self, execution: Execution) -> Outcome:
        """Run one coroutine function in the running event loop."""
        _current.set(execution)
        timeout = execution.timeout
        try:
            args, kwargs = self._pipeline.arguments(execution)
        except ArgumentsError as error:
            return self._pipeline.bad_arguments(execution, error)
        self._started(execution)
        limit = asyncio.timeout(timeout)
        if timeout is not None:
            self._deadlines.arm(execution, timeout, thread=None)
        try:
            async with limit:
                value: Any = await execution.step_to_run.function(*args, **kwargs)
        except BaseException as error:  # as for plain functions; a cancelled task is dropped by its canceller
            return self._pipeline.raised(execution, _timed_out(timeout) if limit.expired() else error)
        else:
            return self._pipeline.succeeded(execution, value)
        finally:
            self._deadlines.forget(execution)

    def _started(self, execution: Execution) -> None:
        execution.started_at = time.monotonic()
        if self._listeners.wants(Started):
            self._listeners.emit(
                Started(
                    id=execution.id,
                    task=execution.name,
                    queue=execution.queue,
                    attempt=execution.attempt,
                    step=execution.step,
                )
            )

    def _give_up(self, execution: Execution) -> None:
        """A task did not stop when it was told to: leave its thread or its event loop to it and go on without."""
        if not _take(self.running, execution):
            return
        self.abandoned += 1
        where = "event loop" if execution.step_to_run.is_async else "thread"
        _log.error("task %s (%s) ignores its time limit and keeps its %s", execution.name, execution.id, where)
        self._finish(self._pipeline.raised(execution, _timed_out(execution.timeout)))
        if not execution.step_to_run.is_async:
            self._threads.lost_one()
            return
        self._loop.cancel({execution.key})
        if self._loop.replace_if_stuck():
            for other in list(self.running.values()):
                if other.step_to_run.is_async and _take(self.running, other):
                    self._finish(self._pipeline.given_back(other))


def _take(executions: dict[int, Execution], execution: Execution) -> bool:
    """Whether the caller is the one to go on with it."""
    return executions.pop(execution.key, None) is not None


def _timed_out(timeout: float | None) -> TaskTimeout:
    return TaskTimeout(f"ran longer than its time limit of {timeout} s")


class _Threads:
    """Threads that take executions from one queue; started as they are needed."""

    def __init__(self, run: Callable[[Execution], bool]) -> None:
        self._run = run
        self._jobs: SimpleQueue[Execution | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        self._busy = 0

    def submit(self, executions: Sequence[Execution], limit: int) -> None:
        for execution in executions:
            self._jobs.put(execution)
        self.resize(limit, wanted=len(executions))

    def resize(self, limit: int, wanted: int = 0) -> None:
        """Let there be at most ``limit`` threads, and one more for each of ``wanted`` jobs until then."""
        with self._lock:
            for _ in range(self._alive - limit):
                self._alive -= 1
                self._jobs.put(None)
            starting = min(limit - self._alive, self._jobs.qsize() if wanted else 0, wanted)
            for _ in range(starting):
                self._alive += 1
                threading.Thread(target=self._work, name="anybroker-task", daemon=True).start()

    def lost_one(self) -> None:
        """A thread will not come back; the next submit may start another in its place."""
        with self._lock:
            self._alive -= 1
            starting = bool(self._jobs.qsize())
            self._alive += starting
        if starting:
            threading.Thread(target=self._work, name="anybroker-task", daemon=True).start()

    def _work(self) -> None:
        while (execution := self._jobs.get()) is not None:
            if not self._run(execution):
                return
            del execution  # nothing of a finished task is kept while the thread waits


class _Loop:
    """One event loop in a thread of its own, started when the first coroutine function is to be run."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._queued: deque[Execution] = deque()
        self._limit = 0

    def submit(self, run: Callable[[Execution], Any], executions: Sequence[Execution], limit: int) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._tasks, self._queued = {}, deque()
            threading.Thread(target=self._serve, args=(self._loop,), name="anybroker-asyncio", daemon=True).start()
        self._limit = limit
        self._queued.extend(executions)
        self._loop.call_soon_threadsafe(self._start, self._tasks, self._queued, run)

    def cancel(self, keys: set[int]) -> None:
        for key in keys:
            if (task := self._tasks.get(key)) is not None:
                task.get_loop().call_soon_threadsafe(task.cancel)

    def replace_if_stuck(self) -> bool:
        """Leave a loop that does not answer any more; the next submit starts another. Whether it was so."""
        answered = threading.Event()
        if self._loop is None:
            return False
        self._loop.call_soon_threadsafe(answered.set)
        if answered.wait(GIVE_UP_AFTER):
            return False
        _log.error("a coroutine blocks the event loop; coroutines that come now get a new one")
        self._loop = None
        return True

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _start(
        self, tasks: dict[int, asyncio.Task[None]], queued: deque[Execution], run: Callable[[Execution], Any]
    ) -> None:
        async def run_and_go_on(execution: Execution) -> None:
            try:
                await run(execution)
            finally:
                del tasks[execution.key]
                self._start(tasks, queued, run)

        while queued and len(tasks) < self._limit:
            execution = queued.popleft()
            tasks[execution.key] = asyncio.get_running_loop().create_task(run_and_go_on(execution))

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
