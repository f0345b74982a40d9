"""The embedded broker and result backend that live in one file, shared by every process of one machine.

Both may use the same file, and usually do: ``sqlite:///anybroker.db``.
"""

from __future__ import annotations

from anybroker.sqlite.backend import SqliteBackend
from anybroker.sqlite.broker import SqliteBroker

__all__ = ["SqliteBackend", "SqliteBroker"]
