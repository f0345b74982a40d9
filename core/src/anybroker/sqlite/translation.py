"""What SQLite reports, in the words of the contract. The one place where its exceptions are translated."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

UNTRANSLATED = (sqlite3.Error, OSError, UnicodeEncodeError)
"""What :func:`translated` takes."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_REASONS = {
    sqlite3.SQLITE_BUSY: "other processes kept it locked for the whole busy_timeout",
    sqlite3.SQLITE_LOCKED: "other processes kept it locked for the whole busy_timeout",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it cannot be written to; check the permissions of the file and of its directory",
    sqlite3.SQLITE_PERM: "it cannot be written to; check the permissions of the file and of its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its directory exists and may be written to",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop the workers and move it away, or recover it with "
    "`sqlite3 FILE .recover`",
}


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the same call may succeed as soon as another process has finished its transaction."""
    return primary_code(error) in _BUSY


def primary_code(error: sqlite3.Error) -> int:
    """The result code of SQLite without its extension; 0 where the Python module itself raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translated(error: sqlite3.Error | OSError | UnicodeEncodeError, path: Path) -> AnybrokerError:
    """The contract's error for what SQLite raised, or Python on the way to it."""
    if isinstance(error, UnicodeEncodeError):
        return ConfigurationError(f"ids, queues and keys are valid Unicode, and {error.object!r} is not")
    if isinstance(error, OSError):
        return BrokerUnavailable(f"{path}: {error.strerror}")
    if isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError):
        return ConfigurationError(f"a field is of a type that cannot be stored: {error}")
    code = primary_code(error)
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(f"{path} is not an SQLite database; choose another file, or move it away")
    return BrokerUnavailable(f"{path}: {_REASONS.get(code, error)}")
