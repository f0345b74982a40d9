"""The services there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker_conformance.services.memcached import Memcached
from anybroker_conformance.services.mongodb import MongoDB
from anybroker_conformance.services.pubsub import PubSub
from anybroker_conformance.services.rabbitmq import RabbitMQ
from anybroker_conformance.services.redis import Redis
from anybroker_conformance.services.redis_cluster import RedisCluster
from anybroker_conformance.services.redis_sentinel import RedisSentinel
from anybroker_conformance.services.sqs import Sqs

if TYPE_CHECKING:
    from anybroker_conformance.services.service import Service

SERVICES: dict[str, Service] = {
    service.name: service
    for service in (Redis(), RedisCluster(), RedisSentinel(), RabbitMQ(), Sqs(), PubSub(), MongoDB(), Memcached())
}
