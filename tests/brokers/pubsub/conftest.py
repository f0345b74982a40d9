"""Ends the server when the tests are over, also in a process that has run none of them."""

from __future__ import annotations

from tests.brokers.pubsub.server import pubsub


def pytest_sessionfinish() -> None:
    pubsub.end()
