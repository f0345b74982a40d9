"""What the tests of the SQS broker share."""

from __future__ import annotations

from tests.brokers.sqs.live import end_all


def pytest_sessionfinish() -> None:
    """Leave no server behind."""
    end_all()
