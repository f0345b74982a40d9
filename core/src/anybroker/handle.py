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
    from collections.abc import Generator, Iterable, Sequence

    from anybroker.app import App
    from anybroker.codec import Format
    from anybroker.definition import Definition

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_LOOK = 0.5
"""Seconds for one call of ``wait``, in which a task that waits for another one cannot be interrupted."""
_FEW, _MANY = 4, 256
"""Results that are looked for in one call, when many are asked for."""
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
        traceback; ``TaskExpired``; ``TaskCancelled``; ``ConfigurationError`` where no results are kept;
        ``BrokerUnavailable`` while the result backend cannot be reached.
        """
        return self._unwrap(self._wait(time.monotonic(), timeout))

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

    def _wait(self, since: float, timeout: float | None) -> Result:
        """The final state. Raises ``ResultTimeout`` ``timeout`` seconds after ``since``, a monotonic time."""
        backend = self._backend()
        deadline = None if timeout is None else since + timeout
        while True:
            remaining = _LOOK if deadline is None else max(0.0, deadline - time.monotonic())
            stored = shielded(partial(backend.wait, [self.id], timeout=min(remaining, _LOOK)))
            if stored:
                return stored[0]
            if deadline is not None and time.monotonic() >= deadline:
                raise ResultTimeout(f"task {self.id}: no result within {timeout} s")

    def _fetch(self) -> Result | None:
        return shielded(partial(self._backend().fetch, [self.id]))[0]

    def _final_of(self, ids: Iterable[str]) -> dict[str, Result]:
        """The final states that there are already, by id."""
        stored = shielded(partial(self._backend().fetch, list(ids)))
        return {result.id: result for result in stored if result is not None and result.state.final}

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


def get_many(handles: Sequence[Handle[R]], timeout: float | None) -> list[R]:
    """The results of many tasks, in their order. See :meth:`App.get_many <anybroker.app.App.get_many>`.

    Looks for several in one call as long as that finds them. Where results come one by one, to look for those that are
    not there would cost more than it saves: then they are waited for one after another, for twice as many each time.
    """
    since = time.monotonic()
    final: dict[str, Result] = {}
    values = []
    at_once, one_by_one, next_pause = _FEW, 0, 1
    for number, handle in enumerate(handles):
        if handle.id not in final and one_by_one:
            one_by_one -= 1
        elif handle.id not in final:
            asked = {one.id for one in handles[number : number + at_once]}
            found = handle._final_of(asked)  # noqa: SLF001  of the same module
            final |= found
            if len(found) == len(asked):
                at_once, next_pause = min(2 * at_once, _MANY), 1
            else:
                at_once = max(_FEW, len(found))
            if not found:
                one_by_one, next_pause = next_pause, min(2 * next_pause, _MANY)
        if handle.id not in final:
            final[handle.id] = handle._wait(since, timeout)  # noqa: SLF001
        values.append(handle._unwrap(final[handle.id]))  # noqa: SLF001
    return values


def decode_result(stored: Result) -> tuple[TaskResult, Format]:
    """A stored result and the format it is written in. Raises ``DecodeError``."""
    format_: Format = "json" if stored.body[:1] == b"{" else "msgpack"
    try:
        result = (_json_decoder if format_ == "json" else _msgpack_decoder).decode(stored.body)
    except (ValueError, RecursionError) as error:
        message = f"the stored result of task {stored.id} cannot be read: {error}"
        raise DecodeError(message) from error
    return result, format_
