"""Publishing and draining through Pub/Sub: the broker beside a bare loop of Google's own client, in one thread."""

from __future__ import annotations

import sys
import uuid

import grpc
from beside import BODY, Ours, compare
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from anybroker_broker_pubsub.options import read_settings

MESSAGES = 2000
PULLED = 100
"""Messages of a publish request, and of a pull; the emulator gives no more."""


class Bare:
    """The loop that one would write without anybroker."""

    def __init__(self, url: str) -> None:
        settings = read_settings(url)
        channel = grpc.insecure_channel(settings.endpoint)
        self.publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        name = f"bare-{uuid.uuid4().hex}"
        self.topic = f"projects/{settings.project}/topics/{name}"
        self.subscription = f"projects/{settings.project}/subscriptions/{name}"
        self.publisher.create_topic(name=self.topic)
        self.subscriber.create_subscription(name=self.subscription, topic=self.topic, ack_deadline_seconds=30)

    def send(self) -> None:
        for _ in range(MESSAGES // PULLED):
            messages = [{"data": BODY, "attributes": {"id": str(number)}} for number in range(PULLED)]
            self.publisher.api.publish(topic=self.topic, messages=messages)

    def drain(self) -> None:
        left = MESSAGES
        while left > 0:
            pulled = self.subscriber.pull(subscription=self.subscription, max_messages=PULLED).received_messages
            ack_ids = [one.ack_id for one in pulled]
            self.subscriber.acknowledge(subscription=self.subscription, ack_ids=ack_ids)
            left -= len(ack_ids)


def main(url: str) -> None:
    compare(Ours(url, batch=PULLED), Bare(url), MESSAGES)


if __name__ == "__main__":
    main(sys.argv[1])
