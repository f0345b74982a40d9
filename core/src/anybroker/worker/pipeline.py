"""From a delivery to an outcome: the rules of what happens to a task. No threads, no waiting, no broker calls."""

from __future__ import annotations

import difflib
import logging
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.app import BODY_RESERVE
from anybroker.backend import Result, State
from anybroker.codec import FutureVersion
from anybroker.errors import (
    ArgumentsError,
    DecodeError,
    MessageTooLarge,
    SignatureError,
    TaskError,
    TaskExpired,
    UnknownTask,
    WorkerLost,
)
from anybroker.events import (
    Acquired,
    Dead,
    Deferred,
    Event,
    Expired,
    Failed,
    Retried,
    StepFinished,
    Succeeded,
    TaskEvent,
)
from anybroker.retry import retry_delay
from anybroker.sending import Sender
from anybroker.task import ABSENT, WIRE_VERSION, Failure, Task, TaskErrorInfo, TaskResult
from anybroker.validation import check_messages
from anybroker.values import encode_value
from anybroker.worker.execution import Execution, Outcome
from anybroker.worker.failures import brief, error_info
from anybroker.worker.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anybroker.app import App
    from anybroker.broker import Delivery, Message
    from anybroker.context import Context

_log = logging.getLogger("anybroker.worker")

MAX_DEFERRALS = 8
"""How often a task whose name nobody knows is put off: 1, 2, 4, ... seconds, about four minutes together."""


class Pipeline:
    """What an app's declarations and settings make of deliveries."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._listeners = app.listeners
        self._decode = app.codec.decode
        self._tasks = app.tasks
        self._max_deliveries = app.settings.max_deliveries
        self._versions = Versions(app)
        self._max_body = app.broker.capabilities.max_body
        self._max_task = self._max_body - BODY_RESERVE
        self._max_result = app.backend.capabilities.max_body if app.backend is not None else 0
        self._has_backend = app.backend is not None

    # before it runs

    def admit(self, delivery: Delivery) -> Execution | Outcome:
        """The execution that a delivery asks for, or the outcome when there is nothing to run."""
        try:
            return self._judge(delivery)
        except (
            Exception
        ) as error:  # whatever a body may do to us: it is kept, and neither comes back nor stops a worker
            _log.exception("message %s cannot be judged", delivery.message.id)
            return self._dead(delivery, "undecodable", error)

    def _judge(self, delivery: Delivery) -> Execution | Outcome:
        body = delivery.message.body
        if len(body) > self._max_body:
            return self._dead(delivery, "oversized", DecodeError(f"{len(body):,} bytes"))
        try:
            task = self._decode(body)
        except DecodeError as error:
            return self._dead(delivery, _reason(error), error)
        definition = self._tasks.get(task.task)
        if definition is None:
            return self._unregistered(delivery, task)
        step = definition.steps[task.step if task.step < len(definition.steps) else -1]
        format_ = "json" if body[0] == _JSON_MAP else self._app.codec.payload_format(body)
        execution = Execution(task, delivery, definition, step, format_, time.monotonic())
        refuse = self.refusal(execution)
        if refuse is not None:  # hooks are called where tasks run: whoever acquires must not wait for them
            return execution if definition.on_failure else refuse(execution, None)
        if self._listeners.any:
            self._listeners.emit(Acquired(**_identity(execution), delivery_count=execution.delivery_count))
        return execution

    def refusal(self, execution: Execution) -> Callable[[Execution, None], Outcome] | None:
        """What makes the outcome of a task whose function must not be called, or not any more; None for all others."""
        task = execution.task
        if task.step >= len(execution.definition.steps):
            return self._without_step
        if execution.delivery.delivery_count != 1 or task.crashes:
            deliveries = execution.delivery_count
            if deliveries is not None and deliveries > self._max_deliveries:
                return self._crashed
        if task.expires is not None and task.expires <= self._app.clock.now():
            return self._expired
        return None

    def keeps_result(self, execution: Execution) -> bool:
        """Whether the task's states are stored."""
        return self._has_backend and execution.definition.keep_results

    def runs_alone(self, execution: Execution) -> bool:
        """Whether this is the last chance of a task that may be killing its workers.

        It is then run with nothing beside it, so that no innocent task is ever dead-lettered for what another one did.
        """
        if execution.delivery.delivery_count == 1 and not execution.task.crashes:
            return False
        return execution.delivery_count == self._max_deliveries and self.refusal(execution) is None

    def arguments(self, execution: Execution) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What the function is to be called with. Raises ``ArgumentsError``."""
        task = execution.task
        if task.step:
            open_, close = (b"[", b"]") if execution.format == "json" else (b"\x91", b"")
            task = msgspec.structs.replace(
                task, args=msgspec.Raw(open_ + bytes(task.state) + close), kwargs=_NO_KWARGS[execution.format]
            )
        return execution.step_to_run.parameters.decode(task, execution.format)

    # after it ran

    def succeeded(self, execution: Execution, value: object) -> Outcome:
        """The function returned."""
        definition, task = execution.definition, execution.task
        result = None
        if isinstance(value, CoroutineType):
            value.close()
            return self._failed(execution, TaskError(f"{task.task} returned {_NEVER_AWAITED}"), reason="failed")
        try:
            if task.step + 1 < len(definition.steps):
                return self._checkpoint(execution, value)
            if self.keeps_result(execution):
                result = self._result(execution, State.SUCCEEDED, value=encode_value(value, execution.format))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            problem = TaskError(f"{task.task} returned a {type(value).__name__} that cannot travel: {error}")
            return self._failed(execution, problem, reason="failed")
        if result is not None and len(result.body) > self._max_result:
            size = f"{len(result.body):,} bytes; the result backend takes at most {self._max_result:,}"
            return self._failed(execution, TaskError(f"{task.task} returned {size}"), reason="failed")
        hooks = definition.on_success
        return Outcome(
            execution.delivery,
            execution.key,
            None,
            result,
            definition.results_ttl,
            self._call_hooks(execution, hooks, value, value) if hooks else (),
            self._events(execution, Succeeded, result=value, seconds=time.monotonic() - execution.started_at)
            if self._listeners.any
            else (),
            task.task,
            task.attempt,
        )

    def raised(self, execution: Execution, error: BaseException) -> Outcome:
        """The function raised: try again, or give up."""
        delay = retry_delay(execution.step_to_run.retry, execution.task, error)
        if delay is None:
            return self._failed(execution, error, reason="failed")
        task = execution.task
        info = error_info(error)
        again = msgspec.structs.replace(
            task, attempt=task.attempt + 1, retries=task.retries + 1, error=info, crashes=0, deferrals=0
        )
        version = self._versions.of(execution.delivery, again, delay)
        return Outcome(
            execution.delivery,
            execution.key,
            version=version,
            result=self._result(execution, State.RETRYING, error=info) if self.keeps_result(execution) else None,
            ttl=execution.definition.results_ttl,
            events=self._events(execution, Retried, error=error, delay=delay),
            task=task.task,
            attempt=task.attempt,
            log=(
                logging.WARNING,
                f"{task.task} ({task.id}) raised {brief(error)}; retry {again.retries} in {delay:.1f} s",
            ),
        )

    def broken(self, execution: Execution, error: BaseException) -> Outcome:
        """Something around the function raised; no hook is called, since it may be the one."""
        _log.error("task %s (%s): the worker failed", execution.name, execution.id, exc_info=error)
        info, reason = error_info(error), "undecodable" if isinstance(error, DecodeError) else "failed"
        return msgspec.structs.replace(
            self._dead(execution.delivery, reason, error, info=info, task=execution.task),
            key=execution.key,
            result=self._result(execution, State.FAILED, error=info) if self.keeps_result(execution) else None,
            ttl=execution.definition.results_ttl,
        )

    def bad_arguments(self, execution: Execution, error: ArgumentsError) -> Outcome:
        """The arguments do not fit the function: no retry would help."""
        return self._failed(execution, error, reason="arguments")

    def given_back(self, execution: Execution, delay: float | None = None) -> Outcome:
        """The task was not finished here and is not to blame: others get it at once, or after ``delay`` seconds."""
        delivery, task = execution.delivery, execution.task
        carried = (execution.delivery_count or 1) - 1
        version = self._versions.unchanged(delivery, delay)
        if carried != task.crashes:
            with suppress(MessageTooLarge, DecodeError):  # then the suspicion is forgotten, not the task
                version = self._versions.of(delivery, msgspec.structs.replace(task, crashes=carried), delay)
        return Outcome(delivery, execution.key, version=version, task=task.task, attempt=task.attempt)

    def unsettled(self, outcome: Outcome, error: BaseException) -> Outcome:
        """What the broker or the result backend refuses of an outcome would be refused again: the task is kept."""
        task = None
        with suppress(DecodeError):
            task = self._decode(outcome.delivery.message.body)
        return msgspec.structs.replace(self._dead(outcome.delivery, "failed", error, task=task), key=outcome.key)

    def running(self, execution: Execution) -> Result:
        """The state to store while it runs."""
        return self._result(execution, State.RUNNING)

    # outcomes

    def _checkpoint(self, execution: Execution, value: object) -> Outcome:
        task = execution.task
        state = encode_value(value, execution.format)
        following = msgspec.structs.replace(
            task, step=task.step + 1, state=state, retries=0, error=None, crashes=0, deferrals=0
        )
        version = None
        with suppress(MessageTooLarge):
            version = self._versions.of(execution.delivery, following)
        if version is None or len(version.body) > self._max_task:
            message = f"step {task.step} returned {len(state):,} bytes, too many for the broker"
            raise ValueError(message)
        return Outcome(
            execution.delivery,
            execution.key,
            version=version,
            events=self._events(
                execution, StepFinished, step=task.step, seconds=time.monotonic() - execution.started_at
            ),
            task=task.task,
            attempt=task.attempt,
        )

    def _failed(self, execution: Execution, error: BaseException, *, reason: str) -> Outcome:
        info = error_info(error)
        dead = self._dead(execution.delivery, reason, error, info=info, task=execution.task)
        return msgspec.structs.replace(
            dead,
            key=execution.key,
            result=self._result(execution, State.FAILED, error=info) if self.keeps_result(execution) else None,
            ttl=execution.definition.results_ttl,
            successors=self._failure_hooks(execution, error, info),
            events=(*self._events(execution, Failed, error=error), *dead.events),
        )

    def _without_step(self, execution: Execution, _: None) -> Outcome:
        """A job has become shorter."""
        problem = TaskError(f"{execution.name} has no step {execution.step}")
        return self._failed(execution, problem, reason="arguments")

    def _crashed(self, execution: Execution, _: None) -> Outcome:
        """The task has killed too many workers."""
        deaths = (execution.delivery_count or 1) - 1
        crashed = WorkerLost(f"its worker died {deaths} times while it held this task")
        return self._failed(execution, crashed, reason="crashed")

    def _expired(self, execution: Execution, _: None) -> Outcome:
        """A task that nobody wants any more is no dead letter: it is gone, and its result says so."""
        error = TaskExpired(f"{execution.name} was not started in time")
        return Outcome(
            execution.delivery,
            execution.key,
            result=self._result(execution, State.EXPIRED) if self.keeps_result(execution) else None,
            ttl=execution.definition.results_ttl,
            successors=self._failure_hooks(execution, error, error_info(error)),
            events=self._events(execution, Expired),
            task=execution.name,
            attempt=execution.attempt,
            log=(logging.INFO, f"{execution.name} ({execution.id}) was not started in time"),
        )

    def _unregistered(self, delivery: Delivery, task: Task) -> Outcome:
        near = difflib.get_close_matches(task.task, list(self._tasks), n=3, cutoff=0.4)
        known = f"nearest: {', '.join(near)}" if near else f"registered: {', '.join(sorted(self._tasks)[:5]) or 'none'}"
        problem = f"no task is registered as {task.task!r} ({known})"
        if task.deferrals >= MAX_DEFERRALS:
            return self._dead(delivery, "unregistered", UnknownTask(problem), task=task)
        delay = float(2**task.deferrals)
        later = msgspec.structs.replace(task, deferrals=task.deferrals + 1)
        event = partial(
            Deferred, id=task.id, task=task.task, queue=delivery.message.queue, attempt=task.attempt, delay=delay
        )
        return Outcome(
            delivery,
            version=self._versions.of(delivery, later, delay),
            events=(event,) if self._listeners.wants(Deferred) else (),
            task=task.task,
            attempt=task.attempt,
            log=(
                logging.WARNING,
                f"task {task.id}: {problem}; put off for {delay:.0f} s, {later.deferrals} of {MAX_DEFERRALS}",
            ),
        )

    def _dead(
        self,
        delivery: Delivery,
        reason: str,
        error: BaseException,
        *,
        info: TaskErrorInfo | None = None,
        task: Task | None = None,
    ) -> Outcome:
        message = delivery.message
        name, attempt = (task.task, task.attempt) if task else ("", None)
        dead = self._versions.dead(delivery, reason, info or error_info(error), attempt)
        event = partial(
            Dead,
            id=message.id,
            task=name,
            queue=message.queue,
            attempt=attempt or 1,
            reason=reason,
            dead_queue=dead.queue,
        )
        return Outcome(
            delivery,
            version=dead,
            task=name,
            attempt=attempt or 1,
            events=(event,) if self._listeners.wants(Dead) else (),
            log=(
                logging.ERROR,
                f"{name or 'a message'} ({message.id}) is dead ({reason}): {brief(error)}; see {dead.queue}",
            ),
        )

    # parts

    def _result(
        self, execution: Execution, state: State, *, value: msgspec.Raw = ABSENT, error: TaskErrorInfo | None = None
    ) -> Result:
        now = self._app.clock.now()
        running_for = time.monotonic() - execution.started_at if execution.started_at else 0.0
        stored = TaskResult(
            v=WIRE_VERSION,
            id=execution.id,
            task=execution.name,
            state=state,
            attempt=execution.attempt,
            value=value,
            error=error,
            started_at=now - timedelta(seconds=running_for) if execution.started_at else None,
            finished_at=now if state.final else None,
        )
        encoder = _json_encoder if execution.format == "json" else _msgpack_encoder
        body = encoder.encode(stored)
        if error is not None and len(body) > self._max_result:
            body = encoder.encode(msgspec.structs.replace(stored, error=error.brief()))
        return Result(execution.id, state, execution.attempt, body)

    def _failure_hooks(self, execution: Execution, error: BaseException, info: TaskErrorInfo) -> tuple[Message, ...]:
        hooks = execution.definition.on_failure
        if not hooks:
            return ()
        failure = Failure(
            id=execution.id,
            task=execution.name,
            queue=execution.queue,
            attempt=execution.attempt,
            error=info,
            headers=execution.task.headers or {},
        )
        return self._call_hooks(execution, hooks, error, failure)

    def _call_hooks(
        self, context: Context, hooks: Sequence[Any], argument: object, travelling: object
    ) -> tuple[Message, ...]:
        """Call the functions among the hooks, and make messages of the tasks. What fails is logged."""
        successors = []
        for index, hook in enumerate(hooks):
            try:
                if isinstance(hook, Sender):
                    call = hook.s(travelling)
                    id_ = f"{context.id}:{hook.name}:{index}"
                    message = self._app.message(call, self._app.clock.now(), id=id_)
                    check_messages([message], self._app.broker.capabilities)
                    successors.append(message)
                else:
                    hook(context, argument)
            except BaseException:  # also SystemExit: a hook decides nothing
                _log.exception("a hook of %s (%s) raised", context.name, context.id)
        return tuple(successors)

    def _events(self, execution: Execution, kind: type[TaskEvent], **fields: Any) -> tuple[Callable[[], Event], ...]:
        if not self._listeners.wants(kind):
            return ()
        return (partial(kind, **_identity(execution), **fields),)


_NEVER_AWAITED = "a coroutine, which nobody awaits; write the function and what decorates it with async def"
_JSON_MAP = ord("{")
_NO_KWARGS = {"json": msgspec.Raw(b"{}"), "msgpack": msgspec.Raw(b"\x80")}
_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()


def _identity(execution: Execution) -> dict[str, Any]:
    return {"id": execution.id, "task": execution.name, "queue": execution.queue, "attempt": execution.attempt}


def _reason(error: DecodeError) -> str:
    if isinstance(error, SignatureError):
        return "signature"
    return "version" if isinstance(error, FutureVersion) else "undecodable"
