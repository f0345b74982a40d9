"""Publishing with confirms: nothing counts as stored before the server has said so."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pika import spec

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_broker_amqp.channel import Channel, Listener
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.translation import meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_broker_amqp.connection import Connection

_LOOK = 0.1
"""Seconds between two looks at whether the server makes progress."""


class Batch:
    """Messages that are published together, by their position."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.first = 0
        """The number that the server gives to the first of them."""
        self.reply: Reply[None] = Reply()
        self.error: AnybrokerError | None = None
        """Why not all of it is confirmed."""
        self.confirmed = 0
        """So many, from the first on, are confirmed for certain."""
        self.refused: list[int] = []
        """The server could not store them."""
        self.returned: set[tuple[str, str]] = set()
        """Routing key and id of those that go to no queue."""


class Publisher(Listener):
    """A channel on which every message is confirmed."""

    def __init__(self, connection: Connection) -> None:
        """Call it in the connection's thread."""
        self.connection = connection
        self._next = 1
        self._confirmed_to = 0
        self._confirmed_early: set[int] = set()
        self._batches: deque[Batch] = deque()
        self.channel = Channel(connection, self)
        self.channel.ask(spec.Confirm.Select())

    @property
    def broken(self) -> BaseException | None:
        """Why nothing can be published here any more."""
        return self.connection.ended or self.channel.closed

    # from any thread

    def publish(self, frames: Sequence[bytes], timeout: float) -> Batch:
        """Send messages as ``wire.encode`` writes them, and wait until each is confirmed, refused or returned.

        The batch has an error when the server blocks publishers, or makes no progress, for ``timeout`` seconds.
        """
        batch = Batch(len(frames))
        try:
            self.connection.until_unblocked(timeout)
            data = b"".join(frames)
            self.connection.call(lambda: self._send(batch, data))
            self._await(batch, timeout)
            batch.confirmed = batch.size
        except AnybrokerError as error:
            batch.error = error
            if batch.first:
                batch.confirmed = max(0, min(batch.size, self._confirmed_to - batch.first + 1))
        return batch

    def _await(self, batch: Batch, timeout: float) -> None:
        seen, since = -1, time.monotonic()
        while not batch.reply.wait(min(timeout, _LOOK)):
            if self._confirmed_to != seen:
                seen, since = self._confirmed_to, time.monotonic()
            if self.connection.ended is not None and not batch.reply.wait(_LOOK):
                raise meaning(self.connection.ended, self.connection.where)
            if time.monotonic() - since > timeout:
                raise self._stuck(timeout)
        batch.reply.result()

    def _stuck(self, timeout: float) -> BrokerUnavailable:
        connection = self.connection
        if connection.blocked is not None:
            return BrokerUnavailable(f"{connection.where} takes no messages, for {timeout:g} s: {connection.blocked}")
        connection.abort(f"no confirm within {timeout:g} s")
        return BrokerUnavailable(f"{connection.where}: no confirm within {timeout:g} s")

    # in the connection's thread

    def _send(self, batch: Batch, data: bytes) -> None:
        if self.channel.closed is not None:
            batch.reply.fail(meaning(self.channel.closed, self.connection.where))
            return
        batch.first = self._next
        self._next += batch.size
        self._batches.append(batch)
        self.connection.send(data)

    def on_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None:
        """Confirms come in nearly any order."""
        if not stored:
            self._refuse(self._confirmed_to + 1 if multiple else tag, tag)
        if multiple:
            self._confirmed_to = max(self._confirmed_to, tag)
        elif tag == self._confirmed_to + 1:
            self._confirmed_to = tag
        else:
            self._confirmed_early.add(tag)
        if self._confirmed_early:
            while self._confirmed_to + 1 in self._confirmed_early:
                self._confirmed_to += 1
                self._confirmed_early.discard(self._confirmed_to)
            if multiple:
                self._confirmed_early = {one for one in self._confirmed_early if one > self._confirmed_to}
        batches = self._batches
        while batches and batches[0].first + batches[0].size - 1 <= self._confirmed_to:
            batches.popleft().reply.set(None)

    def on_return(self, properties: Any, routing_key: str) -> None:
        """It is confirmed next, as if it were stored."""
        id_ = (properties.headers or {}).get("id", properties.message_id)
        for batch in self._batches:
            batch.returned.add((routing_key, id_))

    def on_end(self, error: BaseException) -> None:
        """What is not confirmed may be stored, or not."""
        batches, self._batches = self._batches, deque()
        for batch in batches:
            batch.reply.fail(meaning(error, self.connection.where))

    def _refuse(self, first: int, last: int) -> None:
        for batch in self._batches:
            for number in range(max(first, batch.first), min(last, batch.first + batch.size - 1) + 1):
                if number not in self._confirmed_early:
                    batch.refused.append(number - batch.first)
