"""Looking into queues: the ``Inspect`` half of the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.broker import Stats
from anybroker.sqlite.database import now
from anybroker.sqlite.rows import to_message
from anybroker.sqlite.statements import statement

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from anybroker.broker import Message
    from anybroker.sqlite.database import Database

_QUEUES = statement("queues")
_STATS = statement("stats")
_PEEK = statement("peek")
_REMOVE = statement("remove")
_PURGE = statement("purge")
_NEWEST = statement("newest")
_UNBLOCK = statement("unblock")

PURGE_BITE = 5000
"""Messages removed per transaction: some tens of milliseconds in which nobody else can write."""


def unblock(connection: sqlite3.Connection, lines: Iterable[tuple[str, str]], moment: int) -> None:
    """Let the oldest message of each (queue, ordering key) be delivered, if it was behind one that has left."""
    for queue, ordering_key in lines:
        connection.execute(_UNBLOCK, {"queue": queue, "ordering_key": ordering_key, "now": moment})


class Inspection:
    """The verbs of :class:`~anybroker.broker.Inspect`."""

    _database: Database

    def queues(self) -> list[str]:
        """The names of the queues that hold messages, sorted."""
        return [name for (name,) in self._opened().read(_QUEUES)]

    def stats(self, queue: str) -> Stats:
        """Counts of one queue, exact; reads its indexes only."""
        ((ready, leased, delayed, oldest),) = self._opened().read(_STATS, {"queue": queue})
        return Stats(ready, leased, delayed, None if oldest is None else max(0, oldest) / 1000)

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """The first messages by priority and arrival, whatever their state."""
        rows = self._opened().read(_PEEK, {"queue": queue, "limit": max(0, limit)})
        return [to_message(id_, queue, body, eta, priority, key) for id_, priority, key, eta, body in rows]

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Remove messages that are not leased."""
        if not ids:
            return []
        with self._opened().transaction() as connection:
            moment = now(connection)
            removed = [
                connection.execute(_REMOVE, {"queue": queue, "id": id_, "now": moment}).fetchall() for id_ in ids
            ]
            unblock(connection, {(queue, key) for rows in removed for (key,) in rows if key is not None}, moment)
        self._database.watch.notify()
        return [bool(rows) for rows in removed]

    def purge(self, queue: str) -> int:
        """Remove every message that is not leased and was there when the call began."""
        ((newest,),) = self._opened().read(_NEWEST)
        there = self.stats(queue)
        purged, left = 0, there.ready + there.delayed
        while left and (bite := self._purge_bite(queue, newest, min(left, PURGE_BITE))):
            purged += bite
            left -= bite
        return purged

    def _purge_bite(self, queue: str, newest: int, limit: int) -> int:
        with self._database.transaction() as connection:
            moment = now(connection)
            rows = connection.execute(
                _PURGE, {"queue": queue, "now": moment, "newest": newest, "limit": limit}
            ).fetchall()
            unblock(connection, {(queue, key) for (key,) in rows if key is not None}, moment)
        self._database.watch.notify()
        return len(rows)

    def _opened(self) -> Database:
        raise NotImplementedError
