"""Ends the server when the tests are over, and keeps the long part of the laws for the soak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.brokers.pubsub.server import pubsub

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHERWISE = ("law05", "law07")
"""Laws whose form changes with exactly-once delivery; the others are proven with it by ``make soak``."""


def pytest_sessionfinish() -> None:
    """Leave no server behind, also in a process that has run no test."""
    pubsub.end()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if "::TestPubSubExactlyOnce::" in item.nodeid and not item.name.startswith(
            tuple(f"test_{law}" for law in OTHERWISE)
        ):
            item.add_marker(pytest.mark.soak)
