"""What is done in small bites while nothing else happens: expired rows and unused pages leave the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.sqlite.statements import statement

if TYPE_CHECKING:
    import sqlite3

BITE = 256
"""Rows or pages per transaction: a few milliseconds."""
_SPARE_PAGES = 1024
"""Unused pages that may stay for later use: 4 MiB."""

_EXPIRED = statement("expired")
_PURGES = tuple(statement(f"purge_{table}") for table in ("results", "members", "groups", "claims"))


def purge_expired(connection: sqlite3.Connection, limit: int) -> None:
    """Remove up to ``limit`` expired results, groups and claims each, within the caller's transaction."""
    for purge in _PURGES:
        connection.execute(purge, {"limit": limit})


def take_bite(connection: sqlite3.Connection) -> bool:
    """Do a little of what there is to do, if anything; returns whether there was something."""
    expired = connection.execute(_EXPIRED).fetchone()[0]
    if expired:
        connection.execute("BEGIN IMMEDIATE")
        purge_expired(connection, BITE)
        connection.execute("COMMIT")
    wasteful = connection.execute("PRAGMA freelist_count").fetchone()[0] > _SPARE_PAGES
    if wasteful:
        connection.execute(f"PRAGMA incremental_vacuum({BITE})").fetchall()
    return bool(expired or wasteful)
