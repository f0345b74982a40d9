"""The SQL of this package: one file per statement in ``sql/``, named for what it does."""

from __future__ import annotations

from importlib.resources import files

_SQL = files("anybroker.sqlite") / "sql"


def statement(name: str) -> str:
    """The text of ``sql/<name>.sql``."""
    return (_SQL / f"{name}.sql").read_text(encoding="utf-8")
