"""What time it is by the service, which tells it of a published message only."""

from __future__ import annotations

import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_broker_pubsub.connection import (
    CREATE_SUBSCRIPTION,
    CREATE_TOPIC,
    DELETE_SUBSCRIPTION,
    DELETE_TOPIC,
    PUBLISH,
    PULL,
    DeleteSubscriptionRequest,
    DeleteTopicRequest,
    PublishRequest,
    PubsubMessage,
    PullRequest,
    Subscription,
    Topic,
)
from anybroker_broker_pubsub.options import MIN_RETENTION

if TYPE_CHECKING:
    from anybroker_broker_pubsub.connection import Connection
    from anybroker_broker_pubsub.names import Names

TRIES = 3
"""Pulls that may bring nothing although something was published."""


def server_time(connection: Connection, names: Names) -> datetime:
    """The ``publish_time`` of a message in a topic that is there for it alone. Raises ``BrokerUnavailable``."""
    name = names.of(f"~clock {secrets.token_hex(8)}")
    topic, subscription = names.topic(name), names.subscription(name)
    try:
        connection.call(CREATE_TOPIC, Topic(name=topic))
        day = timedelta(days=1)  # one that nobody could delete is gone then
        wanted = Subscription(
            name=subscription, topic=topic, expiration_policy={"ttl": day}, message_retention_duration=MIN_RETENTION
        )
        connection.call(CREATE_SUBSCRIPTION, wanted)
        connection.call(PUBLISH, PublishRequest(topic=topic, messages=[PubsubMessage(data=b"now")]))
        for _ in range(TRIES):
            request = PullRequest(subscription=subscription, max_messages=1)
            for one in connection.call(PULL, request).received_messages:
                published: datetime = one.message.publish_time.ToDatetime(tzinfo=UTC)
                return published
        raise BrokerUnavailable(f"{topic}: what was published did not come back")
    finally:
        with suppress(AnybrokerError):
            connection.call(DELETE_SUBSCRIPTION, DeleteSubscriptionRequest(subscription=subscription))
        with suppress(AnybrokerError):
            connection.call(DELETE_TOPIC, DeleteTopicRequest(topic=topic))
