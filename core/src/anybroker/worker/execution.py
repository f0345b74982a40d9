"""One run of one task inside a worker, and what comes of it."""

# ruff: noqa: TC004  its structs are never decoded, so their annotations may stay names

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

    __slots__ = (
        "acquired_at",
        "definition",
        "extended_at",
        "finished",
        "format",
        "interrupted",
        "key",
        "running_stored",
        "started_at",
        "step_to_run",
        "timeout",
    )

    def __init__(
        self,
        task: Task,
        delivery: Delivery,
        definition: Definition,
        step: Step[..., object],
        format: Format,
        now: float,
    ) -> None:
        self.task = task
        self.delivery = delivery
        self.lease_lost = False
        self.shielded = 0
        self.interrupting = False
        self.definition = definition
        self.step_to_run = step
        self.timeout = task.timeout or step.timeout
        """Seconds that this run may take; None: no limit."""
        self.format: Format = format
        self.key = next(_keys)
        self.acquired_at = self.extended_at = now
        """When the delivery came, and when its lease was last asked for; seconds of ``time.monotonic``."""
        self.started_at = 0.0
        """When its function was called; seconds of ``time.monotonic``, 0 before."""
        self.running_stored = False
        self.finished = False
        """It has an outcome, which is settled soon."""
        self.interrupted = False
        """The exception that ends it at its time limit has been raised in its thread."""


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
    task: str = ""
    """Registered name; empty for a message that could not be decoded."""
    attempt: int = 1
    log: tuple[int, str] | None = None
    """Level and text, once it is settled."""

    @property
    def fails(self) -> bool:
        """The task has failed for good, and others see it before its message is settled."""
        final = self.result is not None and self.result.state.final
        return self.version is not None and (final or bool(self.successors))
