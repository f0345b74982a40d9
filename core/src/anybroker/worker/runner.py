"""Calling the function of a task, once, within its time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
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


Ending = tuple[Callable[["Execution", Any], "Outcome"], Any]
"""How a run ended: what makes an outcome of it, and what it returned or raised."""


UNWATCHED_PAUSE = 1.0
"""Seconds after which a task is delivered again whose time limit nobody could watch."""


class _UnwatchedError(Exception):
    """The system grants no thread to watch a time limit."""


class Runner:
    """Calls the function of an execution, and makes an outcome of how that ended.

    These are two steps, because between them it is decided whose outcome counts: a task that was given back or given up
    in the meantime has one already.
    """

    def __init__(self, pipeline: Pipeline, listeners: Listeners, deadlines: Deadlines) -> None:
        self._pipeline = pipeline
        self._listeners = listeners
        self._deadlines = deadlines

    def run(self, execution: Execution) -> Ending:
        """Run one function in the calling thread, in a context, or an event loop, of its own. Raises nothing."""
        try:
            if execution.step_to_run.is_async:
                return asyncio.run(self.run_coroutine(execution))
            ending: Ending = copy_context().run(self._call, execution)
        except BaseException as error:
            return self._pipeline.broken, error
        return ending

    async def run_coroutine(self, execution: Execution) -> Ending:
        """Run one coroutine function in the running event loop. Raises nothing."""
        _current.set(execution)
        try:
            if refuse := self._pipeline.refusal(execution):  # it may have expired since it was taken
                return refuse, None
            args, kwargs = self._pipeline.arguments(execution)
        except ArgumentsError as error:
            return self._pipeline.bad_arguments, error
        except BaseException as error:
            return self._pipeline.broken, error
        self._started(execution)
        limit = asyncio.timeout(execution.timeout)
        try:
            if execution.timeout is not None:
                self._watch(execution, execution.timeout, thread=None)
            async with limit:
                value: Any = await execution.step_to_run.function(*args, **kwargs)
        except _UnwatchedError:
            return self._pipeline.given_back, UNWATCHED_PAUSE
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the task, not the worker
            return self._pipeline.raised, timed_out(execution.timeout) if limit.expired() else error
        finally:
            self._deadlines.forget(execution)
        return self._pipeline.succeeded, value

    def conclude(self, execution: Execution, ending: Ending) -> Outcome:
        """The outcome; calls the task's hooks. Raises nothing."""
        conclude, what = ending
        try:
            return conclude(execution, what)
        except BaseException as error:
            return self._pipeline.broken(execution, error)

    def _call(self, execution: Execution) -> Ending:
        _current.set(execution)
        if refuse := self._pipeline.refusal(execution):  # it may have expired since it was taken
            return refuse, None
        try:
            args, kwargs = self._pipeline.arguments(execution)
        except ArgumentsError as error:
            return self._pipeline.bad_arguments, error
        self._started(execution)
        try:
            if execution.timeout is None:
                return self._pipeline.succeeded, execution.step_to_run.function(*args, **kwargs)
            return self._pipeline.succeeded, self._call_limited(execution, execution.timeout, args, kwargs)
        except _UnwatchedError:
            return self._pipeline.given_back, UNWATCHED_PAUSE
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the task, not the worker
            return self._pipeline.raised, error

    def _call_limited(
        self, execution: Execution, timeout: float, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> object:
        """Call the function; a bare ``TaskTimeout`` is the one that ``Deadlines`` raises in this thread."""
        try:
            self._watch(execution, timeout, thread=threading.get_ident())
            try:
                return execution.step_to_run.function(*args, **kwargs)
            finally:
                self._deadlines.disarm(execution)
        except TaskTimeout as error:
            if error.args:
                raise
            raise timed_out(timeout).with_traceback(error.__traceback__) from None

    def _watch(self, execution: Execution, timeout: float, *, thread: int | None) -> None:
        try:
            self._deadlines.arm(execution, timeout, thread=thread)
        except RuntimeError as error:
            raise _UnwatchedError from error

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
