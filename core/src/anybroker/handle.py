"""What ``send`` returns: a task's state and its result, now or when it is there."""

# ruff: noqa: TC004  a handle is never decoded, so its annotations may stay names

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from anybroker.backend import Result, ResultBackend, State
from anybroker.context import shielded
from anybroker.errors import (
    ConfigurationError,
    DecodeError,
    ResultTimeout,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
)
from anybroker.task import WIRE_VERSION, TaskResult
from anybroker.values import decode_value

if TYPE_CHECKING:
    from collections.abc import Generator

    from anybroker.app import App
    from anybroker.codec import Format
    from anybroker.definition import Definition

R_co = TypeVar("R_co", covariant=True)

_LOOK = 0.5
"""Seconds for one call of ``wait``, in which a task that waits for another one cannot be interrupted."""
_json_decoder = msgspec.json.Decoder(TaskResult)
_msgpack_decoder = msgspec.msgpack.Decoder(TaskResult)


class Handle(msgspec.Struct, Generic[R_co], frozen=True, eq=False, gc=False):
    """A task that was sent. ``handle.get(timeout=10)``, or ``await handle``."""

    _app: App
    id: str
    queue: str
    _definition: Definition | None

    def __repr__(self) -> str:
        """The task's id."""
        return f"<handle of {self.id}>"

    @property
    def status(self) -> State:
        """The state as the result backend has it; ``PENDING`` where it has none."""
        stored = self._fetch()
        return stored.state if stored else State.PENDING

    def result(self) -> TaskResult | None:
        """All that is stored about the task, or None. Raises ``DecodeError``."""
        stored = self._fetch()
        return decode_result(stored)[0] if stored else None

    def get(self, timeout: float | None = None) -> R_co:
        """The task's result, as soon as it is there.

        Waits at most ``timeout`` seconds (None: for ever). Raises ``ResultTimeout``; ``TaskFailed`` with the remote
        traceback; ``TaskExpired``; ``TaskCancelled``; ``ConfigurationError`` where no results are kept.
        """
        backend = self._backend()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = _LOOK if deadline is None else max(0.0, deadline - time.monotonic())
            stored = shielded(partial(backend.wait, [self.id], timeout=min(remaining, _LOOK)))
            if stored:
                return self._unwrap(stored[0])
            if deadline is not None and time.monotonic() >= deadline:
                raise ResultTimeout(f"task {self.id}: no result within {timeout} s")

    def __await__(self) -> Generator[Any, None, R_co]:
        """The task's result, as soon as it is there; raises as :meth:`get` does, without a time limit."""
        stored = yield from self._app.waiter(self._backend()).result(self.id).__await__()
        return self._unwrap(stored)

    def cancel(self) -> bool:
        """Take the task out of its queue: True, it will not run; False, a worker has it already, or had.

        Raises ``Unsupported`` where the broker cannot look into its queues.
        """
        return shielded(self._cancel)

    def _cancel(self) -> bool:
        removed = self._app.inspect().remove(self.queue, [self.id])[0]
        backend, definition = self._app.backend, self._definition
        if removed and backend is not None and (definition is None or definition.keep_results):
            stored = backend.fetch([self.id])[0]  # a retry may wait, whose attempt is there already
            attempt = stored.attempt + 1 if stored else 1
            name = definition.name if definition else ""
            body = TaskResult(v=WIRE_VERSION, id=self.id, task=name, state=State.CANCELLED, attempt=attempt)
            cancelled = Result(self.id, State.CANCELLED, attempt, msgspec.json.encode(body))
            backend.store([cancelled], ttl=definition.results_ttl if definition else self._app.results_ttl)
        return removed

    def forget(self) -> None:
        """Remove the stored result."""
        shielded(partial(self._backend().forget, [self.id]))

    def _fetch(self) -> Result | None:
        return shielded(partial(self._backend().fetch, [self.id]))[0]

    def _backend(self) -> ResultBackend:
        if self._definition is not None and not self._definition.keep_results:
            raise ConfigurationError(
                f"task {self._definition.name} keeps no results: it is declared with results=False"
            )
        return self._app.results()

    def _unwrap(self, stored: Result) -> R_co:
        result, format_ = decode_result(stored)
        if result.state is State.SUCCEEDED:
            try:
                value: R_co = decode_value(result.value, self._definition.returns if self._definition else Any, format_)
            except ValueError as error:
                message = f"the result of task {self.id} does not fit the annotation of {result.task}: {error}"
                raise DecodeError(message) from error
            return value
        what = f"task {result.task} ({self.id})"
        if result.state is State.EXPIRED:
            raise TaskExpired(f"{what} was not started in time")
        if result.state is State.CANCELLED:
            raise TaskCancelled(f"{what} was cancelled before it started")
        error_info = result.error
        if error_info is None:
            raise TaskFailed(f"{what} failed")
        message = f"{what} failed: {error_info.type}: {error_info.message}"
        raise TaskFailed(
            message,
            type=error_info.type,
            remote_message=error_info.message,
            remote_traceback=error_info.traceback,
        )


def decode_result(stored: Result) -> tuple[TaskResult, Format]:
    """A stored result and the format it is written in. Raises ``DecodeError``."""
    format_: Format = "json" if stored.body[:1] == b"{" else "msgpack"
    try:
        result = (_json_decoder if format_ == "json" else _msgpack_decoder).decode(stored.body)
    except (ValueError, RecursionError) as error:
        message = f"the stored result of task {stored.id} cannot be read: {error}"
        raise DecodeError(message) from error
    return result, format_
