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
from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from anybroker.app import BODY_RESERVE
from anybroker.broker import Message
from anybroker.codec import decode_dead
from anybroker.context import shielded
from anybroker.errors import AnybrokerError, DecodeError
from anybroker.task import DeadLetter, Task
from anybroker.validation import check_messages

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
    """The first letters of a queue; what is no dead letter is left out.

    Where the broker cannot look into its queues, letters are leased and given back: meanwhile nobody else sees them.
    Raises ``BrokerUnavailable``.
    """
    if app.broker.capabilities.inspect:
        return _letters(app, app.inspect().peek(app.dead_queue(queue), limit=limit))
    found: builtins.list[Letter] = []
    with _Scan(app, queue, batch=limit) as scan:
        for deliveries in scan:
            found += _letters(app, [delivery.message for delivery in deliveries])
            if len(found) >= limit:
                break
    return found[:limit]


def find(app: App, queue: str, id: str) -> Letter | None:
    """The letter of this id, or None. Looks as :func:`list` does. Raises ``BrokerUnavailable``."""
    if app.broker.capabilities.inspect:
        total = app.inspect().stats(app.dead_queue(queue)).total
        letters = list(app, queue, limit=max(1, total))
        return next((letter for letter in letters if letter.id == id), None)
    with _Scan(app, queue) as scan:
        messages = (delivery.message for deliveries in scan for delivery in deliveries)
        return next((letter for message in messages if message.id == id for letter in _letters(app, [message])), None)


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
    wanted = None if ids is None else set(ids)
    went: dict[str, None] = {}
    with _Scan(app, queue) as scan:
        for deliveries in scan:
            changes = [
                (delivery, again)
                for delivery in deliveries
                # One that went and is here again has died again: for ever, if we put it back each time.
                if delivery.message.id not in went and (wanted is None or delivery.message.id in wanted)
                if (again := _revived(app, delivery.message)) is not None
            ]
            batch = scan.update(changes)
            went |= dict.fromkeys(batch)
            moved(len(batch))
            if wanted is not None and wanted <= went.keys():
                break
    return tuple(went)


def purge(app: App, queue: str, ids: Collection[str] | None = None) -> int:
    """Remove dead letters for good: those of ``ids``, or all; returns how many. Raises ``BrokerUnavailable``."""
    if app.broker.capabilities.inspect:
        dead_queue = app.dead_queue(queue)
        return app.inspect().purge(dead_queue) if ids is None else sum(app.inspect().remove(dead_queue, [*ids]))
    wanted = None if ids is None else set(ids)
    removed = 0
    with _Scan(app, queue) as scan:
        for deliveries in scan:
            removed += scan.ack([one for one in deliveries if wanted is None or one.message.id in wanted])
            if wanted is not None and removed >= len(wanted):
                break
    return removed


class _Scan:
    """Each message of a dead-letter queue under a lease, in batches.

    All are held until the end, for else the scan would meet them again; then those that were not settled are given
    back.
    """

    def __init__(self, app: App, queue: str, *, batch: int = _BATCH) -> None:
        self._broker = app.broker
        self._queue = app.dead_queue(queue)
        self._batch = min(batch, _BATCH)
        self._lease = min(_LEASE, self._broker.capabilities.max_lease)
        self._held: dict[object, Delivery] = {}
        self._extended_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        changes = [(held, msgspec.structs.replace(held.message, eta=None)) for held in self._held.values()]
        for start in range(0, len(changes), _BATCH):
            shielded(partial(self._broker.update, changes[start : start + _BATCH]))

    def __iter__(self) -> Iterator[Sequence[Delivery]]:
        acquire = partial(self._broker.acquire, [self._queue], limit=self._batch, wait=_WAIT, lease=self._lease)
        while deliveries := shielded(acquire):
            self._held |= {delivery.token: delivery for delivery in deliveries}
            yield deliveries
            if time.monotonic() - self._extended_at > self._lease / 3:
                self._extended_at = time.monotonic()
                shielded(partial(self._broker.extend, (*self._held.values(),), lease=self._lease))

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> Sequence[str]:
        """Settle with new versions; the ids of those that were still ours."""
        answers = shielded(partial(self._broker.update, changes))
        self._settled(delivery for delivery, _ in changes)
        return [delivery.message.id for (delivery, _), ours in zip(changes, answers, strict=True) if ours]

    def ack(self, deliveries: Sequence[Delivery]) -> int:
        """Remove for good; how many were still ours."""
        answers = shielded(partial(self._broker.ack, deliveries))
        self._settled(deliveries)
        return sum(answers)

    def _settled(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._held.pop(delivery.token, None)


def _letters(app: App, messages: Iterable[Message]) -> Sequence[Letter]:
    return [letter for message in messages if (letter := _read(app, message)) is not None]


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
