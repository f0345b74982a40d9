"""One run of one task inside a worker, and what comes of it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import msgspec

from anybroker.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.backend import Result
    from anybroker.broker import Delivery, Message
    from anybroker.codec import Format
    from anybroker.definition import Definition, Step
    from anybroker.events import Event
    from anybroker.task import Task

_keys = count()


class Execution(Context):
    """A task that this worker holds: its context, and what the worker keeps in mind about it."""

    __slots__ = ("acquired_at", "definition", "extended_at", "format", "key", "running_stored", "started_at", "timed_out")

    def __init__(self, task: Task, delivery: Delivery, definition: Definition, format: Format, now: float) -> None:  # noqa: A002
        super().__init__(task, delivery)
        self.definition = definition
        self.format: Format = format
        self.key = next(_keys)
        self.acquired_at = now
        """When the delivery came; seconds of ``time.monotonic``."""
        self.extended_at = now
        """When the lease was last asked for; seconds of ``time.monotonic``."""
        self.started_at = 0.0
        """When its function was called; seconds of ``time.monotonic``, 0 before."""
        self.running_stored = False
        self.timed_out = False
        """The exception that ends it at its time limit has arrived."""

    @property
    def task(self) -> Task:
        """The decoded task."""
        return self._task

    @property
    def current_step(self) -> Step[..., object]:
        """The function to run now."""
        return self.definition.steps[self._task.step]

    @property
    def timeout(self) -> float | None:
        """Seconds that this run may take."""
        return self._task.timeout or self.current_step.timeout


class Outcome(msgspec.Struct, frozen=True):
    """What is to be done about one delivery, in this order: store, enqueue, settle, tell."""

    delivery: Delivery
    key: int | None = None
    """Of the execution that it ends; None for a delivery that was never run."""
    version: Message | None = None
    """What replaces the message; None: it is acknowledged."""
    result: Result | None = None
    ttl: float | None = None
    successors: tuple[Message, ...] = ()
    """What is to be in the broker before the message is settled."""
    events: tuple[Callable[[], Event], ...] = ()
    """Made only when somebody listens."""
    log: tuple[int, str] | None = None
    """Level and text, once it is settled."""
