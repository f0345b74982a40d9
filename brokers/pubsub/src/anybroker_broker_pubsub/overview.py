"""What Pub/Sub tells of queues: which there are, not what they hold; and that it can forget what they hold."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError
from anybroker_broker_pubsub.clock import server_time
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


def clear(connection: Connection, names: Names, queue: str, *, create: bool) -> None:
    """Let a subscription begin with what is published from now on (``Seek`` to a time).

    By the service's clock; by ours where nothing may be created to read it.
    """
    now = datetime.now(UTC)
    if create:
        with suppress(AnybrokerError):
            now = server_time(connection, names)
    request = SeekRequest(subscription=names.subscription(names.of(queue)))
    request.time.FromDatetime(now)
    connection.call(SEEK, request)
