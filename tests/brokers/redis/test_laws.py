"""Every law of a broker, on a single Redis, behind Sentinel, and in a cluster."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.redis.live import LiveServer, LiveUrl

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestRedisBroker(BrokerConformance):
    url = LiveUrl("redis")
    server = LiveServer("redis")


class TestRedisSentinelBroker(BrokerConformance):
    """In the normal run with the laws that the way to the server matters to; with all of them in the soak."""

    url = LiveUrl("redis-sentinel")
    server = LiveServer("redis-sentinel")


class TestRedisClusterBroker(BrokerConformance):
    """As behind sentinels."""

    url = LiveUrl("redis-cluster")
    server = LiveServer("redis-cluster")
