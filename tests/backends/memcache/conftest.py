"""Ends the server when the tests are over."""

from __future__ import annotations

from tests.brokers.mongodb.servers import memcached


def pytest_sessionfinish() -> None:
    """Leave no server behind."""
    memcached.end()
