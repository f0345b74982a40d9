"""Ordering keys: what the laws do not ask, on a real server and on one that answers as it is told."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from anybroker.broker import Message
from anybroker.capabilities import Ordering
from anybroker.errors import BrokerUnavailable, ConfigurationError, Unsupported
from anybroker_broker_pubsub import PubSubBroker
from tests.brokers.pubsub.scripted import Scripted, accepting, bringing, failing
from tests.brokers.pubsub.server import pubsub, stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.broker import Delivery

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def prefix() -> str:
    return f"o{secrets.token_hex(4)}-"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with closing(Scripted()) as scripted:
        yield scripted


def _broker(prefix: str, options: str = "&ordering=yes") -> PubSubBroker:
    return PubSubBroker.from_url(f"{stand_in.running.url}&prefix={prefix}{options}")


def _scripted(server: Scripted) -> PubSubBroker:
    return PubSubBroker.from_url(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&ordering=yes")


def _take(broker: PubSubBroker, *queues: str, lease: float = 60) -> Delivery:
    """The next message of some queues."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for one in broker.acquire(queues, limit=1, wait=5, lease=lease):
            return one
    pytest.fail(f"nothing in {queues}")


def test_it_is_declared_where_it_is_asked_for() -> None:
    plain, ordered = (PubSubBroker.from_url(f"pubsub://p1/?ordering={ordering}") for ordering in ("no", "yes"))
    assert (plain.capabilities.ordering, ordered.capabilities.ordering) == (Ordering.NONE, Ordering.PER_KEY)
    assert (plain.capabilities.delivery_count, ordered.capabilities.delivery_count) == (True, False)


@pytest.mark.parametrize(("first", "then"), [("no", "yes"), ("yes", "no")])
def test_a_subscription_of_the_other_kind_is_refused_and_it_says_what_to_do(prefix: str, first: str, then: str) -> None:
    with (
        closing(_broker(prefix, f"&ordering={first}")) as other,
        closing(_broker(prefix, f"&ordering={then}")) as broker,
    ):
        other.enqueue([Message("1", "mail", b"")])
        with pytest.raises(ConfigurationError, match=r"mail has (no )?message ordering.*another prefix.*delete"):
            broker.enqueue([Message("2", "mail", b"")])
        with pytest.raises(ConfigurationError, match="message ordering"):
            broker.acquire(["mail"], limit=1, wait=0, lease=10)


def test_a_dead_letter_topic_is_refused_since_what_goes_there_leaves_its_order(prefix: str) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{stand_in.running.ports['grpc']}")
    publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    topic = f"projects/anybroker/topics/{prefix}mail"
    publisher.create_topic(name=topic)
    with closing(pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))) as subscriber:
        subscriber.create_subscription(
            request={
                "name": f"projects/anybroker/subscriptions/{prefix}mail",
                "topic": topic,
                "enable_message_ordering": True,
                "dead_letter_policy": {"dead_letter_topic": topic, "max_delivery_attempts": 5},
            }
        )
        with closing(_broker(prefix)) as broker, pytest.raises(ConfigurationError, match="clear-dead-letter-policy"):
            broker.enqueue([Message("1", "mail", b"", ordering_key="k")])


def test_googles_emulator_keeps_a_key_back_while_its_oldest_is_held_lost_or_delayed(prefix: str) -> None:
    """What it does not keep is in the README of the adapter."""
    url = f"{pubsub.running.url}&prefix={prefix}&ordering=yes"
    with closing(PubSubBroker.from_url(url)) as broker, closing(PubSubBroker.from_url(url)) as other:
        soon = datetime.now(UTC) + timedelta(seconds=3)
        broker.enqueue([Message(f"{key}{n}", "mail", b"", ordering_key=key) for n in range(3) for key in "ab"])
        broker.enqueue([Message(f"c{n}", "mail", b"", None if n else soon, ordering_key="c") for n in range(3)])
        lost = [_take(broker, "mail", lease=1) for _ in range(2)]
        assert sorted(one.message.id for one in lost) == ["a0", "b0"]
        taken: list[str] = []
        while len(taken) < 9:
            held = _take(other, "mail")
            taken.append(held.message.id)
            assert held.message.id[0] != "c" or datetime.now(UTC) >= soon
            assert other.ack([held]) == [True]
        for key in "abc":
            assert [id_ for id_ in taken if id_.startswith(key)] == [f"{key}{n}" for n in range(3)]


def test_what_is_given_back_unchanged_keeps_its_place(prefix: str) -> None:
    with closing(_broker(prefix)) as broker:
        broker.enqueue([Message(id_, "mail", b"", ordering_key="k") for id_ in "12"])
        for _ in range(2):
            held = _take(broker, "mail")
            assert held.message.id == "1"
            assert broker.update([(held, held.message)]) == [True]
        assert broker.ack([_take(broker, "mail")]) == [True]
        assert _take(broker, "mail").message.id == "2"


def test_what_busy_workers_hand_round_keeps_its_place(prefix: str) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(_broker(prefix, "&ordering=yes&wait=60s"))) for _ in range(3)]
        for worker in workers:
            end = time.monotonic() + 60
            while sorted(queue for queue, _ in worker._here()._pulls._left) != ["mail", "other"]:
                assert worker.acquire(["other", "mail"], limit=1, wait=1, lease=60) == []
                assert time.monotonic() < end
        workers[0].enqueue([Message(str(number), "other", b"") for number in range(len(workers))])
        for worker in workers:
            _take(worker, "other")
        workers[0].enqueue([Message(id_, "mail", b"", ordering_key="k") for id_ in "12"])
        for id_ in "12":
            held = _take(workers[0], "mail")
            assert held.message.id == id_
            assert workers[0].ack([held]) == [True]


def test_the_key_is_that_of_pubsub_so_that_other_programs_can_say_it(prefix: str) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{stand_in.running.ports['grpc']}")
    ordering = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel), publisher_options=ordering)
    topic = f"projects/anybroker/topics/{prefix}mail"
    with closing(_broker(prefix)) as broker:
        broker.enqueue([Message("1", "mail", b"ours", ordering_key="k")])
        for body, key in ((b"theirs", "k"), (b"free", "")):
            publisher.publish(topic, body, ordering_key=key).result(60)
        held = {one.message.body: one for one in (_take(broker, "mail"), _take(broker, "mail"))}
        assert {body: one.message.ordering_key for body, one in held.items()} == {b"ours": "k", b"free": None}
        assert broker.ack(list(held.values())) == [True, True]
        theirs = _take(broker, "mail").message
        assert (theirs.body, theirs.ordering_key) == (b"theirs", "k")


def test_a_delay_that_a_subscription_cannot_keep_is_refused(prefix: str) -> None:
    """A message with a key waits where it is, and is not renewed there: that would cost it its place."""
    with closing(_broker(prefix, "&ordering=yes&retention=10m")) as broker:
        now = datetime.now(UTC)
        far = Message("far", "mail", b"", now + timedelta(minutes=10), ordering_key="k")
        with pytest.raises(Unsupported, match="retention"):
            broker.enqueue([Message("1", "mail", b"", ordering_key="k"), far])
        broker.enqueue([Message("2", "mail", b"", now + timedelta(minutes=9), ordering_key="other")])
        broker.enqueue([Message("3", "mail", b"", ordering_key="k")])
        held = _take(broker, "mail")
        assert held.message.id == "3"
        with pytest.raises(Unsupported, match="retention"):
            broker.update([(held, Message("3", "mail", b"", now + timedelta(days=1), ordering_key="k"))])
        assert broker.ack([held]) == [True], "refused, and still held"


def test_a_key_that_is_too_long_is_refused(prefix: str) -> None:
    with closing(_broker(prefix)) as broker:
        broker.enqueue([Message("1", "mail", b"", ordering_key="é" * 512)])
        for key in ("é" * 512 + "x", "~" * 1024):
            with pytest.raises(ConfigurationError, match="1,024"):
                broker.enqueue([Message("2", "mail", b"", ordering_key=key)])


def test_a_request_has_one_key_and_begins_when_the_one_before_is_confirmed(server: Scripted) -> None:
    with closing(_scripted(server)) as broker:
        messages = [
            Message(f"{key}{n}", "q", b"", ordering_key=key or None) for n in range(1200) for key in ("a", "b", "")
        ]
        broker.enqueue(messages)
        asked = server.asked("Publish")
        found_keys = [(len(one.messages), *{each.ordering_key for each in one.messages}) for one in asked]
        assert sorted(found_keys) == sorted((size, key) for key in ("a", "b", "") for size in (200, 1000))
        for key in ("a", "b"):
            found = [each.attributes["id"] for one in asked for each in one.messages if each.ordering_key == key]
            assert found == [f"{key}{n}" for n in range(1200)]


def test_what_was_sent_after_a_request_that_failed_is_not_stored_before_it(server: Scripted) -> None:
    with closing(_scripted(server)) as broker:
        server.answer("Publish", failing(grpc.StatusCode.UNAVAILABLE, "try again"))
        with pytest.raises(BrokerUnavailable) as caught:
            broker.enqueue([Message(f"{n}", "q", b"", ordering_key="a") for n in range(1200)])
        assert caught.value.stored == frozenset()
        assert len(server.asked("Publish")) == 1


def test_what_was_given_back_by_an_update_that_raised_is_not_given_back_again(server: Scripted) -> None:
    with closing(_scripted(server)) as broker:
        held: list[Delivery] = []
        for queue in "qr":
            server.answer("Pull", bringing(queue, ordering_key="k"))
            held += broker.acquire([queue], limit=1, wait=1, lease=30)
        asked_before = len(server.asked("ModifyAckDeadline"))
        gone = failing(grpc.StatusCode.UNAVAILABLE, "gone")
        server.answer("ModifyAckDeadline", accepting, gone, gone)
        for _ in range(2):
            with pytest.raises(BrokerUnavailable):
                broker.update([(one, one.message) for one in held])
        assert broker.update([(one, one.message) for one in held]) == [True, True]
        asked = server.asked("ModifyAckDeadline")[asked_before:]
        assert [list(one.ack_ids) for one in asked] == [["q"], ["r"], ["r"], ["r"]]


def test_no_pull_is_for_more_than_one_message(server: Scripted) -> None:
    """Pub/Sub delivers several of one key in one pull, and none while one of a pull before is held."""
    with closing(_scripted(server)) as broker:
        server.answer("Pull", *(bringing(id_) for id_ in "123"))
        taken = broker.acquire(["q"], limit=3, wait=1, lease=30)
        taken += broker.acquire(["q"], limit=3, wait=0, lease=30)
        assert sorted(one.message.id for one in taken) == ["1", "2", "3"]
        assert {one.max_messages for one in server.asked("Pull")} == {1}
