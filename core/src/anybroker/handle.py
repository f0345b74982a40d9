"""What ``send`` returns: a task's state and its result, now or when it is there."""

# ruff: noqa: TC004  a handle is never decoded, so its annotations may stay names

from __future__ import annotations

import time
from datetime import timedelta
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
    from collections.abc import Generator, Sequence

    from anybroker.app import App
    from anybroker.codec import Format
    from anybroker.definition import Definition
    from anybroker.retry import Seconds

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_LOOK = 0.5
"""Seconds for one call of ``wait``, in which a task that waits for another one cannot be interrupted."""
_json_decoder = msgspec.json.Decoder(TaskResult)
_msgpack_decoder = msgspec.msgpack.Decoder(TaskResult)


class Siblings:
    """Results of tasks that belong together: who asks for one has others looked for in the same call.

    For several as long as that finds them. Where results come one by one, to look for those that are not there would
    cost more than it saves: then they are waited for one after another, for twice as many each time.
    """

    FEW = 4
    """Results that are looked for in the first call."""
    MOST = 256
    """Results that are looked for in one call, and so the most that are kept for handles that nobody asks."""
    ENOUGH = 2**20
    """Bytes of results after which fewer are looked for in one call."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._final: dict[str, Result] = {}
        self._at_once, self._one_by_one, self._next_pause = self.FEW, 0, 1

    def final(self, number: int, backend: ResultBackend) -> Result | None:
        """The final state of the one with this number, if it is there or is found now."""
        id_ = self._ids[number]
        if (final := self._final.pop(id_, None)) is not None:
            return final
        if self._one_by_one > 0:
            self._one_by_one -= 1
            return None
        asked = list(dict.fromkeys(self._ids[number : number + self._at_once]))
        stored = shielded(partial(backend.fetch, asked))
        found = {one.id: one for one in stored if one is not None and one.state.final}
        self._final |= found
        self._learn(len(asked), len(found), sum(len(one.body) for one in found.values()))
        return self._final.pop(id_, None)

    def forget(self, number: int) -> None:
        """The result of this one is removed."""
        self._final.pop(self._ids[number], None)

    def _learn(self, asked: int, found: int, size: int) -> None:
        """What the next look is for, after one that found so many, with so many bytes."""
        if found == 0:
            self._at_once = self.FEW
            self._one_by_one, self._next_pause = self._next_pause, min(2 * self._next_pause, self.MOST)
            return
        if found == asked:
            self._at_once, self._next_pause = 2 * self._at_once, 1
        else:
            self._at_once = max(self.FEW, found)
        self._at_once = min(self._at_once, self.MOST, max(1, self.ENOUGH * found // max(1, size)))


class Handle(msgspec.Struct, Generic[R_co], frozen=True, eq=False, gc=False):
    """A task that was sent. ``handle.get(timeout=10)``, or ``await handle``."""

    _app: App
    id: str
    queue: str
    _definition: Definition | None
    _siblings: Siblings | None = None
    """The tasks with which it was sent."""
    _number: int = 0
    """Which of them it is."""

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

    def get(self, timeout: Seconds | None = None) -> R_co:
        """The task's result, as soon as it is there.

        Waits at most ``timeout``, seconds or a timedelta (None: for ever). Raises ``ResultTimeout``; ``TaskFailed``
        with the remote traceback; ``TaskExpired``; ``TaskCancelled``; ``ConfigurationError`` where no results are
        kept; ``BrokerUnavailable`` while the result backend cannot be reached.

        Looks in the same call for results of tasks that were sent together with it, and keeps them for their handles.
        """
        return self._unwrap(self._final(time.monotonic(), _longest(timeout), self._siblings, self._number))

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
        if self._siblings is not None:
            self._siblings.forget(self._number)

    def _final(self, since: float, timeout: float | None, siblings: Siblings | None, number: int) -> Result:
        """The final state. Raises ``ResultTimeout`` ``timeout`` seconds after ``since``, a monotonic time."""
        backend = self._backend()
        if siblings is not None:
            there = siblings.final(number, backend)
            if there is not None:
                return there
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


def get_many(handles: Sequence[Handle[R]], timeout: Seconds | None) -> list[R]:
    """The results of many tasks, in their order. See :meth:`App.get_many <anybroker.app.App.get_many>`."""
    since, siblings = time.monotonic(), Siblings([one.id for one in handles])
    longest = _longest(timeout)
    finals = (one._final(since, longest, siblings, number) for number, one in enumerate(handles))  # noqa: SLF001
    return [one._unwrap(final) for one, final in zip(handles, finals, strict=True)]  # noqa: SLF001


def _longest(timeout: Seconds | None) -> float | None:
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout


def decode_result(stored: Result) -> tuple[TaskResult, Format]:
    """A stored result and the format it is written in. Raises ``DecodeError``."""
    format_: Format = "json" if stored.body[:1] == b"{" else "msgpack"
    try:
        result = (_json_decoder if format_ == "json" else _msgpack_decoder).decode(stored.body)
    except (ValueError, RecursionError) as error:
        message = f"the stored result of task {stored.id} cannot be read: {error}"
        raise DecodeError(message) from error
    return result, format_
