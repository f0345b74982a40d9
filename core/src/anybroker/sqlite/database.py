"""One file, as one process uses it: a connection behind a lock, short transactions, reopened when it must be."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker.sqlite import schema
from anybroker.sqlite.maintenance import take_bite
from anybroker.sqlite.statements import statement
from anybroker.sqlite.translation import UNTRANSLATED, is_busy, translated
from anybroker.sqlite.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

_NOW = statement("now")
_QUIET = 1.0
"""Seconds without a change after which there is time for maintenance."""
_MAINTENANCE_INTERVAL = 10.0
_BITE_INTERVAL = 0.05
"""Seconds from one bite of maintenance to the next, when there is nothing to do and when there is."""


class Database:
    """What all brokers and backends of this process that use one file share. Thread-safe.

    The connection is opened when it is first needed, and again when the file was deleted or replaced (law 13), after
    an error, and after a fork (law 12). Everything raises ``BrokerUnavailable`` when SQLite cannot do it now.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._retired = False
        self._file: schema.Identity | None = None
        self._log: schema.Identity | None = None
        self._seen_version: int | None = None
        self._synchronous = ""
        self._next_maintenance = 0.0
        self.lock = threading.RLock()
        self._access = _Access(self)
        self.watch = Watch(self._changed_by_others)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the file's write lock; commits at the end, or rolls back.

        When a ``durable`` one has ended, it and all before it survive a power cut.
        """
        with self.lock, self._access:
            connection = self._patiently(lambda: self._begin(durable=durable))
            yield connection
            connection.execute("COMMIT")

    def read(self, sql: str, parameters: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[Any]:
        """The rows of one query, read at one moment."""
        with self.lock, self._access:
            return self._patiently(lambda: self._connected().execute(sql, parameters).fetchall())

    def read_each(self, sql: str, values: Iterable[str]) -> list[Any]:
        """The first row, or None, of one query for each value."""
        with self.lock, self._access:
            return [self._read_one(sql, value) for value in values]

    def retire(self) -> None:
        """Close the connection for good; calls that are under way raise ``BrokerUnavailable``."""
        with self.lock:
            self._retired = True
            self.close()

    def close(self) -> None:
        """Close the connection. The next use opens it again."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def recover(self, error: BaseException) -> None:
        """Undo what an error has interrupted. After one of SQLite's the next call starts afresh."""
        if isinstance(error, sqlite3.Error) and not is_busy(error):
            self.close()
        elif self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def before_fork(self) -> None:
        """Let no thread be inside, and leave nothing open for the child to inherit.

        SQLite keeps track per process of the locks it holds on a file, so that a child which has inherited an open
        connection believes that it holds them too: not even a connection of its own would be safe.
        """
        self.lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Let the other threads in again."""
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Start with fresh locks: the threads that held the old ones do not exist here."""
        self.lock = threading.RLock()
        self.watch.reset()

    def _begin(self, *, durable: bool) -> sqlite3.Connection:
        connection = self._connected()
        synchronous = "FULL" if durable else "NORMAL"
        if synchronous != self._synchronous:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _read_one(self, sql: str, value: str) -> Any:
        return self._patiently(lambda: self._connected().execute(sql, (value,)).fetchone())

    def _connected(self) -> sqlite3.Connection:
        if self._retired:
            raise BrokerUnavailable(f"{self.path} was closed")
        if self._connection is not None and self._file != schema.identity(self.path):
            schema.remove_log(self.path, self._log)
            self.close()
        if self._connection is None:
            self._connection = schema.open_connection(self.path)
            self._file, self._log = schema.identity(self.path), schema.log_identity(self.path)
            self._seen_version = None
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

    def _changed_by_others(self) -> bool:
        """Whether another process has committed, or the file is another one, since the last time."""
        if self._retired:
            return True  # who waits looks again, and finds it closed
        with self.lock, self._access:
            try:
                version = _data_version(self._connected())
                changed = version != self._seen_version
                self._seen_version = version
                if not changed and time.monotonic() >= self._next_maintenance:
                    self._maintain_when_quiet()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                return False  # somebody is at work; what they do will be seen next time
        return changed

    def _maintain_when_quiet(self) -> None:
        quiet = self.watch.quiet()
        if quiet < _QUIET:
            self._next_maintenance = time.monotonic() + _QUIET - quiet
            return
        more = take_bite(self._connected())
        self._next_maintenance = time.monotonic() + (_BITE_INTERVAL if more else _MAINTENANCE_INTERVAL)


class _Access:
    """Around every use of a database, inside of its lock: nothing left half-done, and errors translated.

    The lock is taken by the ``with`` itself: one that is taken in Python, in an ``__enter__``, is taken for ever when
    an exception that comes from another thread, such as a task's time limit, arrives right behind it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._database.recover(error)
        if isinstance(error, UNTRANSLATED) and not isinstance(error, AnybrokerError):
            raise translated(error, self._database.path) from error


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that differs after every commit of another connection."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def now(connection: sqlite3.Connection) -> int:
    """Milliseconds since 1970 by SQLite's clock, the one that judges every ``eta``, lease and ttl."""
    return int(connection.execute(_NOW).fetchone()[0])
