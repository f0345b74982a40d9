"""Keeps the long part of the laws for the soak: RabbitMQ makes and deletes a queue for each result."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
LONG = frozenset(
    {
        "test_law01_durable__each_of_many",
        "test_law01_durable__the_server_restarts[TERM]",
        "test_law03_one_writer__every_state_after_every_other",
        "test_law03_one_writer__one_store_within_another",
        "test_law04_gone__hundreds_at_once",
        "test_law07_join__a_large_group",
        "test_law08_claim__a_token_fences_one_lock",
        "test_law08_claim__many_race_for_what_has_expired",
        "test_law08_claim__one_call_within_another",
        "test_law09_isolation__locks",
        "test_law10_concurrent__batches_of_many_threads",
        "test_law10_concurrent__forks_while_threads_work",
        "test_law11_reconnects__the_server_restarts[TERM]",
        "test_law12_bounded__threads_and_connections",
    }
)
"""Those that take the most time, of which a shorter one proves the same law."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the laws that take long to ``make soak``."""
    for item in items:
        if item.path == HERE / "test_laws.py" and item.name in LONG:
            item.add_marker(pytest.mark.soak)
