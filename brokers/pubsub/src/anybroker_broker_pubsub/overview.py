"""What Pub/Sub tells of queues: which there are, not what they hold; and that it can forget what they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anybroker_broker_pubsub.connection import LIST_TOPICS, SEEK, ListTopicsRequest, SeekRequest

if TYPE_CHECKING:
    from anybroker_broker_pubsub.connection import Connection
    from anybroker_broker_pubsub.names import Names

PAGE = 1000
"""Topics that one call lists; the most that Pub/Sub gives."""


def known_queues(connection: Connection, names: Names) -> list[str]:
    """The queues with our prefix."""
    request = ListTopicsRequest(project=names.project, page_size=PAGE)
    found: set[str] = set()
    while True:
        answer = connection.call(LIST_TOPICS, request)
        found.update(filter(None, (names.original(topic.name, topic.labels) for topic in answer.topics)))
        if not answer.next_page_token:
            return sorted(found)
        request.page_token = answer.next_page_token


def clear(connection: Connection, subscription: str) -> None:
    """Let a subscription begin with what is published from now on (``Seek`` to a time)."""
    request = SeekRequest(subscription=subscription)
    request.time.FromDatetime(datetime.now(UTC))
    connection.call(SEEK, request)
