"""What the service may answer instead of an answer: throttling, missing permissions, leases that are lost in parts."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.pubsub_v1 import types

from anybroker.broker import Delivery, Message
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_broker
from anybroker_broker_pubsub import PubSubBroker
from anybroker_broker_pubsub.pulls import EARLY
from tests.brokers.pubsub.scripted import Scripted, accepting, bringing, failing, refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.broker import Broker

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
def broker(server: Scripted) -> Iterator[PubSubBroker]:
    made = _broker(server)
    yield made
    made.close()


def _broker(server: Scripted) -> PubSubBroker:
    return PubSubBroker.from_url(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}&exactly_once=yes")


def take(server: Scripted, broker: Broker, *ack_ids: str, queue: str = "q") -> list[Delivery]:
    server.answer("Pull", bringing(*ack_ids))
    return broker.acquire([queue], limit=10, wait=1, lease=30)


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


def test_an_id_of_which_a_copy_was_not_stored_is_not_told_as_stored(server: Scripted, broker: Broker) -> None:
    server.answer("Publish", lambda *_: _published(), failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable) as caught:
        broker.enqueue([Message("1", "q", b""), Message("1", "r", b"")])
    assert caught.value.stored == frozenset()


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


@pytest.mark.parametrize("owner", ["the same object", "another object"])
def test_a_repeated_update_does_not_publish_the_new_version_again(server: Scripted, broker: Broker, owner: str) -> None:
    [held] = take(server, broker, "a")
    new = Message("a", "q", b"new")
    settler = broker if owner == "the same object" else _broker(server)
    server.answer("Acknowledge", *[failing(Code.UNAVAILABLE, "gone")] * 3)
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            settler.update([(held, new)])
    assert settler.update([(held, new)]) == [True]
    assert [one.data for asked in server.asked("Publish") for one in asked.messages] == [b"new"]
    settler.close()


def test_a_repeated_ack_is_answered_by_what_those_before_it_did(server: Scripted, broker: Broker) -> None:
    held = [*take(server, broker, "a"), *take(server, broker, "b", queue="r"), *take(server, broker, "c", queue="s")]
    gone = failing(Code.UNAVAILABLE, "gone")
    server.answer("Acknowledge", accepting, gone, gone, accepting, gone)
    for _ in range(3):  # q is done in the first of them, r in the third
        with pytest.raises(BrokerUnavailable):
            broker.ack(held)
    assert broker.ack(held) == [True, True, True]
    assert [list(one.ack_ids) for one in server.asked("Acknowledge")] == [["a"], ["b"], ["b"], ["b"], ["c"], ["c"]]
    assert broker.ack(held) == [False, False, False], "answered, and not held any more"


def test_a_repeated_ack_of_many_is_answered_by_what_the_requests_of_those_before_it_did(
    server: Scripted, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker_broker_pubsub.settling.BATCH", 1)
    held = take(server, broker, "a", "b", "c")
    server.answer("Acknowledge", *[_only("a", "c")] * 4)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            broker.ack(held)
    assert broker.ack(held) == [True, True, True]
    asked = [ack_id for one in server.asked("Acknowledge") for ack_id in one.ack_ids]
    assert sorted(asked) == ["a", "b", "b", "b", "c"]


def test_a_repeated_ack_is_answered_by_a_refusal_in_parts(server: Scripted, broker: Broker) -> None:
    held = take(server, broker, "a", "b", "c")
    transient, lost = "TRANSIENT_FAILURE_UNORDERED_ACK_ID", "PERMANENT_FAILURE_INVALID_ACK_ID"
    server.answer("Acknowledge", refusing({"b": transient, "c": lost}), *[refusing({"b": transient})] * 3)
    with pytest.raises(BrokerUnavailable):
        broker.ack(held)
    assert broker.ack(held) == [True, True, False]
    assert [list(one.ack_ids) for one in server.asked("Acknowledge")] == [["a", "b", "c"], *[["b"]] * 4]


def test_a_repeated_update_is_answered_by_what_those_before_it_did(server: Scripted, broker: Broker) -> None:
    first, second = take(server, broker, "a", "b")
    changes = [(first, Message("a", "q", b"new")), (second, Message("b", "r", b"new"))]
    server.answer("Publish", *[_only_to_q] * 4)
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            broker.update(changes)
    assert broker.update(changes) == [True, True]
    published = [one.attributes["id"] for asked in server.asked("Publish") for one in asked.messages]
    assert sorted(published) == ["a", "b", "b", "b", "b"]


def test_a_settle_of_another_kind_than_the_one_that_was_done_is_lost(server: Scripted, broker: Broker) -> None:
    held = [*take(server, broker, "a"), *take(server, broker, "b", queue="r")]
    server.answer("Acknowledge", accepting, failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable):
        broker.ack(held)
    assert broker.update([(held[0], Message("a", "q", b"new"))]) == [False]
    assert server.asked("Publish") == []


def test_a_lease_under_an_ack_id_that_was_settled_before_is_a_new_one(server: Scripted, broker: Broker) -> None:
    held = [*take(server, broker, "a"), *take(server, broker, "b", queue="r")]
    server.answer("Acknowledge", accepting, failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable):
        broker.ack(held)
    assert broker.ack(take(server, broker, "a")) == [True]
    assert [list(one.ack_ids) for one in server.asked("Acknowledge")] == [["a"], ["b"], ["a"]]


def test_an_update_by_another_version_than_the_one_that_is_stored_publishes_it(
    server: Scripted, broker: Broker
) -> None:
    [held] = take(server, broker, "a")
    server.answer("Acknowledge", failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable):
        broker.update([(held, Message("a", "q", b"first"))])
    assert broker.update([(held, Message("a", "q", b"second"))]) == [True]
    assert [one.data for asked in server.asked("Publish") for one in asked.messages] == [b"first", b"second"]


def test_what_calls_that_raised_had_done_is_forgotten_in_time(
    server: Scripted, broker: PubSubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker_broker_pubsub.leases.REMEMBERED", 0.0)
    first, second = take(server, broker, "a", "b")
    server.answer("Acknowledge", failing(Code.UNAVAILABLE, "gone"))
    with pytest.raises(BrokerUnavailable):
        broker.update([(first, Message("a", "q", b"new"))])
    assert broker.ack([second]) == [True]
    assert broker._here()._leases._progress == {}


def test_of_two_messages_with_one_id_an_update_removes_only_that_whose_new_version_is_stored(
    server: Scripted, broker: Broker
) -> None:
    first, second = take(server, broker, "a", "b")
    second = Delivery(first.message, second.token, second.delivery_count, second.lease_until)
    server.answer("Publish", _only_to_q, _only_to_q)
    with pytest.raises(BrokerUnavailable):
        broker.update([(first, Message("a", "q", b"new")), (second, Message("a", "r", b"new"))])
    assert [list(one.ack_ids) for one in server.asked("Acknowledge")] == [["a"]]


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


def test_a_subscription_whose_topic_was_deleted_is_refused_and_it_says_what_to_do(
    server: Scripted, broker: Broker
) -> None:
    without = types.Subscription.pb()(name="projects/p1/subscriptions/anybroker-~later", topic="_deleted-topic_")
    server.answer("CreateSubscription", failing(Code.ALREADY_EXISTS, "there"))
    server.answer("GetSubscription", lambda *_: without)
    with pytest.raises(ConfigurationError, match="~later belongs to _deleted-topic_; delete it"):
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


def test_what_is_due_is_returned_though_what_came_with_it_cannot_be_put_off(server: Scripted, broker: Broker) -> None:
    """Else its deliveries would be counted until it is taken for one that kills its workers."""
    early = types.ReceivedMessage.pb()(
        ack_id="early", message={"data": b"x", "message_id": "1", "attributes": {"eta": "9999-12-31T00:00:00+00:00"}}
    )
    received = [*bringing("a")(None, None).received_messages, early]
    server.answer("Pull", lambda *_: types.PullResponse.pb()(received_messages=received))
    server.answer("Publish", failing(Code.PERMISSION_DENIED, "no"))
    [due] = broker.acquire(["q"], limit=10, wait=1, lease=30)
    assert due.message.id == "a"
    assert server.asked("Acknowledge") == []


def test_a_service_that_does_not_wait_is_not_asked_without_a_pause(server: Scripted, broker: Broker) -> None:
    began = time.monotonic()
    assert broker.acquire(["q"], limit=1, wait=1, lease=30) == []
    assert server.later > 1
    assert max(server.later, len(server.asked("Pull"))) <= 2 + (time.monotonic() - began) / EARLY


def _published() -> object:
    return types.PublishResponse.pb()()


def _only_to_q(request: types.PublishRequest, context: grpc.ServicerContext) -> object:
    """An answer to a publish that fails for the queue r."""
    if request.topic.endswith("-r"):
        context.abort(Code.UNAVAILABLE, "gone")
    return _published()


def _only(*ack_ids: str) -> Callable[[Any, Any], object]:
    """An answer to an ack that fails for any other message."""

    def answer(request: types.AcknowledgeRequest, context: grpc.ServicerContext) -> object:
        if not set(request.ack_ids) <= set(ack_ids):
            context.abort(Code.UNAVAILABLE, "gone")
        return accepting()

    return answer


def _plain() -> object:
    return types.Subscription.pb()(name="projects/p1/subscriptions/anybroker-q", topic="projects/p1/topics/anybroker-q")
