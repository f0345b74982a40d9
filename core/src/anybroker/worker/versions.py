"""New versions of messages: what ``update`` puts in the place of the one that was delivered."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from anybroker.app import BODY_RESERVE
from anybroker.codec import encode_dead
from anybroker.errors import MessageTooLarge
from anybroker.task import WIRE_VERSION, DeadLetter

if TYPE_CHECKING:
    from datetime import datetime

    from anybroker.app import App
    from anybroker.broker import Delivery, Message
    from anybroker.task import Task, TaskErrorInfo


class Versions:
    """Makes new versions that are sure to fit into the broker."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._max_body = app.broker.capabilities.max_body

    def of(self, delivery: Delivery, task: Task, delay: float | None = None) -> Message:
        """The delivered message with another task in it, due after ``delay`` seconds (None: at once).

        Raises ``MessageTooLarge`` where it cannot be made to fit.
        """
        message, rewrite = delivery.message, self._app.codec.rewrite
        body = rewrite(message.body, task)
        if len(body) > self._max_body - BODY_RESERVE // 2 and task.error is not None:
            body = rewrite(message.body, msgspec.structs.replace(task, error=task.error.brief()))
        if len(body) > self._max_body:
            size = f"{len(body):,} bytes; the broker takes {self._max_body:,}"
            raise MessageTooLarge(f"the next version of task {task.id} has {size}")
        return msgspec.structs.replace(message, body=body, eta=self._eta(delay))

    def unchanged(self, delivery: Delivery, delay: float | None = None) -> Message:
        """The delivered message as it is, due after ``delay`` seconds (None: at once)."""
        message, eta = delivery.message, self._eta(delay)
        return message if message.eta == eta else msgspec.structs.replace(message, eta=eta)

    def _eta(self, delay: float | None) -> datetime | None:
        return None if delay is None else self._app.clock.now() + timedelta(seconds=delay)

    def dead(self, delivery: Delivery, reason: str, error: TaskErrorInfo, attempt: int | None) -> Message:
        """The delivered message as a dead letter. ``attempt`` is None where its body could not be read."""
        message = delivery.message
        letter = DeadLetter(
            v=WIRE_VERSION,
            reason=reason,
            queue=message.queue,
            died_at=self._app.clock.now(),
            error=error,
            attempt=attempt,
            ordering_key=message.ordering_key,
            priority=message.priority,
        )
        return msgspec.structs.replace(
            message,
            queue=self._app.dead_queue(message.queue),
            body=self._fitting(letter, error, message.body),
            eta=None,
            ordering_key=None,
            priority=0,
        )

    def _fitting(self, letter: DeadLetter, error: TaskErrorInfo, body: bytes) -> bytes:
        """A dead letter within the broker's limit: the traceback gives way first, then the end of the body."""
        dead = encode_dead(letter, body)
        if len(dead) > self._max_body:
            letter = msgspec.structs.replace(letter, error=error.brief())
            dead = encode_dead(letter, body)
        if len(dead) > self._max_body:
            letter = msgspec.structs.replace(letter, truncated_from=len(body))
            room = self._max_body - len(encode_dead(letter, b""))
            dead = encode_dead(letter, body[:room])
        return dead
