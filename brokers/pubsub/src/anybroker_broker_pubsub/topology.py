"""The topics and subscriptions that queues need: created before the first message, or required.

A message that is published to a topic without a subscription is lost, so nothing is published before both are there.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from anybroker.errors import ConfigurationError
from anybroker_broker_pubsub.connection import (
    CALL_TIMEOUT,
    CREATE_SUBSCRIPTION,
    CREATE_TOPIC,
    GET_SUBSCRIPTION,
    GetSubscriptionRequest,
    Subscription,
    Topic,
)
from anybroker_broker_pubsub.errors import AlreadyThere
from anybroker_broker_pubsub.forks import gate
from anybroker_broker_pubsub.names import Names
from anybroker_broker_pubsub.options import DEFAULT_RETENTION, MIN_ACK_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from anybroker_broker_pubsub.connection import Connection
    from anybroker_broker_pubsub.options import Settings

EMULATOR_SETTLES = 0.1
"""Seconds after which an emulator has done with all that create a subscription at the same time.

Google's (0.8.20) tells each of them that it is the first one, and the last one's replaces the others', with what was
published to them. Processes that create it at once so wait before they publish; those of one process take turns.
"""
MAX_ATTEMPTS = 100
"""Deliveries after which Pub/Sub itself gives up; the highest there is. Core gives up long before."""


class Topology:
    """What is known to exist. Thread-safe: to make sure twice does no harm."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._options = settings.options
        self._retention = settings.retention
        self._settles = EMULATOR_SETTLES if settings.emulated else 0.0
        self.names = Names(settings.project, settings.options.prefix)
        self._deadlines: dict[str, int] = {}
        """Ack deadline of each subscription that is known to exist."""
        self._retentions: dict[str, timedelta] = {}

    def ensure(self, queue: str) -> str:
        """The name of a queue's topic and subscription, which exist afterwards if they may be created."""
        name = self.names.of(queue)
        if name not in self._deadlines and self._options.create:
            self.ensure_later()
            with self._turn():
                if name not in self._deadlines:
                    self._create(name, self.names.labels(queue), self._queue_fields())
        return name

    def ensure_later(self) -> str:
        """The name of the topic and the subscription of what is not due."""
        name = self.names.later
        if name not in self._deadlines and self._options.create:
            with self._turn():
                if name not in self._deadlines:
                    self._create(name, {}, {"ack_deadline_seconds": MIN_ACK_DEADLINE})
        return name

    def deadline(self, name: str) -> int:
        """Seconds for which a message that was pulled is held; 0 where that is not known."""
        return self._deadlines.get(name, 0)

    def retention(self, name: str) -> timedelta:
        """How long a message is kept; the least that is usual, until the service has told."""
        return self._retentions.get(name, DEFAULT_RETENTION)

    def forget(self) -> None:
        """Something is missing after all: make sure again."""
        self._deadlines.clear()

    def _queue_fields(self) -> dict[str, Any]:
        """Pub/Sub counts deliveries for subscriptions with a dead letter topic only.

        That is the topic of what is not due, from which everything returns to its queue: nothing ends there. But it
        returns to the end of its ordering key's line.
        """
        return {
            "ack_deadline_seconds": round(self._options.ack_deadline.total_seconds()),
            "enable_exactly_once_delivery": self._options.exactly_once,
            "enable_message_ordering": self._options.ordering,
            "dead_letter_policy": {
                "dead_letter_topic": self.names.topic(self.names.later),
                "max_delivery_attempts": MAX_ATTEMPTS,
            },
        }

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Create alone in this process; or beside another one, if a service that hangs keeps that one waiting."""
        alone = gate.creating.acquire(timeout=CALL_TIMEOUT)
        try:
            yield
        finally:
            if alone:
                gate.creating.release()

    def _create(self, name: str, labels: dict[str, str], fields: dict[str, Any]) -> None:
        """Make a topic and its subscription, unless they are there, and note how the subscription is."""
        with suppress(AlreadyThere):
            self._connection.call(CREATE_TOPIC, Topic(name=self.names.topic(name), labels=labels))
        wanted = Subscription(
            name=self.names.subscription(name),
            topic=self.names.topic(name),
            labels=labels,
            message_retention_duration=self._retention,
            expiration_policy={},  # never, however long nobody consumes
            **fields,
        )
        try:
            found = self._connection.call(CREATE_SUBSCRIPTION, wanted)
            time.sleep(self._settles)
        except AlreadyThere:
            request = GetSubscriptionRequest(subscription=wanted.name)
            found = self._connection.call(GET_SUBSCRIPTION, request)
            _check(found, wanted)
        self._retentions[name] = found.message_retention_duration.ToTimedelta() or DEFAULT_RETENTION
        self._deadlines[name] = found.ack_deadline_seconds or MIN_ACK_DEADLINE


def _check(found: Any, wanted: Any) -> None:
    """What exists must keep what is declared. Raises ``ConfigurationError``."""
    problem = None
    if found.topic != wanted.topic:
        problem = f"belongs to {found.topic}; delete it, or use another prefix"
    elif found.enable_exactly_once_delivery != wanted.enable_exactly_once_delivery:
        has = "has" if found.enable_exactly_once_delivery else "has no"
        problem = f"{has} exactly-once delivery, and the URL says otherwise (exactly_once)"
    elif found.enable_message_ordering != wanted.enable_message_ordering:
        has = "has" if found.enable_message_ordering else "has no"
        problem = (
            f"{has} message ordering, and the URL says otherwise (ordering). Pub/Sub cannot change that: use another "
            "prefix, or let workers empty the queue with the URL of before, then delete the subscription"
        )
    elif found.dead_letter_policy.dead_letter_topic == "" and wanted.dead_letter_policy.dead_letter_topic:
        problem = f"counts no deliveries; give it the dead letter topic {wanted.dead_letter_policy.dead_letter_topic}"
    elif found.enable_message_ordering and found.dead_letter_policy.max_delivery_attempts < MAX_ATTEMPTS:
        problem = (
            f"has message ordering, and gives messages up after {found.dead_letter_policy.max_delivery_attempts} "
            f"delivery attempts, by which they leave their order; allow {MAX_ATTEMPTS} "
            f"(gcloud pubsub subscriptions update --max-delivery-attempts {MAX_ATTEMPTS})"
        )
    if problem:
        raise ConfigurationError(f"{found.name} {problem}")
