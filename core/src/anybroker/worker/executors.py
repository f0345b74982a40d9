"""Where task functions run: threads for plain functions, an event loop for coroutine functions."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from anybroker.context import _current
from anybroker.errors import ArgumentsError, TaskTimeout
from anybroker.events import Started
from anybroker.worker.deadlines import Deadlines
from anybroker.worker.event_loop import EventLoop
from anybroker.worker.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anybroker.events import Listeners
    from anybroker.worker.execution import Execution, Outcome
    from anybroker.worker.pipeline import Pipeline

CLOSE_WITHIN = 0.5
"""Seconds to wait for threads that are about to end."""
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
        self._threads = Threads(self._run_in_thread)
        self._loop = EventLoop(self._run_in_loop)

    def submit(self, executions: Sequence[Execution], *, limit: int) -> None:
        """Run these, up to ``limit`` plain functions and as many coroutine functions at once."""
        self.waiting.update({execution.key: execution for execution in executions})
        plain = [execution for execution in executions if not execution.step_to_run.is_async]
        if plain:
            self._threads.submit(plain, limit)
        if len(plain) < len(executions):
            coroutines = [execution for execution in executions if execution.step_to_run.is_async]
            self._loop.submit(coroutines, limit)

    def run_here(self, execution: Execution) -> Outcome:
        """Run one function in the calling thread, in a context, or an event loop, of its own."""
        try:
            if execution.step_to_run.is_async:
                return asyncio.run(self._call_coroutine(execution))
            outcome: Outcome = copy_context().run(self._call, execution)
        except BaseException as error:
            return self._pipeline.broken(execution, error)
        return outcome

    def take_waiting(self, older_than: float = 0.0) -> list[Execution]:
        """Take out what has been waiting for at least so many seconds, so that it is not run here."""
        limit = time.monotonic() - older_than
        return [one for one in list(self.waiting.values()) if one.acquired_at <= limit and _take(self.waiting, one)]

    def drop(self, execution: Execution) -> bool:
        """Do not begin with this one any more. Whether it had not begun."""
        return _take(self.waiting, execution)

    def take_running(self) -> list[Execution]:
        """Take out what is running; coroutines are cancelled, threads run on and what they return is dropped."""
        taken = [one for one in list(self.running.values()) if _take(self.running, one)]
        self._loop.cancel(taken)
        return taken

    def resize(self, limit: int) -> None:
        """Let up to ``limit`` functions and as many coroutines run at once."""
        self._threads.resize(limit)
        self._loop.resize(limit)

    def close(self) -> None:
        """End what is idle; what still runs ends when it is done."""
        self._loop.close()
        self._threads.close(CLOSE_WITHIN)

    # plain functions

    def _run_in_thread(self, execution: Execution) -> bool:
        """Whether the thread is to take another one."""
        if not _take(self.waiting, execution):
            return True
        self.running[execution.key] = execution
        outcome = self.run_here(execution)
        if not _take(self.running, execution):
            return False
        execution.finished = True
        self._finish(outcome)
        return True

    def _call(self, execution: Execution) -> Outcome:
        _current.set(execution)
        try:
            args, kwargs = self._pipeline.arguments(execution)
        except ArgumentsError as error:
            return self._pipeline.bad_arguments(execution, error)
        self._started(execution)
        try:
            if execution.timeout is None:
                value = execution.step_to_run.function(*args, **kwargs)
            else:
                value = self._call_limited(execution, execution.timeout, args, kwargs)
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the task, not the worker
            return self._pipeline.raised(execution, error)
        return self._pipeline.succeeded(execution, value)

    def _call_limited(
        self, execution: Execution, timeout: float, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Call the function; a bare ``TaskTimeout`` is the one that ``Deadlines`` raises in this thread."""
        try:
            self._deadlines.arm(execution, timeout, thread=threading.get_ident())
            try:
                return execution.step_to_run.function(*args, **kwargs)
            except TaskTimeout as error:
                execution.timed_out = not error.args
                raise
            finally:
                self._deadlines.disarm(execution)
        except TaskTimeout as error:
            if error.args:
                raise
            raise _timed_out(timeout).with_traceback(error.__traceback__) from None

    # coroutine functions

    async def _run_in_loop(self, execution: Execution) -> None:
        if not _take(self.waiting, execution):
            return
        self.running[execution.key] = execution
        try:
            outcome = await self._call_coroutine(execution)
        except BaseException as error:
            outcome = self._pipeline.broken(execution, error)
        if _take(self.running, execution):
            execution.finished = True
            self._finish(outcome)

    async def _call_coroutine(self, execution: Execution) -> Outcome:
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
        self._loop.give_up(execution)
        if self._loop.is_stuck():
            caught = [one for one in [*self.running.values(), *self.waiting.values()] if one.step_to_run.is_async]
            self._loop.cancel(caught)
            self._loop.abandon()
            for other in caught:
                if _take(self.running, other) or _take(self.waiting, other):
                    self._finish(self._pipeline.given_back(other))


def _take(executions: dict[int, Execution], execution: Execution) -> bool:
    """Whether the caller is the one to go on with it."""
    return executions.pop(execution.key, None) is not None


def _timed_out(timeout: float | None) -> TaskTimeout:
    return TaskTimeout(f"ran longer than its time limit of {timeout} s")
