"""The real servers, as those of the broker's tests are."""

from __future__ import annotations

from tests.brokers.redis.conftest import (
    cluster,
    pytest_collection_modifyitems,
    redis,
    sentinel,
)

__all__ = ["cluster", "pytest_collection_modifyitems", "redis", "sentinel"]
