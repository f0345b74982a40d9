"""What the tests of the SQS broker share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.sqs.long_laws import FIFO, FIFO_TOO, LONG, MOTO, NOT_ON_MOTO, WHY_NOT_ON_MOTO

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to ``make soak`` the laws that take long, and those that are proven elsewhere in the same way."""
    for item in items:
        if item.path == HERE / "test_laws.py":
            of_fifo = "TestSqsFifoBroker" in item.nodeid
            alike = of_fifo and not any(law in item.name for law in FIFO)
            if (alike or item.name in LONG) and not (of_fifo and item.name in FIFO_TOO):
                item.add_marker(pytest.mark.soak)
        elif "TestSqsOnMoto" in item.nodeid:
            if item.name in LONG or item.name in NOT_ON_MOTO:
                item.add_marker(pytest.mark.skip(reason=WHY_NOT_ON_MOTO))
            if item.name in LONG or not any(law in item.name for law in MOTO):
                item.add_marker(pytest.mark.soak)
