"""Sending tasks: now or later, one or many."""

# ruff: noqa: TC004  its structs are never decoded, so their annotations may stay names

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack

import msgspec

from anybroker.definition import Definition, check_timeout
from anybroker.errors import ConfigurationError
from anybroker.retry import Retry, Seconds, seconds

if TYPE_CHECKING:
    from anybroker.app import App
    from anybroker.handle import Handle

P = ParamSpec("P")
R = TypeVar("R")


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


class Signature(msgspec.Struct, Generic[R], frozen=True, eq=False, gc=False):
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

    def options(self, **options: Unpack[SendOptions]) -> Signature[R]:
        """The same call with these options in addition."""
        return msgspec.structs.replace(self, settings=merge_options(self.settings, options))

    def send(self) -> Handle[R]:
        """Send it; see :meth:`Sender.send`."""
        handle: Handle[R] = self.app.send_many([self])[0]
        return handle

    async def send_async(self) -> Handle[R]:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.send)


class Sender(Generic[P, R]):
    """A task with the options with which it is sent."""

    def __init__(self, app: App, definition: Definition, options: SendOptions | None = None) -> None:
        self._app = app
        self.definition = definition
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


Hook = Callable[..., object] | Sender[..., Any]


def merge_options(before: SendOptions | None, added: SendOptions) -> SendOptions:
    """Options checked and joined; those added win. Raises ``ConfigurationError``."""
    unknown = set(added) - set(SendOptions.__annotations__)
    if unknown:
        message = f"unknown option {sorted(unknown)[0]!r}; known: {', '.join(SendOptions.__annotations__)}"
        raise ConfigurationError(message)
    options: SendOptions = {**(before or {}), **added}
    if "eta" in added:
        if added["eta"].tzinfo is None:
            message = f"eta={added['eta'].isoformat()} has no time zone; use an aware datetime, e.g. datetime.now(UTC)"
            raise ConfigurationError(message)
        options.pop("delay", None)
    if "delay" in added:
        if "eta" in added:
            message = "give delay or eta, not both"
            raise ConfigurationError(message)
        if seconds(added["delay"]) < 0:
            message = f"delay={added['delay']} is in the past"
            raise ConfigurationError(message)
        options.pop("eta", None)
    if "retry" in added:
        added["retry"].spec()
    check_timeout(added.get("timeout"))
    expires = added.get("expires")
    if isinstance(expires, datetime) and expires.tzinfo is None:
        message = f"expires={expires.isoformat()} has no time zone; use an aware datetime"
        raise ConfigurationError(message)
    if not added.get("id", "x"):
        message = "id='' is no id"
        raise ConfigurationError(message)
    headers = added.get("headers")
    if headers is not None and not all(isinstance(x, str) for pair in headers.items() for x in pair):
        message = "headers are strings by name"
        raise ConfigurationError(message)
    return options


def moment(value: datetime | Seconds, now: datetime) -> datetime:
    """A moment given as such, or as a time from now."""
    return value if isinstance(value, datetime) else now + timedelta(seconds=seconds(value))
