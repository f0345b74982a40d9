"""What all tests share."""

from __future__ import annotations

from tests.live import end_all


def pytest_sessionfinish() -> None:
    """Leave no server behind."""
    end_all()
