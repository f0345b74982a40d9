"""Ordering keys: what the laws do not ask, on a real server and on one that answers as it is told."""

from __future__ import annotations

import itertools
import secrets
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from anybroker.broker import Message
from anybroker.capabilities import Ordering
from anybroker.errors import BrokerUnavailable, ConfigurationError, Unsupported
from anybroker_broker_pubsub import PubSubBroker
from anybroker_broker_pubsub.messages import ordered_count
from anybroker_broker_pubsub.session import ROUNDS
from anybroker_broker_pubsub.topology import MAX_ATTEMPTS
from tests.brokers.pubsub.scripted import Scripted, accepting, bringing, failing
from tests.brokers.pubsub.server import pubsub, stand_in
from tests.waiting import until

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


def _leave_a_pull(broker: PubSubBroker, queue: str) -> None:
    """Let a pull of a queue be on its way of which nobody takes what it brings."""
    until(lambda: broker.acquire(["other", queue], limit=1, wait=0.2, lease=60) == [] and _left(broker, queue))
    broker.enqueue([Message("busy", "other", b"")])
    _take(broker, "other")
    assert _left(broker, queue)


def _left(broker: PubSubBroker, queue: str) -> bool:
    return any(one == queue for one, _ in broker._here()._pulls._left)


def test_it_is_declared_where_it_is_asked_for() -> None:
    plain, ordered = (PubSubBroker.from_url(f"pubsub://p1/?ordering={ordering}") for ordering in ("no", "yes"))
    assert (plain.capabilities.ordering, ordered.capabilities.ordering) == (Ordering.NONE, Ordering.PER_KEY)
    assert (plain.capabilities.delivery_count, ordered.capabilities.delivery_count) == (True, True)


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


@pytest.mark.parametrize(("attempts", "problem"), [(0, "counts no deliveries"), (99, "--max-delivery-attempts 100")])
def test_a_subscription_that_does_not_count_or_gives_up_early_is_refused(
    prefix: str, attempts: int, problem: str
) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{stand_in.running.ports['grpc']}")
    publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    topic = f"projects/anybroker/topics/{prefix}mail"
    publisher.create_topic(name=topic)
    policy = {"dead_letter_policy": {"dead_letter_topic": topic, "max_delivery_attempts": attempts}} if attempts else {}
    with closing(pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))) as subscriber:
        subscriber.create_subscription(
            request={
                "name": f"projects/anybroker/subscriptions/{prefix}mail",
                "topic": topic,
                "enable_message_ordering": True,
                **policy,
            }
        )
        with closing(_broker(prefix)) as broker, pytest.raises(ConfigurationError, match=problem):
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
        until(lambda: any(worker._here()._pulls._kept for worker in workers))
        keeper = next(worker for worker in workers if worker._here()._pulls._kept)
        for id_ in "12":
            held = _take(keeper, "mail")
            assert held.message.id == id_
            assert (held.delivery_count or 0) <= ROUNDS + 1, "the workers that found it did not die of it"
            assert keeper.ack([held]) == [True]


def test_what_busy_workers_keep_is_held_anew_for_as_long_as_they_live(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker_broker_pubsub.session.ROUNDS", 0)
    monkeypatch.setattr("anybroker_broker_pubsub.session.KEPT", 2)
    monkeypatch.setattr("anybroker_broker_pubsub.pulls.RENEWED", 0.5)
    with closing(_broker(prefix, "&ordering=yes&wait=60s")) as busy, closing(_broker(prefix)) as other:
        _leave_a_pull(busy, "mail")
        busy.enqueue([Message("1", "mail", b"", ordering_key="k")])
        until(lambda: busy._here()._pulls._kept)
        assert other.acquire(["mail"], limit=1, wait=5, lease=60) == []
        busy.close()
        assert _take(other, "mail").message.id == "1"


def test_the_looks_at_a_delayed_message_are_no_deliveries(prefix: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    with closing(_broker(prefix)) as first, closing(_broker(prefix)) as second:
        first.enqueue([Message("1", "mail", b"", soon, ordering_key="k")])
        assert first.acquire(["mail"], limit=1, wait=0.5, lease=60) == []
        for count in (1, 2, 3):
            held = _take(second, "mail", lease=1)
            assert (held.message.id, held.delivery_count) == ("1", count)


def test_what_a_busy_worker_finds_before_it_is_due_is_not_counted(prefix: str) -> None:
    with closing(_broker(prefix, "&ordering=yes&wait=60s")) as busy, closing(_broker(prefix)) as other:
        _leave_a_pull(busy, "mail")
        soon = datetime.now(UTC) + timedelta(seconds=4)
        busy.enqueue([Message("1", "mail", b"", soon, ordering_key="k")])
        until(lambda: not busy._here()._pulls._left)
        assert _take(other, "mail").delivery_count == 1


@pytest.mark.parametrize(
    ("waited", "attempt", "count"),
    [(-1, 2, 2), (1, 1, 1), (1, 2, 1), (1, 4, 3), (600, 2, 1), (601, 3, 1), (601, 8, 6), (43_200, 73, 1)],
)
def test_of_the_attempts_those_are_subtracted_that_the_waiting_may_have_taken(
    waited: int, attempt: int, count: int
) -> None:
    published = datetime(2030, 1, 1, tzinfo=UTC)
    received = types.ReceivedMessage(
        message={
            "publish_time": published,
            "attributes": {"eta": (published + timedelta(seconds=waited)).isoformat()},
            "ordering_key": "k",
        },
        delivery_attempt=attempt,
    )
    assert ordered_count(types.ReceivedMessage.pb(received)) == count


def test_a_delayed_message_is_held_for_as_long_as_its_holder_lives(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each look would count, and Pub/Sub give it up after 100."""
    monkeypatch.setattr("anybroker_broker_pubsub.parking.RENEWED", 0.0)
    far = (datetime.now(UTC) + timedelta(days=20)).isoformat()
    early = types.ReceivedMessage.pb()(
        ack_id="a", message={"data": b"x", "attributes": {"id": "a", "eta": far}, "ordering_key": "k"}
    )
    with closing(_scripted(server)) as broker:
        server.answer("Pull", lambda *_: types.PullResponse.pb()(received_messages=[early]))
        assert broker.acquire(["q"], limit=1, wait=0.2, lease=30) == []
        until(lambda: len(server.asked("ModifyAckDeadline")) >= 3)
        assert {(*one.ack_ids, one.ack_deadline_seconds) for one in server.asked("ModifyAckDeadline")} == {("a", 600)}


@pytest.mark.parametrize("due", [["due"], []])
def test_an_acquire_ends_although_there_is_ever_more_that_is_not_due(server: Scripted, due: list[str]) -> None:
    """Else what it has taken would be lost by the time that it has looked at all of it."""
    numbers = itertools.count()

    def early(*_: object) -> object:
        message = {"data": b"x", "attributes": {"eta": "9999-12-31T00:00:00+00:00"}, "ordering_key": "k"}
        received = types.ReceivedMessage.pb()(ack_id=str(next(numbers)), message=message)
        return types.PullResponse.pb()(received_messages=[received])

    with closing(_scripted(server)) as broker:
        server.answer("Pull", *(bringing(id_, ordering_key="j") for id_ in due), *[early] * 100_000)
        began = time.monotonic()
        assert [one.message.id for one in broker.acquire(["q", "q"], limit=5, wait=0, lease=30)] == due
        assert time.monotonic() - began < 15


def test_what_pubsub_gives_up_comes_back_with_its_key(prefix: str) -> None:
    with closing(_broker(prefix)) as broker:
        message = Message("1", "mail", b"", ordering_key="k")
        broker.enqueue([message])
        for count in range(1, MAX_ATTEMPTS + 1):
            held = _take(broker, "mail")
            assert held.delivery_count == count
            assert broker.update([(held, held.message)]) == [True]
        again = _take(broker, "mail")
        assert (again.message, again.delivery_count) == (message, 1)


def test_that_pubsub_does_not_count_is_logged_once(server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    """So it is where its service account lacks the roles."""
    with closing(_scripted(server)) as broker:
        server.answer("Pull", *(bringing(id_, ordering_key="k") for id_ in "12"))
        for _ in range(2):
            [held] = broker.acquire(["q"], limit=1, wait=1, lease=30)
            assert held.delivery_count is None
    assert [one.message for one in caplog.records if "does not count the deliveries of anybroker-q" in one.message]
    assert caplog.text.count("does not count") == 1


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
