"""One file, as one process uses it: a connection behind a lock, short transactions, reopened when it must be."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from anybroker.sqlite import schema
from anybroker.sqlite.maintenance import take_bite
from anybroker.sqlite.statements import statement
from anybroker.sqlite.translation import is_busy, translating
from anybroker.sqlite.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

_NOW = statement("now")
_QUIET_BEFORE_MAINTENANCE = 1.0
_MAINTENANCE_INTERVAL = 10.0
_MAINTENANCE_BITE_INTERVAL = 0.05


class Database:
    """What all brokers and backends of this process that use one file share. Thread-safe.

    The connection is opened when it is first needed, and again when the file was deleted or replaced (law 13), after
    an error, and after a fork (law 12). Everything raises ``BrokerUnavailable`` when SQLite cannot do it now.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._data_version = 0
        self._synchronous = ""
        self._next_maintenance = 0.0
        self._lock = threading.RLock()
        self.watch = Watch(self._changed_by_others)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the file's write lock; commits at the end, or rolls back.

        When a ``durable`` one has ended, it and all before it survive a power cut.
        """
        with self._lock, translating(self.path), self._forgetting_on_error():
            connection = self._patiently(lambda: self._begin(durable=durable))
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def read(self, sql: str, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[Any]:
        """The rows of one query, read at one moment."""
        with self._lock, translating(self.path), self._forgetting_on_error():
            return self._patiently(lambda: self._connected().execute(sql, parameters).fetchall())

    def read_each(self, sql: str, values: Sequence[str]) -> list[Any]:
        """The first row, or None, of one query for each value."""
        with self._lock, translating(self.path), self._forgetting_on_error():
            return self._patiently(lambda: self._read_each(sql, values))

    def close(self) -> None:
        """Close the connection. The next use opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def before_fork(self) -> None:
        """Let no thread be inside, and leave nothing open for the child to inherit.

        SQLite keeps track per process of the locks it holds on a file, so that a child which has inherited an open
        connection believes that it holds them too: not even a connection of its own would be safe.
        """
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Let the other threads in again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start with fresh locks: the threads that held the old ones do not exist here."""
        self._lock = threading.RLock()
        self.watch.reset()

    def _begin(self, *, durable: bool) -> sqlite3.Connection:
        connection = self._connected()
        synchronous = "FULL" if durable else "NORMAL"
        if synchronous != self._synchronous:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _read_each(self, sql: str, values: Sequence[str]) -> list[Any]:
        execute = self._connected().execute
        return [execute(sql, (value,)).fetchone() for value in values]

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file != schema.identity(self.path):
            self.close()
        if self._connection is None:
            self._connection = schema.open_connection(self.path)
            self._file = schema.identity(self.path)
            self._data_version = self._read_data_version(self._connection)
            self._synchronous = ""
        return self._connection

    def _patiently(self, operation: Callable[[], T]) -> T:
        """Repeat what fails only because another process is writing, until ``busy_timeout`` has passed.

        SQLite's own busy handler sleeps for up to 100 ms; transactions here last less than one.
        """
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                return operation()
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(random.uniform(0.0005, 0.002))  # noqa: S311 (spreads the attempts of several processes)

    @contextmanager
    def _forgetting_on_error(self) -> Iterator[None]:
        """Start afresh with a new connection after an error."""
        try:
            yield
        except sqlite3.Error as error:
            if not is_busy(error):
                self.close()
            raise

    def _changed_by_others(self) -> bool:
        with self._lock, translating(self.path), self._forgetting_on_error():
            before = self._connection
            connection = self._patiently(self._connected)
            version = self._patiently(lambda: self._read_data_version(connection))
            changed = connection is not before or version != self._data_version
            self._data_version = version
        if not changed:
            self._maintain_when_quiet()
        return changed

    def _read_data_version(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def _maintain_when_quiet(self) -> None:
        now = time.monotonic()
        if now < self._next_maintenance or self.watch.quiet() < _QUIET_BEFORE_MAINTENANCE:
            return
        with self._lock, translating(self.path), self._forgetting_on_error():
            more = self._patiently(lambda: take_bite(self._connected()))
        self._next_maintenance = now + (_MAINTENANCE_BITE_INTERVAL if more else _MAINTENANCE_INTERVAL)


def now(connection: sqlite3.Connection) -> int:
    """Milliseconds since 1970 by SQLite's clock, the one that judges every ``eta``, lease and ttl."""
    return int(connection.execute(_NOW).fetchone()[0])
