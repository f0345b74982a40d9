"""Publishing and draining through Pub/Sub: the broker beside a bare loop of Google's own client, in turns.

``python benchmarks/run_pubsub.py "pubsub://project/?endpoint=127.0.0.1:8085"``: the same server, one thread, the same
sizes of batches. Prints messages a second of each, and their ratio, of the median of the rounds.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import grpc
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from anybroker.broker import Message
from anybroker.loading import load_broker
from anybroker_broker_pubsub.options import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = 2000
PUBLISHED = 1000
"""Messages of a publish request."""
PULLED = 100
"""Messages of a pull; the emulator gives no more."""
ROUNDS = 7
BODY = b"x" * 200
LEASE = 30.0


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

    def publish(self) -> None:
        for _ in range(MESSAGES // PUBLISHED):
            messages = [{"data": BODY, "attributes": {"id": str(number)}} for number in range(PUBLISHED)]
            self.publisher.api.publish(topic=self.topic, messages=messages)

    def drain(self) -> None:
        left = MESSAGES
        while left > 0:
            pulled = self.subscriber.pull(subscription=self.subscription, max_messages=PULLED).received_messages
            ack_ids = [one.ack_id for one in pulled]
            self.subscriber.acknowledge(subscription=self.subscription, ack_ids=ack_ids)
            left -= len(ack_ids)


class Ours:
    """The broker."""

    def __init__(self, url: str) -> None:
        self.broker = load_broker(url)
        self.queue = f"bench-{uuid.uuid4().hex}"
        self.broker.enqueue([Message("first", self.queue, b"")])
        self.broker.ack(self.broker.acquire([self.queue], limit=1, wait=5, lease=LEASE))

    def publish(self) -> None:
        for _ in range(MESSAGES // PUBLISHED):
            self.broker.enqueue([Message(str(number), self.queue, BODY) for number in range(PUBLISHED)])

    def drain(self) -> None:
        left = MESSAGES
        while left > 0:
            taken = self.broker.acquire([self.queue], limit=PULLED, wait=5, lease=LEASE)
            left -= sum(self.broker.ack(taken))


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(url: str) -> None:
    bare, ours = Bare(url), Ours(url)
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, side in (("bare", bare), ("anybroker", ours)):
            taken.setdefault(f"{name} publish", []).append(seconds(side.publish))
            taken.setdefault(f"{name} drain", []).append(seconds(side.drain))
    rate = {name: MESSAGES / statistics.median(times) for name, times in taken.items()}
    for what in ("publish", "drain"):
        mine, theirs = rate[f"anybroker {what}"], rate[f"bare {what}"]
        print(f"{what:8} bare {theirs:8.0f}/s  anybroker {mine:8.0f}/s  ratio {mine / theirs:.2f}")
    wakes = [_wake(ours, url, number) for number in range(20)]
    print(f"wake-up  p50 {statistics.median(wakes) * 1000:.0f} ms  worst {max(wakes) * 1000:.0f} ms")
    ours.broker.close()


def _wake(ours: Ours, url: str, number: int) -> float:
    """Seconds from the return of an enqueue by another object to that of an acquire that waited."""
    arrived: list[float] = []

    def wait() -> None:
        taken = ours.broker.acquire([ours.queue], limit=1, wait=10, lease=LEASE)
        arrived.append(time.perf_counter())
        ours.broker.ack(taken)

    other = load_broker(url)
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2 + 0.013 * number)
    other.enqueue([Message(f"wake{number}", ours.queue, b"")])
    sent = time.perf_counter()
    thread.join()
    other.close()
    return max(0.0, arrived[0] - sent)


if __name__ == "__main__":
    main(sys.argv[1])
