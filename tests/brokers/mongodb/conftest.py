"""Ends the servers when the tests are over."""

from __future__ import annotations

from tests.brokers.mongodb.servers import memcached, mongodb


def pytest_sessionfinish() -> None:
    """Leave no server behind."""
    mongodb.end()
    memcached.end()
