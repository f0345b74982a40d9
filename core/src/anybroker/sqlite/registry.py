"""Which files this process has open, shared between brokers and backends, and closed around a fork (law 12)."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from anybroker.errors import ConfigurationError
from anybroker.sqlite.database import Database

_OLDEST = (3, 35)
"""The first SQLite that has ``RETURNING``."""

_lock = threading.Lock()
_shared: dict[tuple[Path, float], tuple[Database, int]] = {}


def borrow(path: str | os.PathLike[str], *, busy_timeout: float) -> Database:
    """The database at ``path``, to be given back once. Not opened yet.

    Raises ``ConfigurationError`` when the directory does not exist, when the path is one, and when SQLite is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise ConfigurationError(f"SQLite {'.'.join(map(str, _OLDEST))} is needed; Python has {sqlite3.sqlite_version}")
    key = (_resolved(path), busy_timeout)
    with _lock:
        database, users = _shared.get(key) or (Database(*key), 0)
        _shared[key] = (database, users + 1)
    return database


def give_back(database: Database) -> None:
    """End the use of a database; the last one to do so closes it."""
    key = (database.path, database.busy_timeout)
    with _lock:
        _, users = _shared.pop(key)
        if users > 1:
            _shared[key] = (database, users - 1)
    if users == 1:
        database.retire()


def _resolved(path: str | os.PathLike[str]) -> Path:
    resolved = Path(path).expanduser().resolve()
    if str(path) == ":memory:":
        raise ConfigurationError("a database in memory cannot be shared between processes; use memory:// instead")
    if resolved.is_dir():
        raise ConfigurationError(f"{resolved} is a directory; name a file in it, e.g. {resolved / 'anybroker.db'}")
    if not resolved.parent.is_dir():
        raise ConfigurationError(f"the directory {resolved.parent} does not exist; create it, or choose another file")
    return resolved


def _before_fork() -> None:
    _lock.acquire()
    for database, _ in _shared.values():
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database, _ in _shared.values():
        database.after_fork_in_parent()
    _lock.release()


def _after_fork_in_child() -> None:
    for database, _ in _shared.values():
        database.after_fork_in_child()
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
