"""Keeps the long part of the laws for the soak."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
LONG = frozenset(
    {
        "test_law01_durable__through_a_restart_of_the_server[stop]",
        "test_law08_eta__many_come_due_at_once",
        "test_law13_reconnects__the_server_is_restarted[TERM]",
        "test_law14_bounded__memory_of_the_process",
    }
)
"""Those that take the most time, of which a shorter one proves the same law."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the laws that take long to ``make soak``."""
    for item in items:
        if item.path == HERE / "test_laws.py" and item.name in LONG:
            item.add_marker(pytest.mark.soak)
