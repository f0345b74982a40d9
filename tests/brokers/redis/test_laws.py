"""Every law of a broker, on a single Redis, behind Sentinel, and in a cluster."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.live import Url, service

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestRedisBroker(BrokerConformance):
    url = Url(service("redis"))
    server = service("redis")


class TestRedisSentinelBroker(BrokerConformance):
    """In the normal run with the laws that the way to the server matters to; with all of them in the soak."""

    url = Url(service("redis-sentinel"))
    server = service("redis-sentinel")


class TestRedisClusterBroker(BrokerConformance):
    """As behind sentinels."""

    url = Url(service("redis-cluster"))
    server = service("redis-cluster")
