"""The real servers, for tests that take one as a fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.brokers.redis.live import end_all, live

if TYPE_CHECKING:
    from anybroker_conformance.services import Running


def pytest_sessionfinish() -> None:
    """Leave no server behind."""
    end_all()


@pytest.fixture(scope="session")
def redis() -> Running:
    """One Redis with its append-only file."""
    return live("redis")


@pytest.fixture(scope="session")
def cluster() -> Running:
    """Three masters with a replica each."""
    return live("redis-cluster")


@pytest.fixture(scope="session")
def sentinel() -> Running:
    """A master, its replica, and three sentinels."""
    return live("redis-sentinel")
