"""Calling the function of a task, once, within its time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from anybroker.context import _current
from anybroker.errors import ArgumentsError, TaskTimeout
from anybroker.events import Started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anybroker.events import Listeners
    from anybroker.worker.deadlines import Deadlines
    from anybroker.worker.execution import Execution, Outcome
    from anybroker.worker.pipeline import Pipeline


class Runner:
    """Makes an outcome of an execution, whatever the function does."""

    def __init__(self, pipeline: Pipeline, listeners: Listeners, deadlines: Deadlines) -> None:
        self._pipeline = pipeline
        self._listeners = listeners
        self._deadlines = deadlines

    def run_here(self, execution: Execution) -> Outcome:
        """Run one function in the calling thread, in a context, or an event loop, of its own."""
        try:
            if execution.step_to_run.is_async:
                return asyncio.run(self._call_coroutine(execution))
            outcome: Outcome = copy_context().run(self._call, execution)
        except BaseException as error:
            return self._pipeline.broken(execution, error)
        return outcome

    async def run_in_loop(self, execution: Execution) -> Outcome:
        """Run one coroutine function in the running event loop."""
        try:
            return await self._call_coroutine(execution)
        except BaseException as error:
            return self._pipeline.broken(execution, error)

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
            raise timed_out(timeout).with_traceback(error.__traceback__) from None

    async def _call_coroutine(self, execution: Execution) -> Outcome:
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
            return self._pipeline.raised(execution, timed_out(timeout) if limit.expired() else error)
        else:
            return self._pipeline.succeeded(execution, value)
        finally:
            self._deadlines.forget(execution)

    def _started(self, execution: Execution) -> None:
        execution.started_at = time.monotonic()
        if self._listeners.any:
            self._listeners.emit(
                Started(
                    id=execution.id,
                    task=execution.name,
                    queue=execution.queue,
                    attempt=execution.attempt,
                    step=execution.step,
                )
            )


def timed_out(timeout: float | None) -> TaskTimeout:
    """What a task fails with that ran longer than ``timeout`` seconds."""
    return TaskTimeout(f"ran longer than its time limit of {timeout} s")
