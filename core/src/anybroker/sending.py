"""Sending tasks: now or later, one or many."""

# ruff: noqa: TC004  its structs are never decoded, so their annotations may stay names

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from functools import update_wrapper
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

import msgspec

from anybroker.definition import Definition, Step, check_text, check_timeout, task_name
from anybroker.errors import ConfigurationError
from anybroker.loading import unknown_name
from anybroker.retry import Retry, Seconds, seconds
from anybroker.task import MAX_NAME

if TYPE_CHECKING:
    from anybroker.app import App
    from anybroker.handle import Handle

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
R2 = TypeVar("R2")
S = TypeVar("S")


class SendOptions(TypedDict, total=False):
    """What ``.options(...)`` takes; each is for this message only."""

    delay: Seconds
    """Seconds or a timedelta from now. Not together with ``eta``."""
    eta: datetime
    """Aware; not before this moment."""
    queue: str
    priority: int
    """The higher number first."""
    retry: Retry
    """In place of the declared policy."""
    timeout: Seconds
    """Seconds for one run, in place of the declared limit."""
    expires: datetime | Seconds
    """Do not start after this moment, or after this long from now."""
    ordering_key: str
    """Tasks of a queue with the same key run one after the other, in the order in which they were sent."""
    headers: Mapping[str, str]
    """For the task to read (``current_context().headers``)."""
    id: str
    """In place of a generated one. While a task with this id is in the broker, sending it again adds nothing."""


class Signature(msgspec.Struct, Generic[R_co], frozen=True, eq=False, gc=False):
    """A call that is ready to be sent: its arguments are checked and encoded.

    Like handles there may be a million of them, so the garbage collector does not visit them.
    """

    app: App
    name: str
    definition: Definition | None
    """None for a task that lives in another program."""
    args: msgspec.Raw
    kwargs: msgspec.Raw
    settings: SendOptions | None = None

    def __repr__(self) -> str:
        """The task's name; arguments may be secret."""
        return f"<signature of {self.name}>"

    def options(self, **options: Unpack[SendOptions]) -> Signature[R_co]:
        """The same call with these options in addition."""
        return msgspec.structs.replace(self, settings=merge_options(self.settings, options))

    def send(self) -> Handle[R_co]:
        """Send it; see :meth:`Sender.send`."""
        handle: Handle[R_co] = self.app.send_many([self])[0]
        return handle

    async def send_async(self) -> Handle[R_co]:
        """The same without blocking the event loop."""
        from asyncio import to_thread  # a program that does not use asyncio need not load it

        return await to_thread(self.send)


class Sender(Generic[P, R]):
    """A task with the options with which it is sent."""

    def __init__(self, app: App, definition: Definition, options: SendOptions | None = None) -> None:
        self._app = app
        self.definition: Definition = definition
        self._options = options

    def __repr__(self) -> str:
        """The task's name."""
        return f"<task {self.definition.name}>"

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self.definition.name

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """The call as a value, to be sent later.

        Raises ``ArgumentsError`` when it does not fit the function's signature or types.
        """
        definition, app = self.definition, self._app
        raw_args, raw_kwargs = definition.parameters.encode(args, kwargs, app.codec.format)
        return Signature(app, definition.name, definition, raw_args, raw_kwargs, self._options)

    def send(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send the task; when this returns, the broker has it.

        Raises ``ArgumentsError`` for a wrong call, ``MessageTooLarge``, ``Unsupported`` for an option that the broker
        does not offer, and ``BrokerUnavailable``.
        """
        handle: Handle[R] = self._app.send_many([self.s(*args, **kwargs)])[0]
        return handle

    async def send_async(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """The same without blocking the event loop."""
        return await self.s(*args, **kwargs).send_async()

    def options(self, **options: Unpack[SendOptions]) -> Sender[P, R]:
        """The task with other options for one message: ``task.options(delay=60).send(...)``."""
        return Sender(self._app, self.definition, merge_options(self._options, options))


class TaskFunction(Sender[P, R]):
    """A declared task. Calling it runs the function here and now, as if it were not a task."""

    def __init__(self, app: App, definition: Definition) -> None:
        super().__init__(app, definition)
        self._function = definition.steps[0].function
        update_wrapper(self, self._function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, without a broker."""
        result: R = self._function(*args, **kwargs)
        return result


class AsyncTaskFunction(Sender[P, R]):
    """A declared task whose function is a coroutine function."""

    def __init__(self, app: App, definition: Definition) -> None:
        super().__init__(app, definition)
        self._function = definition.steps[0].function
        update_wrapper(self, self._function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The function's coroutine, to be awaited here, without a broker."""
        coroutine: Coroutine[Any, Any, R] = self._function(*args, **kwargs)
        return coroutine


class Job(Sender[P, R]):
    """A declared job. Made by :meth:`App.job <anybroker.app.App.job>`.

    A worker finds its steps by the job's name, so one name stands for one sequence of steps: a job that goes on with
    another step is only the beginning of a job and cannot be sent, and one that was sent cannot go on. Two jobs that
    begin alike have two names; a function may be a step of both.
    """

    def __init__(self, app: App, definition: Definition, retry: Retry | None, timeout: float | None) -> None:
        super().__init__(app, definition)
        self._retry = retry
        self._timeout = timeout
        self._used = False

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """As :meth:`Sender.s`. Raises ``ConfigurationError`` when the job goes on with another step."""
        self._use()
        return super().s(*args, **kwargs)

    def options(self, **options: Unpack[SendOptions]) -> Sender[P, R]:
        """As :meth:`Sender.options`. Raises ``ConfigurationError`` when the job goes on with another step."""
        self._use()
        return super().options(**options)

    def _use(self) -> None:
        steps = self._app.tasks[self.name].steps
        if len(steps) > len(self.definition.steps):
            message = f"job {self.name!r} has {len(steps)} steps, and this is its beginning; use what .step() returned"
            raise ConfigurationError(message)
        self._used = True

    @overload
    def step(
        self: Job[P, S],
        function: Callable[[S], Coroutine[Any, Any, R2]],
        *,
        retry: Retry | None = ...,
        timeout: Seconds | None = ...,
    ) -> Job[P, R2]: ...
    @overload
    def step(
        self: Job[P, S], function: Callable[[S], R2], *, retry: Retry | None = ..., timeout: Seconds | None = ...
    ) -> Job[P, R2]: ...
    def step(self, function: Callable[..., Any], *, retry: Retry | None = None, timeout: Seconds | None = None) -> Any:
        """The job with one more step: a function of what the step before it returned.

        ``retry`` and ``timeout`` (seconds for one run) are its own; by default the job's hold. Raises
        ``ConfigurationError`` for parameters that cannot travel, and when this job was sent or goes on otherwise.
        """
        steps = self.definition.steps
        if self._used:
            message = f"job {self.name!r} was sent already; declare all its steps first"
            raise ConfigurationError(message)
        name = f"{self.definition.name}, step {task_name(function)}" if steps else self.definition.name
        added: Step[..., Any] = Step(
            function,
            retry=retry or self._retry,
            timeout=self._timeout if timeout is None else timeout,
            name=name,
        )
        if steps:
            added.parameters.check_takes_one("what the step before it returned")
        longer = msgspec.structs.replace(self.definition, steps=(*steps, added))
        self._app.register(longer)
        return Job(self._app, longer, self._retry, self._timeout)


class NewJob:
    """A job that has no step yet."""

    def __init__(self, app: App, definition: Definition, retry: Retry | None, timeout: float | None) -> None:
        self._job: Job[..., Any] = Job(app, definition, retry, timeout)

    @overload
    def step(  # pyright: ignore[reportOverlappingOverload]  the first that fits wins
        self, function: Callable[P, Coroutine[Any, Any, R]], *, retry: Retry | None = ..., timeout: Seconds | None = ...
    ) -> Job[P, R]: ...
    @overload
    def step(
        self, function: Callable[P, R], *, retry: Retry | None = ..., timeout: Seconds | None = ...
    ) -> Job[P, R]: ...
    def step(self, function: Callable[..., Any], *, retry: Retry | None = None, timeout: Seconds | None = None) -> Any:
        """Add the first step, which gets the arguments that are sent; see :meth:`Job.step`."""
        return self._job.step(function, retry=retry, timeout=timeout)


LONGEST = 100 * 365 * 86_400.0

Hook = Callable[..., object] | Sender[..., Any]


def merge_options(before: SendOptions | None, added: SendOptions) -> SendOptions:
    """Options checked and joined; those added win. Raises ``ConfigurationError``."""
    _check_options(added)
    options: SendOptions = {**(before or {}), **added}
    if "eta" in added:
        options.pop("delay", None)  # of the two, delay would win
    return options


def _check_options(options: SendOptions) -> None:
    unknown = set(options) - set(SendOptions.__annotations__)
    if unknown:
        raise ConfigurationError(unknown_name("option", min(unknown), "of a task", SendOptions.__annotations__))
    _check_kinds(options)
    _check_times(options)
    if "retry" in options:
        options["retry"].spec()
    check_timeout(options.get("timeout"))
    if not 0 < len(options.get("id", "x")) <= MAX_NAME:
        raise ConfigurationError(f"an id has 1 to {MAX_NAME} characters")
    headers = options.get("headers") or {}
    if not all(isinstance(part, str) for pair in headers.items() for part in pair):
        raise ConfigurationError("headers are strings by name")
    for text in (options.get("id"), options.get("queue"), options.get("ordering_key"), *chain(*headers.items())):
        check_text(text or "")


def _check_times(options: SendOptions) -> None:
    if "eta" in options and "delay" in options:
        raise ConfigurationError("give delay or eta, not both")
    for name in ("eta", "expires"):
        value = options.get(name)
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ConfigurationError(f"{name}={value.isoformat()} has no time zone; use e.g. datetime.now(UTC)")
        if name == "eta" and name in options and not isinstance(value, datetime):
            raise ConfigurationError(f"eta={value!r} is no datetime; for a time from now use delay=")
    delay = options.get("delay", 0)
    if not 0 <= seconds(delay) <= LONGEST:
        raise ConfigurationError(f"delay={delay} is in the past, or more than a hundred years away")
    expires = options.get("expires")
    if expires is not None and not isinstance(expires, datetime) and abs(seconds(expires)) > LONGEST:
        raise ConfigurationError(f"expires={expires} is more than a hundred years away; leave it out for no limit")


_KINDS: dict[str, type] = {
    "priority": int,
    "id": str,
    "ordering_key": str,
    "queue": str,
    "headers": Mapping,
    "retry": Retry,
}


def _check_kinds(options: SendOptions) -> None:
    """For those who do not run a type checker."""
    for name, value in options.items():
        kind = _KINDS.get(name, object)
        if not isinstance(value, kind):
            raise ConfigurationError(f"{name}={value!r}: {kind.__name__} is expected")


def moment(value: datetime | Seconds, now: datetime) -> datetime:
    """A moment given as such, or as a time from now."""
    return value if isinstance(value, datetime) else now + timedelta(seconds=seconds(value))
