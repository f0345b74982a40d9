"""Dead letters: list them, put them back into their queues, remove them.

>>> from anybroker import App, dead_letters
>>> app = App("memory://")
>>> dead_letters.retry(app, "mail")
()

Queues are named as when the task was sent; the name of the dead-letter queue follows from it. What moves a letter is
an ``update`` under a lease: whoever is killed in the middle loses nothing, and tasks that die meanwhile wait for the
next time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from anybroker.app import BODY_RESERVE
from anybroker.broker import Message
from anybroker.codec import decode_dead
from anybroker.errors import AnybrokerError, DecodeError
from anybroker.task import DeadLetter, Task
from anybroker.validation import check_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from anybroker.app import App
    from anybroker.broker import Delivery

_BATCH = 100
_LEASE = 120.0
_WAIT = 0.2
"""Seconds for a service that answers "nothing" although there is something, as distributed ones do."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A message in a dead-letter queue."""

    id: str
    dead: DeadLetter
    task: Task | None
    """None where the body cannot be decoded here."""
    body: bytes
    """The message's own, as it died."""


def list(app: App, queue: str, *, limit: int = 100) -> Sequence[Letter]:  # noqa: A001  read as dead_letters.list
    """The first letters of a queue, without leasing them; what is no dead letter is left out.

    Raises ``Unsupported`` where the broker cannot look into its queues, and ``BrokerUnavailable``.
    """
    messages = app.inspect().peek(app.dead_queue(queue), limit=limit)
    return [letter for message in messages if (letter := _read(app, message)) is not None]


def retry(
    app: App,
    queue: str,
    ids: Collection[str] | None = None,
    *,
    moved: Callable[[int], None] = lambda count: None,  # noqa: ARG005  the default listens to nobody
) -> tuple[str, ...]:
    """Put dead letters back into the queues they came from: those of ``ids``, or all; returns the ids that went.

    Their count of retries starts anew; the attempt goes on counting, and an ``expires`` that has passed is dropped. A
    body that cannot be decoded here goes back byte for byte. One that was cut off stays where it is. ``moved`` is
    called with the number of each batch. Raises ``BrokerUnavailable``; what had been put back until then is.
    """
    broker, dead_queue = app.broker, app.dead_queue(queue)
    lease = min(_LEASE, broker.capabilities.max_lease)
    wanted = None if ids is None else set(ids)
    went: dict[str, None] = {}
    others = _Held(app, lease)
    try:
        while wanted is None or wanted - went.keys():
            deliveries = broker.acquire([dead_queue], limit=_BATCH, wait=_WAIT, lease=lease)
            if not deliveries:
                break
            changes = []
            for delivery in deliveries:
                id_ = delivery.message.id
                # One that went and is here again has died again: for ever, if we put it back each time.
                asked_for = id_ not in went and (wanted is None or id_ in wanted)
                again = _revived(app, delivery.message) if asked_for else None
                if again is None:
                    others.add(delivery)
                else:
                    changes.append((delivery, again))
            ours = broker.update(changes)
            batch = [delivery.message.id for (delivery, _), done in zip(changes, ours, strict=True) if done]
            went |= dict.fromkeys(batch)
            moved(len(batch))
            others.extend_if_needed()
    finally:
        others.give_back()
    return tuple(went)


def purge(app: App, queue: str, ids: Sequence[str] | None = None) -> int:
    """Remove dead letters for good: those of ``ids``, or all; returns how many.

    Raises ``Unsupported`` where the broker cannot look into its queues, and ``BrokerUnavailable``.
    """
    dead_queue = app.dead_queue(queue)
    if ids is None:
        return app.inspect().purge(dead_queue)
    return sum(app.inspect().remove(dead_queue, ids))


class _Held:
    """Letters that are not wanted: held until the end of the scan, for else the scan would meet them again."""

    def __init__(self, app: App, lease: float) -> None:
        self._broker = app.broker
        self._lease = lease
        self._deliveries: dict[object, Delivery] = {}
        self._extended_at = time.monotonic()

    def add(self, delivery: Delivery) -> None:
        self._deliveries[delivery.token] = delivery

    def extend_if_needed(self) -> None:
        if time.monotonic() - self._extended_at > self._lease / 3:
            self._extended_at = time.monotonic()
            self._broker.extend((*self._deliveries.values(),), lease=self._lease)

    def give_back(self) -> None:
        changes = [(held, msgspec.structs.replace(held.message, eta=None)) for held in self._deliveries.values()]
        for start in range(0, len(changes), _BATCH):
            self._broker.update(changes[start : start + _BATCH])


def _read(app: App, message: Message) -> Letter | None:
    try:
        dead, body = decode_dead(message.body)
    except DecodeError:
        return None
    try:
        task = app.codec.decode(body)
    except DecodeError:
        task = None
    return Letter(id=message.id, dead=dead, task=task, body=body)


def _revived(app: App, message: Message) -> Message | None:
    """The message that a letter was, ready for its queue; None for one that is none, not whole, or unfit."""
    letter = _read(app, message)
    if letter is None or letter.dead.truncated_from is not None:
        return None
    dead = letter.dead
    body = letter.body if letter.task is None else _rewritten(app, letter, letter.task, app.clock.now())
    revived = Message(message.id, dead.queue, body, None, dead.priority, dead.ordering_key)
    try:
        check_messages([revived], app.broker.capabilities)  # any program may have written the letter
    except AnybrokerError:
        return None
    return revived


def _rewritten(app: App, letter: Letter, task: Task, now: datetime) -> bytes:
    anew = msgspec.structs.replace(
        task,
        attempt=max(task.attempt, letter.dead.attempt or 0) + 1,
        retries=0,
        crashes=0,
        deferrals=0,
        expires=None if task.expires is not None and task.expires <= now else task.expires,
        error=letter.dead.error or task.error,
    )
    body = app.codec.rewrite(letter.body, anew)
    if len(body) > app.broker.capabilities.max_body - BODY_RESERVE:
        body = app.codec.rewrite(letter.body, msgspec.structs.replace(anew, error=None))
    return body
