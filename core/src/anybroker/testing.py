"""The real pipeline in memory, without threads and without sleeping.

::

    with app.testing() as t:
        welcome.options(delay=timedelta(days=2)).send(42)
        t.assert_enqueued(welcome, 42)
        t.advance(timedelta(days=2))
        t.run()
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec

import msgspec

from anybroker.clock import ManualClock
from anybroker.errors import ArgumentsError, ResultTimeout
from anybroker.events import Event
from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker.worker.deadlines import Deadlines
from anybroker.worker.execution import Execution, Outcome
from anybroker.worker.pipeline import Pipeline
from anybroker.worker.runner import Runner
from anybroker.worker.settler import Settlement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from anybroker.app import App
    from anybroker.backend import Result
    from anybroker.broker import Message
    from anybroker.definition import Definition
    from anybroker.sending import Sender, Signature
    from anybroker.task import DeadLetter, Task

P = ParamSpec("P")

_BATCH = 100
_LEASE = 3600.0


class Testing:
    """An app whose tasks run when it is told to, at a time that stands still until it is moved."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, app: App) -> None:
        self.app = app
        self.clock: ManualClock = ManualClock()
        self.events: list[Event] = []
        """All that happened, in order."""
        self.broker: RecordingBroker = RecordingBroker(clock=self.clock)
        self.backend: MemoryBackend = _Backend(clock=self.clock)

    @property
    def now(self) -> datetime:
        """The time as the app sees it."""
        return self.clock.now()

    def advance(self, by: float | timedelta) -> None:
        """Move the time forward, by seconds or a timedelta. Nothing runs before :meth:`run`."""
        self.clock.advance(by)

    def run(self) -> int:
        """Run every task that is due now, and those that they send, until none is; returns how many runs there were."""
        runs = 0
        pipeline = Pipeline(self.app)
        runner = Runner(pipeline, self.app.listeners, Deadlines(_go_on))
        while queues := [
            name for name in self.broker.queues() if not name.endswith(self.app.settings.dead_queue_suffix)
        ]:
            deliveries = self.broker.acquire(queues, limit=_BATCH, wait=0, lease=_LEASE)
            if not deliveries:
                break
            for delivery in deliveries:
                admitted = pipeline.admit(delivery)
                if isinstance(admitted, Execution):
                    runs += pipeline.refusal(admitted) is None
                    admitted = _run(runner, admitted)
                Settlement(self.app, [admitted], lease=_LEASE).carry_out()
        return runs

    def run_until_idle(self) -> int:
        """Run everything that waits, moving the time to each task's moment; returns how many runs there were.

        A task that sends itself again never comes to an end here.
        """
        runs = self.run()
        while moments := [eta for message in self._waiting() if (eta := message.eta) is not None and eta > self.now]:
            self.clock.advance(min(moments) - self.now)
            runs += self.run()
        return runs

    def dead(self, queue: str | None = None) -> list[DeadLetter]:
        """The dead letters of a queue (the default one), the oldest first."""
        from anybroker.codec import decode_dead

        name = self.app.dead_queue(queue or self.app.settings.default_queue)
        return [decode_dead(message.body)[0] for message in self.broker.peek(name, limit=_MANY)]

    def assert_enqueued(self, task: Sender[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Fail unless the task has been sent with these arguments, whether it has run since or not."""
        wanted = task.s(*args, **kwargs)
        sent = [self.app.codec.decode(message.body) for message in self.broker.sent]
        same_name = [one for one in sent if one.task == task.name]
        if any(self._is_call(one, wanted, task.definition) for one in same_name):
            return
        found = ", ".join(self._shown(one) for one in same_name or sent) or "nothing"
        call = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        message = f"{task.name}({call}) was not sent; sent: {found}"
        raise AssertionError(message)

    def assert_not_enqueued(self, task: Sender[Any, Any]) -> None:
        """Fail if the task has been sent."""
        sent = [
            one
            for one in (self.app.codec.decode(message.body) for message in self.broker.sent)
            if one.task == task.name
        ]
        if sent:
            message = f"{task.name} was sent: {', '.join(self._shown(one) for one in sent)}"
            raise AssertionError(message)

    def _is_call(self, task: Task, call: Signature[Any], definition: Definition) -> bool:
        """Whether a sent task has the arguments of a call; those of dictionaries and sets have no order."""
        if (bytes(task.args), bytes(task.kwargs)) == (bytes(call.args), bytes(call.kwargs)):
            return True
        decode, format_ = definition.parameters.decode, self.app.codec.format
        try:
            sent = decode(task, format_)
        except ArgumentsError:  # one that was sent by its name need not fit
            return False
        return sent == decode(msgspec.structs.replace(task, args=call.args, kwargs=call.kwargs), format_)

    def _shown(self, task: Task) -> str:
        """A sent task as a call."""
        definition = self.app.tasks.get(task.task)
        if definition is not None:
            with suppress(ArgumentsError):  # one that was sent by its name need not fit
                args, kwargs = definition.parameters.decode(task, self.app.codec.format)
                call = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
                return f"{task.task}({call})"
        return f"{task.task}(...)"

    def _waiting(self) -> list[Message]:
        suffix = self.app.settings.dead_queue_suffix
        names = [name for name in self.broker.queues() if not name.endswith(suffix)]
        return [message for name in names for message in self.broker.peek(name, limit=_MANY)]


_MANY = 1_000_000


@contextmanager
def testing(app: App) -> Iterator[Testing]:
    """Put an app on a memory broker with a clock of its own for as long as the block lasts."""
    before = app.broker, app.backend, app.clock
    mode = Testing(app)
    app.broker, app.backend, app.clock = mode.broker, mode.backend, mode.clock
    app.listeners.add(Event, mode.events.append)
    try:
        yield mode
    finally:
        app.broker, app.backend, app.clock = before
        app.listeners.remove(mode.events.append)


class RecordingBroker(MemoryBroker):
    """Remembers what was sent."""

    def __init__(self, *, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.sent: list[Message] = []

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages, and remember them."""
        super().enqueue(messages)
        self.sent.extend(messages)


class _Backend(MemoryBackend):
    """Does not wait: here a result that is not there does not come by itself."""

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:  # noqa: ARG002
        found = super().wait(ids, timeout=0)
        if not found:
            message = (
                "no result yet: in testing mode tasks run when t.run() is called, and delays pass with t.advance()"
            )
            raise ResultTimeout(message)
        return found


def _run(runner: Runner, execution: Execution) -> Outcome:
    if not execution.step_to_run.is_async:
        return runner.conclude(execution, runner.run(execution))
    outcomes: list[Outcome] = []
    # a thread of its own, because the test may itself run in an event loop
    thread = threading.Thread(target=lambda: outcomes.append(runner.conclude(execution, runner.run(execution))))
    thread.start()
    thread.join()
    return outcomes[0]


def _go_on(_: Execution) -> None:
    """A task that ignores its time limit holds up its test, as it would without this library."""
