"""Looking into queues: the ``Inspect`` half of the broker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anybroker.broker import Stats
from anybroker_broker_mongodb import commands
from anybroker_broker_mongodb.documents import DELAYED, LEASED, READY, STATES, to_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Message
    from anybroker_broker_mongodb.connection import Connection

COLLECTION = "messages"


class Inspection:
    """The verbs of :class:`~anybroker.broker.Inspect`."""

    _connection: Connection

    def queues(self) -> list[str]:
        """The names of the queues that hold messages, sorted."""
        with self._connection.translated():
            return sorted(self._connection.elsewhere(COLLECTION).distinct("queue"))

    def stats(self, queue: str) -> Stats:
        """Counts of one queue, exact. The age of the oldest is so to the second: places in a line are no finer."""
        with self._connection.translated():
            groups = list(self._connection.elsewhere(COLLECTION).aggregate(commands.count(queue)))
        numbers = dict.fromkeys(STATES, 0)
        ages = []
        for group in groups:
            state = group["_id"]["state"]
            numbers[state] += group["number"]
            if state == READY:
                ages.append((group["now"] - _ready_since(group)).total_seconds())
        return Stats(numbers[READY], numbers[LEASED], numbers[DELAYED], max(0.0, *ages, 0.0) if ages else None)

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """The first messages by priority and arrival, whatever their state."""
        if limit <= 0:
            return []
        with self._connection.translated():
            found = self._connection.elsewhere(COLLECTION).find({"queue": queue, "state": {"$in": STATES}})
            return [to_message(one) for one in found.sort([("priority", -1), ("seq", 1)]).limit(limit)]

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Remove messages that are not leased."""
        free = commands.not_leased(queue)
        with self._connection.translated():
            messages = self._connection.collection(COLLECTION)
            return [messages.delete_one({"_id": id_, **free}).deleted_count == 1 for id_ in ids]

    def purge(self, queue: str) -> int:
        """Remove every message that is not leased."""
        with self._connection.translated():
            return self._connection.collection(COLLECTION).delete_many(commands.not_leased(queue)).deleted_count


def _ready_since(group: dict[str, Any]) -> datetime:
    """Of a group of ready messages: since the first of them has been there, or was due, whichever is later."""
    there = datetime.fromtimestamp(group["seq"].time, UTC)
    return there if group["due"] is None else max(there, group["due"])
