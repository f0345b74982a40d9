"""What a running task may know about itself."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anybroker.broker import Delivery
    from anybroker.task import Task, TaskErrorInfo

T = TypeVar("T")

_current: ContextVar[Context] = ContextVar("anybroker_context")


class Context:
    """One run of one task. Inside the task: ``ctx = current_context()``."""

    __slots__ = ("delivery", "interrupting", "lease_lost", "shielded", "task")

    def __init__(self, task: Task, delivery: Delivery) -> None:
        self.task: Task = task
        """The decoded message."""
        self.delivery: Delivery = delivery
        self.shielded: int = 0
        """Above 0 while the task is in a call that its time limit must not interrupt; see :func:`shielded`."""
        self.interrupting: bool = False
        """True while it is decided whether its time limit may interrupt it."""
        self.lease_lost: bool = False
        """True as soon as the worker learns that its lease ran out: another worker may be running the task too."""

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def name(self) -> str:
        """The task's registered name."""
        return self.task.task

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self.delivery.message.queue

    @property
    def attempt(self) -> int:
        """1 for the first run, one more with each retry."""
        return self.task.attempt

    @property
    def retries(self) -> int:
        """How often this step (or this task, where it has no steps) has been retried."""
        return self.task.retries

    @property
    def last_error(self) -> TaskErrorInfo | None:
        """Why the last attempt failed; None in the first."""
        return self.task.error

    @property
    def delivery_count(self) -> int | None:
        """Above 1 when a worker died while it held this message; None where the broker does not count."""
        count = self.delivery.delivery_count
        return None if count is None else count + self.task.crashes

    @property
    def headers(self) -> Mapping[str, str]:
        """What the sender gave as ``headers``."""
        return self.task.headers or {}

    @property
    def step(self) -> int:
        """Of a job: which step this is, 0 for the first."""
        return self.task.step


def shielded(call: Callable[[], T]) -> T:
    """Make a call that a time limit must not interrupt in the middle, such as one that takes locks.

    A time limit raises an exception between two instructions of a thread; between the taking of a lock and the ``try``
    that would release it, that would leave the lock taken for ever. The exception waits until the call returns.
    """
    context = _current.get(None)
    if context is None:
        return call()
    context.shielded += 1
    try:
        while context.interrupting:  # if the call came too late to be seen, the exception arrives here
            time.sleep(0.0005)
        return call()
    finally:
        context.shielded -= 1


def current_context() -> Context:
    """The context of the task that is running here. Raises ``LookupError`` outside of a task."""
    try:
        return _current.get()
    except LookupError:
        message = "current_context() is for use inside a running task"
        raise LookupError(message) from None
