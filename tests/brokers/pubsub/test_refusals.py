"""What the service may answer instead of an answer: throttling, missing permissions, leases that are lost in parts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from google.pubsub_v1 import types

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_broker
from tests.brokers.pubsub.scripted import Scripted, bringing, failing, refusing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.broker import Broker, Delivery

Code = grpc.StatusCode
TRANSIENT = {
    Code.RESOURCE_EXHAUSTED: "Quota exceeded",
    Code.INTERNAL: "internal error",
    Code.UNAVAILABLE: "try again",
    Code.ABORTED: "aborted",
    Code.UNAUTHENTICATED: "the credentials are not accepted",
}


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


@pytest.fixture
def broker(server: Scripted) -> Iterator[Broker]:
    made = load_broker(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&exactly_once=yes")
    yield made
    made.close()


def take(server: Scripted, broker: Broker, *ack_ids: str) -> list[Delivery]:
    server.answer("Pull", bringing(*ack_ids))
    return broker.acquire(["q"], limit=10, wait=1, lease=30)


@pytest.mark.parametrize("code", TRANSIENT)
def test_what_may_pass_is_unavailability_and_says_why(server: Scripted, broker: Broker, code: grpc.StatusCode) -> None:
    server.answer("Publish", failing(code, TRANSIENT[code]))
    with pytest.raises(BrokerUnavailable, match=TRANSIENT[code]) as caught:
        broker.enqueue([Message("1", "q", b"")])
    assert caught.value.__cause__ is not None
    broker.enqueue([Message("1", "q", b"")])


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("Publish", "pubsub.topics.publish"),
        ("CreateTopic", "pubsub.topics.create"),
        ("CreateSubscription", "pubsub.subscriptions.create"),
    ],
)
def test_a_missing_permission_is_named(server: Scripted, broker: Broker, method: str, permission: str) -> None:
    server.answer(method, failing(Code.PERMISSION_DENIED, "not you"))
    with pytest.raises(BrokerUnavailable, match=permission):
        broker.enqueue([Message("1", "q", b"")])


def test_a_missing_permission_to_consume_is_named(server: Scripted, broker: Broker) -> None:
    server.answer("Pull", failing(Code.PERMISSION_DENIED, "not you"))
    with pytest.raises(BrokerUnavailable, match=r"pubsub\.subscriptions\.consume"):
        broker.acquire(["q"], limit=1, wait=0, lease=30)


def test_what_never_passes_is_a_mistake(server: Scripted, broker: Broker) -> None:
    server.answer("Publish", failing(Code.INVALID_ARGUMENT, "bad topic"))
    with pytest.raises(ConfigurationError, match="bad topic"):
        broker.enqueue([Message("1", "q", b"")])


def test_of_several_requests_those_that_were_stored_are_told(server: Scripted, broker: Broker) -> None:
    big = b"x" * 6_000_000
    server.answer("Publish", lambda *_: _published(), failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable) as caught:
        broker.enqueue([Message("1", "q", big), Message("2", "q", big)])
    assert len(caught.value.stored) == 1


def test_a_request_never_exceeds_the_limits(server: Scripted, broker: Broker) -> None:
    broker.enqueue([Message(str(number), "q", b"x" * 20_000) for number in range(1200)])
    requests = server.asked("Publish")
    assert sum(len(one.messages) for one in requests) == 1200
    assert all(len(one.messages) <= 1000 and one.ByteSize() <= 10_000_000 for one in requests)


def test_each_ack_of_a_batch_is_answered_for_itself(server: Scripted, broker: Broker) -> None:
    held = take(server, broker, "a", "b", "c", "d")
    transient, lost = "TRANSIENT_FAILURE_UNORDERED_ACK_ID", "PERMANENT_FAILURE_INVALID_ACK_ID"
    server.answer("Acknowledge", refusing({"b": lost, "c": transient, "d": transient}), refusing({"d": lost}))
    assert broker.ack(held) == [True, False, True, False]
    assert [list(one.ack_ids) for one in server.asked("Acknowledge")] == [["a", "b", "c", "d"], ["c", "d"]]


def test_one_ack_id_that_is_none_does_not_fail_the_others(server: Scripted, broker: Broker) -> None:
    held = take(server, broker, "a", "b", "c")

    def refuse(request: object, context: grpc.ServicerContext) -> object:
        if "b" in list(getattr(request, "ack_ids", ())):
            context.abort(Code.INVALID_ARGUMENT, "Invalid ack id")
        return _published()

    server.answer("Acknowledge", *[refuse] * 8)
    assert broker.ack(held) == [True, False, True]


def test_an_ack_that_is_refused_for_the_moment_again_and_again_may_be_repeated(
    server: Scripted, broker: Broker
) -> None:
    held = take(server, broker, "a")
    server.answer("Acknowledge", *[refusing({"a": "TRANSIENT_FAILURE_UNORDERED_ACK_ID"})] * 4)
    with pytest.raises(BrokerUnavailable):
        broker.ack(held)
    assert broker.ack(held) == [True]


def test_an_update_under_a_lost_lease_publishes_nothing(server: Scripted, broker: Broker) -> None:
    [held] = take(server, broker, "a")
    server.answer("ModifyAckDeadline", refusing({"a": "PERMANENT_FAILURE_INVALID_ACK_ID"}))
    assert broker.update([(held, held.message)]) == [False]
    assert server.asked("Publish") == []


def test_an_update_that_was_not_stored_keeps_the_lease(server: Scripted, broker: Broker) -> None:
    [held] = take(server, broker, "a")
    server.answer("Publish", failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable):
        broker.update([(held, held.message)])
    assert server.asked("Acknowledge") == []
    assert broker.update([(held, held.message)]) == [True]


def test_without_the_right_to_create_nothing_is_created(server: Scripted) -> None:
    broker = load_broker(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&create=no")
    broker.enqueue([Message("1", "q", b"")])
    server.answer("Pull", bringing("a"))
    assert broker.ack(broker.acquire(["q"], limit=1, wait=1, lease=30)) == [True]
    broker.close()
    used = {name for name, _ in server.requests}
    assert used == {"Publish", "Pull", "ModifyAckDeadline", "Acknowledge"}  # roles: publisher and subscriber


def test_a_queue_that_is_not_there_is_named(server: Scripted) -> None:
    broker = load_broker(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&create=no")
    server.answer("Publish", *[failing(Code.NOT_FOUND, "none")] * 2)
    with pytest.raises(BrokerUnavailable, match=r"topics/anybroker-q: it does not exist"):
        broker.enqueue([Message("1", "q", b"")])
    broker.close()


def test_a_subscription_that_breaks_what_is_declared_is_refused(server: Scripted, broker: Broker) -> None:
    server.answer("CreateSubscription", lambda request, _: request, failing(Code.ALREADY_EXISTS, "there"))
    server.answer("GetSubscription", lambda *_: _plain())
    with pytest.raises(ConfigurationError, match="exactly-once"):
        broker.enqueue([Message("1", "q", b"")])


def test_what_a_pull_finds_after_its_acquire_has_waited_is_for_the_next_one(server: Scripted) -> None:
    """A pull that ended with the wait would take a message along that is just being handed out."""
    published = threading.Event()

    def late(request: object, context: grpc.ServicerContext) -> object:
        assert published.wait(60)
        assert context.time_remaining() > 10, "it ends before the service has said that nothing is there"
        return bringing("a")(request, context)

    server.answer("Pull", late)
    broker = load_broker(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&wait=60s")
    broker.enqueue([Message("1", "q", b"")])
    assert broker.acquire(["q"], limit=1, wait=0.1, lease=30) == []
    published.set()
    [found] = broker.acquire(["q"], limit=1, wait=60, lease=30)
    assert found.message.id == "a"
    assert len(server.asked("Pull")) == 1
    broker.close()


def test_a_service_that_is_silent_for_long_is_asked_whether_it_is_there(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker_broker_pubsub.pulls.SILENCE", 0.0)
    server.answer("Pull", lambda _, context: silent.wait(60) and context.abort(Code.ABORTED, "late"))
    server.answer("Pull", failing(Code.UNAVAILABLE, "gone"))
    silent = threading.Event()
    broker = load_broker(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&wait=60s")
    with pytest.raises(BrokerUnavailable, match="gone"):
        broker.acquire(["q"], limit=1, wait=0.1, lease=30)
    silent.set()
    broker.close()


def _published() -> object:
    return types.PublishResponse.pb()()


def _plain() -> object:
    return types.Subscription.pb()(name="projects/p1/subscriptions/anybroker-q", topic="projects/p1/topics/anybroker-q")
