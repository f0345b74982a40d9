"""Opening the file: its settings, its tables, and whether it is ours."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anybroker.errors import ConfigurationError
from anybroker.sqlite.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1
"""``PRAGMA user_version`` of the files that this code reads and writes."""
APPLICATION_ID = 0x616E7962
"""``PRAGMA application_id`` of our files: "anyb"."""

_SETTINGS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 16777216;
PRAGMA cache_size = -16384;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
"""
_SCHEMA = statement("schema")


Identity = tuple[int, int]
"""Device and inode."""


def identity(path: Path) -> Identity | None:
    """What distinguishes the file at ``path`` from another one that may take its place; None when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (runs before every operation, and Path.stat costs twice as much)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def log_identity(path: Path) -> Identity | None:
    """The identity of the write-ahead log that belongs to the file at ``path``."""
    return identity(_companion(path, "-wal"))


def remove_log(path: Path, log: Identity | None) -> None:
    """Remove the write-ahead log of a file that was replaced, lest SQLite apply it to the one that took its place.

    ``log`` is its identity. The caller has it open still, so that no other file can be mistaken for it.
    """
    with _alone_in(path):
        if log is not None and log_identity(path) == log:
            _remove_companions(path)


def open_connection(path: Path) -> sqlite3.Connection:
    """Open the file, and create it with its tables where it does not exist.

    Raises ``ConfigurationError`` for a file that is not ours or of a later version, and what SQLite and the operating
    system raise.
    """
    if identity(path) is None:
        with _alone_in(path):
            if identity(path) is None:
                _remove_companions(path)
                return _connect(path)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _check_ownership(connection, path)
        for setting in _SETTINGS.strip().splitlines():
            connection.execute(setting).fetchall()
        if _version(connection) == 0:
            _create_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_ownership(connection: sqlite3.Connection, path: Path) -> None:
    # In this order: another process may create the tables in between, and marks them as ours in the same transaction.
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise ConfigurationError(f"{path} is the database of another program; choose a file of its own for anybroker")
    if tables and _version(connection) > VERSION:
        raise ConfigurationError(f"{path} was written by a later version of anybroker; upgrade this one to use it")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _create_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if _version(connection) == 0:  # nobody else was faster
        for table in _SCHEMA.split(";\n"):
            connection.execute(table)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


@contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """Hold a lock on the directory, so that of several processes one creates the file."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _remove_companions(path: Path) -> None:
    """Remove what belongs to a file that is gone. Other processes may use it still, and keep what they have open."""
    for suffix in ("-wal", "-shm"):
        _companion(path, suffix).unlink(missing_ok=True)


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
