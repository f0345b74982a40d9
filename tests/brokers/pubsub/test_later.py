"""What is not due, on a real server: a queue that takes nothing holds up no other."""

from __future__ import annotations

import secrets
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from anybroker.broker import Message
from anybroker_broker_pubsub import PubSubBroker
from tests.brokers.pubsub.server import pubsub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.broker import Delivery

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def publisher() -> Iterator[pubsub_v1.PublisherClient]:
    client = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=_channel()))
    yield client
    client.stop()


@pytest.fixture
def subscriber() -> Iterator[pubsub_v1.SubscriberClient]:
    with pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=_channel())) as client:
        yield client


def _channel() -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{pubsub.running.ports['grpc']}")


def test_a_message_whose_queue_cannot_be_had_holds_up_no_other_and_is_not_lost(
    publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    prefix = f"l{secrets.token_hex(4)}-"
    other, wrong = f"projects/anybroker/topics/{prefix}other", f"projects/anybroker/subscriptions/{prefix}wrong"
    publisher.create_topic(name=other)
    subscriber.create_subscription(name=wrong, topic=other)  # where that of the queue ought to be
    with closing(PubSubBroker.from_url(f"{pubsub.running.url}&prefix={prefix}")) as broker:
        due = datetime.now(UTC) + timedelta(seconds=2)
        broker.enqueue([Message("w", "wrong", b"", due), *(Message(str(i), "right", b"", due) for i in range(5))])
        assert {one.message.id for one in _taken(broker, "right", 5)} == set("01234")
        subscriber.delete_subscription(subscription=wrong)
        assert [one.message.id for one in _taken(broker, "wrong", 1)] == ["w"]


def test_what_pubsub_gave_up_before_it_was_due_waits_in_its_own_queue(
    publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    """Nobody could renew it beside what waits: where it belongs is Pub/Sub's to say."""
    prefix = f"l{secrets.token_hex(4)}-"
    queue, watch = f"projects/anybroker/topics/{prefix}mail", f"projects/anybroker/subscriptions/{prefix}watch"
    eta = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with closing(PubSubBroker.from_url(f"{pubsub.running.url}&prefix={prefix}")) as broker:
        assert broker.acquire(["mail"], limit=1, wait=0, lease=60) == []
        subscriber.create_subscription(name=watch, topic=queue)
        source = {"CloudPubSubDeadLetterSourceSubscription": f"{prefix}mail"}
        publisher.publish(f"projects/anybroker/topics/{prefix}~later", b"x", id="1", eta=eta, **source).result(60)
        [came] = subscriber.pull(subscription=watch, max_messages=1, timeout=60).received_messages
        assert (came.message.data, dict(came.message.attributes)) == (b"x", {"id": "1", "eta": eta})


def _taken(broker: PubSubBroker, queue: str, number: int) -> list[Delivery]:
    """So many messages of a queue."""
    taken: list[Delivery] = []
    end = datetime.now(UTC) + timedelta(seconds=60)
    while len(taken) < number:
        assert datetime.now(UTC) < end, f"only {taken}"
        taken += broker.acquire([queue], limit=number, wait=5, lease=60)
    return taken
