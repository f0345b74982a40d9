"""The application: its broker, its result backend, its tasks."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from os import getpid
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from anybroker.broker import MAX_QUEUE_NAME, Inspect, Message, Overview
from anybroker.clock import Clock, SystemClock
from anybroker.codec import Codec
from anybroker.context import shielded
from anybroker.definition import Definition, Place, Step, check_name, check_timeout, task_name
from anybroker.errors import ArgumentsError, ConfigurationError, MessageTooLarge, Unsupported
from anybroker.events import Enqueued, Event, Listeners
from anybroker.handle import Handle, Siblings, get_many
from anybroker.loading import load_backend, load_broker, redact
from anybroker.looking import Estimating, Looking
from anybroker.retry import Retry, Seconds, seconds
from anybroker.sending import (
    AsyncTaskFunction,
    Hook,
    NewJob,
    Sender,
    SendOptions,
    Signature,
    TaskFunction,
    merge_options,
    moment,
)
from anybroker.settings import load_settings
from anybroker.task import WIRE_VERSION, Task, new_id
from anybroker.validation import check_queue_name
from anybroker.values import encode_exactly

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime
    from typing import Unpack

    from anybroker.backend import ResultBackend
    from anybroker.broker import Broker
    from anybroker.settings import Settings
    from anybroker.testing import Testing
    from anybroker.waiter import Waiter
    from anybroker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Event)

Keep = bool | Seconds | Literal["forever"] | None
"""Whether and how long results are kept: False, True or None (as the app is configured), seconds, or for ever."""
Hooks = Hook | Sequence[Hook]

BODY_RESERVE = 1024
"""Bytes of a broker's ``max_body`` that a task leaves free for what retries and dead-lettering add to it."""


class TaskDecorator(Protocol):
    """What ``@app.task(...)`` returns: keeps the function's parameters and its result's type."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]  as App.task
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R]: ...


class App:
    """Tasks on a broker.

    ``App("redis://localhost/0")``; without a URL it is taken from the environment or a file (see
    :func:`~anybroker.settings.load_settings`), else ``sqlite:///anybroker.db``. Every other setting of
    :class:`~anybroker.settings.Settings` can be given by name. Nothing is connected before it is needed.

    Raises ``ConfigurationError`` for a URL that cannot work.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        results_url: str | None = None,
        broker: Broker | None = None,
        backend: ResultBackend | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        """``broker`` and ``backend`` take objects in place of URLs; the app closes them."""
        _check_object("broker", broker, 'App("...")')
        _check_object("backend", backend, 'App(results_url="...")')
        self.settings: Settings = load_settings(url=url, results_url=results_url, **settings)
        self.codec: Codec = Codec(self.settings.codec, self.settings.signing_keys)
        self.clock: Clock = clock or SystemClock()
        self.listeners: Listeners = Listeners()
        self.tasks: dict[str, Definition] = {}
        """Every declared task by name."""
        self.broker: Broker = broker or load_broker(self.settings.url)
        self.backend: ResultBackend | None = backend or self._load_backend(given=broker is not None)
        """None: results are off."""
        self._waiter: Waiter | None = None
        self._lock = threading.Lock()

    def _load_backend(self, *, given: bool) -> ResultBackend | None:
        """The configured backend; beside a broker that was given as an object, only one that was asked for."""
        if given and self.settings.results_url is None:
            return None
        url = self.settings.backend_url
        return None if url is None else load_backend(url)

    def __repr__(self) -> str:
        """The broker's URL, without its password."""
        return f"<App {redact(self.settings.url)}, {len(self.tasks)} tasks>"

    # declaring

    @overload
    def task(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]  the first that fits wins
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = ...,
        queue: str | None = ...,
        retry: Retry | None = ...,
        timeout: Seconds | None = ...,
        results: Keep = ...,
        on_success: Hooks = ...,
        on_failure: Hooks = ...,
    ) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        queue: str | None = None,
        retry: Retry | None = None,
        timeout: Seconds | None = None,
        results: Keep = None,
        on_success: Hooks = (),
        on_failure: Hooks = (),
    ) -> Any:
        """Declare a function as a task: ``@app.task`` or ``@app.task(retry=Retry(max=5), timeout=30)``.

        - ``name``: under which workers and other programs know it; ``module.function`` by default.
        - ``queue``: where it is sent; the app's ``default_queue`` by default.
        - ``retry``: when to try again after it raised; by default it is not, and goes to the dead-letter queue.
        - ``timeout``: seconds for one run. The task gets ``TaskTimeout`` raised in it.
        - ``results``: False, or how long they are kept in seconds, or ``"forever"``; by default ``results_ttl``.
        - ``on_success``, ``on_failure``: functions that the worker calls with the task's context and its result or
          exception; or tasks, which are sent, before this one is acknowledged, with its result or its
          :class:`~anybroker.task.Failure`.

        Raises ``ConfigurationError`` for a name that is taken or too long and for parameters whose types cannot
        travel.
        """

        def declare(function: Callable[..., Any]) -> Sender[..., Any]:
            declared_name = task_name(function) if name is None else name
            only_step: Step[..., Any] = Step(function, retry=retry, timeout=timeout, name=declared_name)
            definition = self._define(
                declared_name, (only_step,), only_step.place, queue, results, on_success, on_failure
            )
            self.register(definition)
            kind = AsyncTaskFunction if only_step.is_async else TaskFunction
            return kind(self, definition)

        return declare if function is None else declare(function)

    def job(
        self,
        name: str,
        /,
        *,
        queue: str | None = None,
        retry: Retry | None = None,
        timeout: Seconds | None = None,
        results: Keep = None,
        on_success: Hooks = (),
        on_failure: Hooks = (),
    ) -> NewJob:
        """Declare a job of several steps: ``app.job("thumbnail").step(fetch).step(resize).step(upload, timeout=30)``.

        The first step gets the arguments that are sent, every other one what the step before it returned; the last
        one's return is the job's result. After each step its return is stored in the broker, so that a crash or a
        retry goes on with the step that was interrupted and repeats no finished one.

        ``retry`` and ``timeout`` hold for every step that has none of its own; the other options are those of
        :meth:`task`. Raises ``ConfigurationError`` for a name that is taken or too long.
        """
        caller = sys._getframe(1)  # noqa: SLF001  a job has no function of its own to tell where it is declared
        place = (caller.f_code.co_filename, caller.f_lineno)
        definition = self._define(name, (), place, queue, results, on_success, on_failure)
        return NewJob(self, definition, retry, check_timeout(timeout))

    def register(self, definition: Definition) -> None:
        """Make a task known to the workers of this app. Raises ``ConfigurationError`` for a name that is taken."""
        known = self.tasks.get(definition.name)
        if known is not None and not known.agrees_with(definition):
            message = f"two tasks are named {definition.name!r}; give one of them another name"
            raise ConfigurationError(message)
        if known is None or len(known.steps) <= len(definition.steps):  # a job that is declared anew begins short
            self.tasks[definition.name] = definition

    def _define(
        self,
        name: str,
        steps: tuple[Step[..., Any], ...],
        place: Place,
        queue: str | None,
        results: Keep,
        on_success: Hooks,
        on_failure: Hooks,
    ) -> Definition:
        ttl = self.results_ttl
        if results == "forever":
            ttl = None
        elif results is not None and not isinstance(results, bool):
            ttl = seconds(results)
            if ttl <= 0:
                message = f"results={results!r}: give more than 0 seconds, or False to keep none"
                raise ConfigurationError(message)
        queue = check_queue_name(queue or self.settings.default_queue)
        if queue.endswith(self.settings.dead_queue_suffix):
            message = f"task {name}: {queue!r} is a dead-letter queue, which no worker consumes; choose another name"
            raise ConfigurationError(message)
        return Definition(
            name=check_name(name),
            queue=queue,
            steps=steps,
            place=place,
            keep_results=results is not False,
            results_ttl=ttl,
            on_success=_hooks(on_success, "the result"),
            on_failure=_hooks(on_failure, "the failure"),
        )

    # sending

    def send_many(self, signatures: Iterable[Signature[R]]) -> list[Handle[R]]:
        """Send many tasks in one call of the broker: ``app.send_many([add.s(i, i) for i in range(1000)])``.

        Raises as :meth:`Sender.send <anybroker.sending.Sender.send>` does, before anything is sent where the broker
        can.
        """
        now = self.clock.now()
        calls = list(signatures)
        messages = [self.message(call, now) for call in calls]
        shielded(partial(self.broker.enqueue, messages))
        self.tell_enqueued(messages)
        if len(messages) == 1:
            return [Handle(self, messages[0].id, messages[0].queue, calls[0].definition)]
        ids, most = [message.id for message in messages], Siblings.MOST
        together = [Siblings(ids[start : start + most]) for start in range(0, len(ids), most)]
        return [
            Handle(self, message.id, message.queue, call.definition, together[number // most], number % most)
            for number, (call, message) in enumerate(zip(calls, messages, strict=True))
        ]

    def tell_enqueued(self, messages: Sequence[Message]) -> None:
        """Tell the listeners that the broker has these messages."""
        if self.listeners.wants(Enqueued):
            for message in messages:
                self.listeners.emit(
                    Enqueued(id=message.id, task=self.codec.decode(message.body).task, queue=message.queue)
                )

    def send_by_name(
        self,
        name: str,
        /,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[SendOptions],
    ) -> Handle[Any]:
        """Send a task that lives in another program, by its registered name.

        Its arguments cannot be checked here unless the name is registered here too.
        """
        return self.signature(name, args, kwargs or {}, merge_options(None, options)).send()

    def signature(
        self, name: str, args: Sequence[object], kwargs: Mapping[str, object], options: SendOptions | None = None
    ) -> Signature[Any]:
        """A call by name that is ready to be sent. Raises ``ArgumentsError``, ``ConfigurationError`` for the name."""
        check_name(name)
        _check_arguments(name, args, kwargs)
        definition = self.tasks.get(name)
        if definition is not None:
            raw_args, raw_kwargs = definition.parameters.encode(args, kwargs, self.codec.format)
        else:
            try:
                raw_args = encode_exactly(list(args), self.codec.format)
                raw_kwargs = encode_exactly(dict(kwargs), self.codec.format)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                message = f"{name}(): an argument cannot travel: {error}"
                raise ArgumentsError(message) from error
        return Signature(self, name, definition, raw_args, raw_kwargs, options)

    def message(self, signature: Signature[Any], now: datetime, *, id: str | None = None) -> Message:
        """The message that a signature becomes. Raises ``MessageTooLarge``."""
        options = signature.settings
        id_ = id or new_id()
        definition = signature.definition
        queue = definition.queue if definition else self.settings.default_queue
        if options is None:
            task = Task(
                v=WIRE_VERSION, id=id_, task=signature.name, args=signature.args, kwargs=signature.kwargs, sent_at=now
            )
            message = Message(id_, queue, self.codec.encode(task))
        else:
            message = self._message_with(
                signature, options, id or options.get("id") or id_, options.get("queue", queue), now
            )
        room = self.broker.capabilities.max_body - BODY_RESERVE
        if len(message.body) > room:
            text = (
                f"{signature.name}(): {len(message.body):,} bytes of arguments, and this broker takes at most {room:,}"
            )
            raise MessageTooLarge(text)
        return message

    def _message_with(
        self, signature: Signature[Any], options: SendOptions, id_: str, queue: str, now: datetime
    ) -> Message:
        eta = options.get("eta")
        if "delay" in options:
            eta = now + timedelta(seconds=seconds(options["delay"]))
        headers = options.get("headers")
        task = Task(
            v=WIRE_VERSION,
            id=id_,
            task=signature.name,
            args=signature.args,
            kwargs=signature.kwargs,
            sent_at=now,
            expires=moment(options["expires"], now) if "expires" in options else None,
            timeout=seconds(options["timeout"]) if "timeout" in options else None,
            retry=options["retry"].spec() if "retry" in options else None,
            headers=dict(headers) if headers else None,
        )
        return Message(
            id_,
            check_queue_name(queue),
            self.codec.encode(task),
            eta,
            options.get("priority", 0),
            options.get("ordering_key"),
        )

    # results

    @property
    def results_ttl(self) -> float | None:
        """Seconds for which results are kept where a task says nothing else; None: for ever."""
        return None if self.settings.results_ttl is None else self.settings.results_ttl.total_seconds()

    def handle(self, id: str, *, task: str | None = None, queue: str | None = None) -> Handle[Any]:
        """The handle of a task that was sent before; with its ``task`` name, its result gets its type back."""
        definition = self.tasks.get(task) if task else None
        return Handle(self, id, queue or (definition.queue if definition else self.settings.default_queue), definition)

    def get_many(self, handles: Iterable[Handle[R]], *, timeout: Seconds | None = None) -> list[R]:
        """The results of many tasks, in the order of their handles: ``app.get_many(app.send_many([...]))``.

        Asks for many of them in one call of the result backend, also where they were not sent together. Waits at most
        ``timeout``, seconds or a timedelta (None: for ever), for all of them together. Raises what
        :meth:`Handle.get <anybroker.handle.Handle.get>` raises, of the first of them that failed.
        """
        return get_many(list(handles), timeout)

    def results(self) -> ResultBackend:
        """The result backend. Raises ``ConfigurationError`` when there is none."""
        if self.backend is None:
            message = (
                "a result was asked for, but no result backend is configured: "
                'give App(..., results_url="redis://localhost") or set ANYBROKER_RESULTS_URL'
            )
            raise ConfigurationError(message)
        return self.backend

    def waiter(self, backend: ResultBackend) -> Waiter:
        """What ``await handle`` waits with."""
        from anybroker.waiter import Waiter  # a program that does not use asyncio need not load it

        with self._lock:
            waiter = self._waiter
            if waiter is None or waiter.backend is not backend or waiter.process != getpid():
                waiter = self._waiter = Waiter(backend)
            return waiter

    # looking, listening, running

    def inspect(self) -> Inspect:
        """The broker as something that can be looked into. Raises ``Unsupported``."""
        if not self.broker.capabilities.inspect or not isinstance(self.broker, Inspect):
            message = "this broker cannot look into its queues"
            raise Unsupported(message)
        return Looking(self.broker)

    def overview(self) -> Overview:
        """The broker as something that tells of its queues. Raises ``Unsupported``."""
        if not self.broker.capabilities.overview or not isinstance(self.broker, Overview):
            message = "this broker does not tell what its queues hold"
            raise Unsupported(message)
        return Estimating(self.broker)

    def dead_queue(self, queue: str) -> str:
        """The name of the dead-letter queue of a queue: with the suffix, and shortened where that makes it too long."""
        suffix = self.settings.dead_queue_suffix
        if len(queue) + len(suffix) > MAX_QUEUE_NAME:
            from hashlib import sha256  # rarely needed, and slow to load

            suffix = f"~{sha256(queue.encode()).hexdigest()[:8]}{suffix}"
        return queue[: MAX_QUEUE_NAME - len(suffix)] + suffix

    @overload
    def on(self, event: type[E], listener: Callable[[E], object]) -> None: ...
    @overload
    def on(self, event: type[E]) -> Callable[[Callable[[E], object]], Callable[[E], object]]: ...
    def on(self, event: type[E], listener: Callable[[E], object] | None = None) -> Any:
        """Listen to an event of :mod:`anybroker.events`: ``app.on(Failed, notify)`` or ``@app.on(Failed)``.

        Raises ``ConfigurationError`` for what is no class of events, and for a listener that is no plain function.
        """
        given: object = event  # for those who do not run a type checker
        if not isinstance(given, type) or not issubclass(given, Event):
            message = f"app.on({given!r}): give a class of anybroker.events, as in @app.on(Failed)"
            raise ConfigurationError(message)

        def register(function: Callable[[E], object]) -> Callable[[E], object]:
            _check_plain(function, "listener", "no function", "give a plain one")
            self.listeners.add(event, function)
            return function

        if listener is None:
            return register
        register(listener)
        return None

    def worker(
        self, *, queues: str | Iterable[str] | None = None, concurrency: int | None = None, **options: Any
    ) -> Worker:
        """A worker inside this program: ``with app.worker(concurrency=4): ...``.

        Takes what :class:`~anybroker.worker.Worker` takes.
        """
        from anybroker.worker import Worker

        return Worker(self, queues=queues, concurrency=concurrency, **options)

    def testing(self) -> AbstractContextManager[Testing]:
        """Run the real pipeline in memory, without sleeping: ``with app.testing() as t: ...; t.run()``."""
        from anybroker.testing import testing

        return testing(self)

    def close(self) -> None:
        """Free the connections. Idempotent."""
        try:
            self.broker.close()
        finally:
            if self.backend is not None:
                self.backend.close()


def _check_object(argument: str, given: object, meant: str) -> None:
    """Other libraries take a URL here. Raises ``ConfigurationError``."""
    if isinstance(given, str):
        message = f"{argument}= takes an object; give a URL, such as {redact(given)}, as {meant}"
        raise ConfigurationError(message)


def _check_arguments(name: str, args: object, kwargs: object) -> None:
    """For those who do not run a type checker. Raises ``ArgumentsError``."""
    if not isinstance(args, Iterable) or isinstance(args, str | bytes | bytearray | Mapping):
        message = f"{name}(): its positional arguments are given as a list, and {args!r:.60} is none"
        raise ArgumentsError(message)
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        message = f"{name}(): its keyword arguments are given as a dict by name, and {kwargs!r:.60} is none"
        raise ArgumentsError(message)


def _hooks(hooks: Hooks, what: str) -> tuple[Hook, ...]:
    found = tuple(hooks) if isinstance(hooks, Sequence) else (hooks,)
    for hook in found:
        if isinstance(hook, Sender):
            hook.definition.parameters.check_takes_one(what)
        else:
            _check_plain(hook, "hook", "neither a function nor a task", "give a plain function, or make it a task")
            _check_takes_two(hook, f"the context and {what}")
    return found


def _check_takes_two(hook: Callable[..., object], what: str) -> None:
    """Raises ``ConfigurationError`` for a hook that could not be called, which would only be logged."""
    try:
        inspect.signature(hook).bind(None, None)
    except TypeError as error:
        message = f"hook {getattr(hook, '__qualname__', hook)} is called with {what}: {error}"
        raise ConfigurationError(message) from None
    except ValueError:  # of some that are written in C nobody knows
        return


def _check_plain(given: object, what: str, otherwise: str, instead: str) -> None:
    """For those who do not run a type checker. Raises ``ConfigurationError`` unless it can be called, not awaited."""
    if inspect.iscoroutinefunction(given):
        message = f"{what} {given.__name__} is a coroutine function; {instead}"
        raise ConfigurationError(message)
    if not callable(given):
        message = f"{what} {given!r} is {otherwise}"
        raise ConfigurationError(message)
