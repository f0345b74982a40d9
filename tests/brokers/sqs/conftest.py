"""What the tests of the SQS broker share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.sqs.long_laws import FIFO, LONG

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the laws that take long to ``make soak``."""
    for item in items:
        if item.path == HERE / "test_laws.py":
            of_fifo = "TestSqsFifoBroker" in item.nodeid
            if item.name in LONG or (of_fifo and not any(law in item.name for law in FIFO)):
                item.add_marker(pytest.mark.soak)
