"""The one list of events: what happens to tasks and workers, for users, logs, metrics and traces.

``app.on(Failed, notify)`` or ``@app.on(Failed)``; listening to ``TaskEvent`` or ``Event`` is listening to all below it.
A listener runs in the thread in which the event happened; an exception in it is logged and changes nothing else.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("anybroker.events")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Anything that happens."""


class TaskEvent(Event, frozen=True, kw_only=True):
    """Something that happens to one task."""

    id: str
    task: str
    """Registered name; empty for a message that could not be decoded."""
    queue: str
    attempt: int = 1


class Enqueued(TaskEvent, frozen=True, kw_only=True):
    """The broker has stored the task; emitted where it was sent."""


class Acquired(TaskEvent, frozen=True, kw_only=True):
    """A worker holds the task's lease."""

    delivery_count: int | None


class Started(TaskEvent, frozen=True, kw_only=True):
    """The task's function is about to be called."""

    step: int = 0
    """Of a job: the step that begins, 0 for the first."""


class Succeeded(TaskEvent, frozen=True, kw_only=True):
    """The task returned; its result is stored and its message is acknowledged."""

    result: Any
    seconds: float


class StepFinished(TaskEvent, frozen=True, kw_only=True):
    """A step of a job returned and its state is in the broker."""

    step: int
    """0 for the first."""
    seconds: float


class Retried(TaskEvent, frozen=True, kw_only=True):
    """The task raised and will be tried again."""

    error: BaseException
    delay: float
    """Seconds until then."""


class Failed(TaskEvent, frozen=True, kw_only=True):
    """The task raised and will not be tried again; ``Dead`` follows."""

    error: BaseException


class Expired(TaskEvent, frozen=True, kw_only=True):
    """The task was not started in time and never will be."""


class Deferred(TaskEvent, frozen=True, kw_only=True):
    """Nobody here knows the task's name; it was put off."""

    delay: float


class Dead(TaskEvent, frozen=True, kw_only=True):
    """The message is in the dead-letter queue."""

    reason: str
    """As in :class:`~anybroker.task.DeadLetter`."""
    dead_queue: str


class LeaseWasLost(TaskEvent, frozen=True, kw_only=True):
    """Another worker may be running the task too; what this one does to the message changes nothing."""


class WorkerEvent(Event, frozen=True, kw_only=True):
    """Something that happens to a worker."""

    worker: str


class WorkerStarted(WorkerEvent, frozen=True, kw_only=True):
    """The worker begins to acquire."""


class WorkerStopped(WorkerEvent, frozen=True, kw_only=True):
    """The worker has given back what it held."""


class BrokerLost(WorkerEvent, frozen=True, kw_only=True):
    """The broker or the result backend cannot be reached; the worker goes on trying."""

    error: BaseException


class BrokerBack(WorkerEvent, frozen=True, kw_only=True):
    """It can be reached again."""


EventT = TypeVar("EventT", bound=Event)


class Listeners:
    """Who listens to what."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Any], object]]] = []
        self.any: bool = False
        """Whether anybody listens to anything."""

    def add(self, kind: type[EventT], listener: Callable[[EventT], object]) -> None:
        """Call ``listener`` with every event of ``kind`` and of its subclasses."""
        self._listeners = [*self._listeners, (kind, listener)]
        self.any = True

    def remove(self, listener: Callable[[Any], object]) -> None:
        """Do not call ``listener`` any more."""
        self._listeners = [(kind, heard) for kind, heard in self._listeners if heard != listener]
        self.any = bool(self._listeners)

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody would hear an event of this class: spares making it where nobody does."""
        return self.any and any(issubclass(kind, heard) for heard, _ in self._listeners)

    def emit(self, event: Event) -> None:
        """Tell everybody who listens."""
        for kind, listener in self._listeners:
            if isinstance(event, kind):
                try:
                    listener(event)
                except BaseException:  # also SystemExit: a listener decides nothing
                    _log.exception("a listener of %s raised", type(event).__name__)
