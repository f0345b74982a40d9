"""Every law of a result backend, on a single Redis, behind Sentinel, and in a cluster."""

from __future__ import annotations

import pytest

from anybroker_conformance import BackendConformance
from tests.brokers.redis.live import LiveServer, LiveUrl

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestRedisBackend(BackendConformance):
    url = LiveUrl("redis")
    server = LiveServer("redis")


class TestRedisSentinelBackend(BackendConformance):
    """In the normal run with the laws that the way to the server matters to; with all of them in the soak."""

    url = LiveUrl("redis-sentinel")
    server = LiveServer("redis-sentinel")


class TestRedisClusterBackend(BackendConformance):
    """As behind sentinels."""

    url = LiveUrl("redis-cluster")
    server = LiveServer("redis-cluster")
