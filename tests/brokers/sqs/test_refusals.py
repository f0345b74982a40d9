"""What SQS refuses: what is retried, what is told, and that one bad entry is nobody else's."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.broker import Message
from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, MessageTooLarge
from anybroker.loading import load_broker
from anybroker_broker_sqs import SqsBroker
from anybroker_broker_sqs.connection import ATTEMPTS
from anybroker_broker_sqs.envelope import ATTRIBUTE
from tests.brokers.sqs.scripted import ScriptedSqs, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.broker import Broker, Delivery
    from tests.brokers.sqs.scripted import Answer

MESSAGES = [Message(str(number), "q", b"%d" % number) for number in range(10)]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 not wait between its attempts."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda _self, _context: 0.0)


def use(broker: Broker) -> None:
    """Receive, and send."""
    broker.acquire(["q"], limit=1, wait=0, lease=1)
    broker.enqueue(MESSAGES)


def received(*ids: str) -> Answer:
    """A reply to ReceiveMessage."""
    messages = [
        {
            "MessageId": id_,
            "ReceiptHandle": f"handle {id_}",
            "Body": id_,
            "Attributes": {"ApproximateReceiveCount": "1"},
        }
        for id_ in ids
    ]
    return 200, {"Messages": messages}


@pytest.mark.parametrize(
    ("code", "status"),
    [("ThrottlingException", 400), ("RequestThrottled", 400), ("InternalError", 500), ("ServiceUnavailable", 503)],
)
def test_what_passes_is_retried_by_boto3(code: str, status: int) -> None:
    left = ATTEMPTS - 1

    def answer(operation: str, _: object) -> Answer | None:
        nonlocal left
        if operation != "SendMessageBatch" or left == 0:
            return None
        left -= 1
        return refusal(code, status)

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        broker.enqueue(MESSAGES)
        assert sqs.operations["SendMessageBatch"] == ATTEMPTS


@pytest.mark.parametrize(
    ("code", "status", "error", "calls"),
    [
        ("ThrottlingException", 400, BrokerUnavailable, ATTEMPTS),
        ("InternalError", 500, BrokerUnavailable, ATTEMPTS),
        ("ExpiredTokenException", 400, BrokerUnavailable, 1),
        ("OverLimit", 403, BrokerUnavailable, 1),
        ("QueueDoesNotExist", 400, BrokerUnavailable, 1),
        ("AccessDeniedException", 403, ConfigurationError, 1),
        ("UnrecognizedClientException", 403, ConfigurationError, 1),
        ("InvalidClientTokenId", 403, ConfigurationError, 1),
        ("KmsDisabled", 400, ConfigurationError, 1),
        ("BatchRequestTooLong", 400, MessageTooLarge, 1),
        ("InvalidParameterValue", 400, ConfigurationError, 1),
    ],
)
def test_what_lasts_is_told(code: str, status: int, error: type[AnybrokerError], calls: int) -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return refusal(code, status, "the reason") if operation == "SendMessageBatch" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        with pytest.raises(error, match="the reason") as raised:
            broker.enqueue(MESSAGES)
        assert code in str(raised.value)
        assert raised.value.__cause__ is not None
        assert sqs.operations["SendMessageBatch"] == calls


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("SendMessageBatch", "sqs:SendMessage"),
        ("ReceiveMessage", "sqs:ReceiveMessage"),
        ("GetQueueUrl", "sqs:GetQueueUrl"),
    ],
)
def test_a_missing_permission_is_named(operation: str, permission: str) -> None:
    def answer(called: str, _: object) -> Answer | None:
        return refusal("AccessDeniedException", 403) if called == operation else None

    with (
        ScriptedSqs(answer) as sqs,
        closing(load_broker(sqs.url)) as broker,
        pytest.raises(ConfigurationError, match=f"the permission {permission}$"),
    ):
        use(broker)


@pytest.mark.parametrize(
    ("operation", "permission"),
    [("DeleteMessageBatch", "sqs:DeleteMessage"), ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility")],
)
def test_a_missing_permission_of_a_consumer_is_named(operation: str, permission: str) -> None:
    def answer(called: str, _: object) -> Answer | None:
        if called == "ReceiveMessage":
            return received("1")
        return refusal("AccessDeniedException", 403) if called == operation else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        held = broker.acquire(["q"], limit=1, wait=0, lease=30)
        with pytest.raises(ConfigurationError, match=f"the permission {permission}$"):
            assert broker.extend(held, lease=30) == broker.ack(held)


def test_a_queue_for_smaller_messages_says_so() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        reason = "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."
        return refusal("InvalidParameterValue", 400, reason) if operation == "SendMessageBatch" else None

    with (
        ScriptedSqs(answer) as sqs,
        closing(load_broker(sqs.url)) as broker,
        pytest.raises(MessageTooLarge, match="shorter than 1024 bytes"),
    ):
        broker.enqueue(MESSAGES)


@pytest.mark.parametrize(
    ("field", "fifo"), [("id", "no"), ("id", "yes"), ("queue", "no"), ("queue", "yes"), ("ordering_key", "yes")]
)
def test_a_lone_surrogate_is_refused_before_anything_is_sent(field: str, fifo: str) -> None:
    bad = msgspec.structs.replace(MESSAGES[0], **{field: "x\ud800"})
    with ScriptedSqs() as sqs, closing(load_broker(f"{sqs.url}&fifo={fifo}")) as broker:
        with pytest.raises(ConfigurationError, match=r"valid Unicode, and 'x\\ud800' is not"):
            broker.enqueue([MESSAGES[1], bad])
        assert not sqs.calls


def test_a_queue_of_a_lone_surrogate_is_refused_by_every_verb_that_takes_one() -> None:
    with ScriptedSqs() as sqs, closing(SqsBroker.from_url(sqs.url)) as broker:
        for wait in (0, 5):
            with pytest.raises(ConfigurationError, match="valid Unicode"):
                broker.acquire(["x\ud800"], limit=1, wait=wait, lease=1)
        with pytest.raises(ConfigurationError, match="valid Unicode"):
            broker.estimate("x\ud800")
        with pytest.raises(ConfigurationError, match="valid Unicode"):
            broker.clear("x\ud800")


def test_messages_of_one_queue_are_returned_though_the_next_queue_fails() -> None:
    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "ReceiveMessage":
            return None
        return received("0") if call["QueueUrl"].endswith("/good") else refusal("OverLimit", 403)

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        assert len(broker.acquire(["good", "bad"], limit=5, wait=0, lease=30)) == 1
        with pytest.raises(BrokerUnavailable, match="OverLimit"):
            broker.acquire(["bad", "good"], limit=5, wait=0, lease=30)


def test_messages_of_one_queue_are_returned_though_the_next_queue_is_not_permitted() -> None:
    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "ReceiveMessage":
            return None
        return received("0") if call["QueueUrl"].endswith("/good") else refusal("AccessDenied", 403)

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        assert len(broker.acquire(["good", "bad"], limit=50, wait=0, lease=30)) >= 1
        with pytest.raises(ConfigurationError, match="sqs:ReceiveMessage"):
            broker.acquire(["bad", "good"], limit=5, wait=0, lease=30)


def test_a_queue_is_not_made_in_another_account() -> None:
    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation == "GetQueueUrl":
            return refusal("QueueDoesNotExist", 400)
        if operation == "CreateQueue":
            return 200, {"QueueUrl": f"https://sqs.eu-west-1.amazonaws.com/111111111111/{call['QueueName']}"}
        return None

    with ScriptedSqs(answer) as sqs:
        url = sqs.url.replace("/?", "/999999999999/?", 1)
        assert url != sqs.url
        with closing(load_broker(url)) as broker, pytest.raises(ConfigurationError, match="in account 999999999999"):
            broker.enqueue(MESSAGES)


def test_without_create_nothing_is_created_and_few_permissions_do() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return received("1") if operation == "ReceiveMessage" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(f"{sqs.url}&create=no")) as broker:
        broker.enqueue(MESSAGES)
        [delivery] = broker.acquire(["q"], limit=1, wait=0, lease=1)
        assert broker.extend([delivery], lease=30) == [True]
        assert broker.update([(delivery, delivery.message)]) == [True]
        broker.close()
        assert set(sqs.operations) == {
            "GetQueueUrl",
            "SendMessageBatch",
            "ReceiveMessage",
            "ChangeMessageVisibilityBatch",
            "DeleteMessageBatch",
        }


def test_with_an_account_the_url_of_a_queue_is_not_looked_up() -> None:
    with ScriptedSqs() as sqs:
        url = sqs.url.replace("eu-west-1/", "eu-west-1/123456789012/")
        with closing(load_broker(f"{url}&create=no&prefix=app-")) as broker:
            broker.enqueue(MESSAGES)
        [(operation, call)] = sqs.calls
        assert operation == "SendMessageBatch"
        assert call["QueueUrl"] == f"{sqs.endpoint}/123456789012/app-q"


def test_a_queue_that_is_missing_is_named_without_create() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return refusal("QueueDoesNotExist") if operation == "GetQueueUrl" else None

    with (
        ScriptedSqs(answer) as sqs,
        closing(load_broker(f"{sqs.url}&create=no&prefix=app-")) as broker,
        pytest.raises(ConfigurationError, match=r"queue 'q' does not exist there as app-q; create it"),
    ):
        broker.enqueue(MESSAGES)


def test_who_only_looks_in_creates_no_queue() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return refusal("QueueDoesNotExist") if operation == "GetQueueUrl" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        assert broker.acquire(["q"], limit=1, wait=0, lease=1) == []
        assert set(sqs.operations) == {"GetQueueUrl"}


def test_one_bad_entry_is_told_and_the_others_are_stored() -> None:
    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "SendMessageBatch":
            return None
        failed = {"Id": "3", "SenderFault": False, "Code": "InternalError", "Message": "this one"}
        return 200, {"Successful": [{"Id": e["Id"]} for e in call["Entries"] if e["Id"] != "3"], "Failed": [failed]}

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        with pytest.raises(BrokerUnavailable, match="this one") as raised:
            broker.enqueue(MESSAGES)
        assert raised.value.stored == {one.id for one in MESSAGES} - {"3"}
        assert sqs.operations["SendMessageBatch"] == 1


def test_a_repeated_ack_is_answered_by_what_the_first_one_did() -> None:
    failing = True

    def answer(operation: str, _: object) -> Answer | None:
        if operation == "ReceiveMessage":
            return received("0", "1", "2")
        if operation != "DeleteMessageBatch" or not failing:
            return None
        bad = [
            {"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "later"},
            {"Id": "2", "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": "stale"},
        ]
        return 200, {"Successful": [{"Id": "0"}], "Failed": bad}

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        held = broker.acquire(["q"], limit=3, wait=0, lease=60)
        with pytest.raises(BrokerUnavailable, match="later"):
            broker.ack(held)
        failing = False
        assert broker.ack(held) == [True, True, False]
        assert broker.ack(held) == [False, False, False]
        assert [entry["ReceiptHandle"] for entry in sqs.calls[-1][1]["Entries"]] == ["handle 1"]


@pytest.mark.parametrize("verb", ["ack", "update"])
def test_what_was_settled_is_remembered_however_often_the_call_fails(verb: str) -> None:
    failing = True

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation == "ReceiveMessage":
            return received("0", "1")
        if operation != "DeleteMessageBatch" or not failing:
            return None
        places = {entry["ReceiptHandle"]: entry["Id"] for entry in call["Entries"]}
        bad = {"Id": places.pop("handle 1"), "SenderFault": False, "Code": "InternalError", "Message": "later"}
        return 200, {"Successful": [{"Id": place} for place in places.values()], "Failed": [bad]}

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        held = broker.acquire(["q"], limit=2, wait=0, lease=60)

        def settle() -> list[bool]:
            return broker.ack(held) if verb == "ack" else broker.update([(one, one.message) for one in held])

        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="later"):
                settle()
        failing = False
        assert settle() == [True, True]
        assert settle() == [False, False]


def test_a_repeated_update_does_not_send_the_new_version_twice() -> None:
    failing = True

    def answer(operation: str, _: object) -> Answer | None:
        if operation == "ReceiveMessage":
            return received("0")
        return refusal("InternalError", 500) if operation == "DeleteMessageBatch" and failing else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        [held] = broker.acquire(["q"], limit=1, wait=0, lease=60)
        changes = [(held, Message("0", "q", b"new"))]
        with pytest.raises(BrokerUnavailable):
            broker.update(changes)
        failing = False
        assert broker.update(changes) == [True]
        assert sqs.operations["SendMessageBatch"] == 1


@pytest.mark.parametrize(("fifo", "key"), [("no", None), ("yes", "k")])
def test_a_foreign_message_with_a_key_can_be_retried(fifo: str, key: str | None) -> None:
    def answer(operation: str, _: object) -> Answer | None:
        if operation != "ReceiveMessage":
            return None
        status, found = received("0")
        found["Messages"][0]["MessageAttributes"] = {ATTRIBUTE: {"DataType": "String", "StringValue": '{"key":"k"}'}}
        return status, found

    with ScriptedSqs(answer) as sqs, closing(load_broker(f"{sqs.url}&fifo={fifo}")) as broker:
        [held] = broker.acquire(["q"], limit=1, wait=0, lease=60)
        assert held.message.ordering_key == key
        assert broker.update([(held, msgspec.structs.replace(held.message, queue="q.dead"))]) == [True]


def test_what_is_never_due_holds_nothing_up() -> None:
    """In UTC, it would be in the year 10000."""

    def answer(operation: str, _: object) -> Answer | None:
        if operation != "ReceiveMessage" or sqs.operations[operation] > 1:
            return None
        status, found = received("never", "now")
        meta = '{"eta":"9999-12-31T23:59:59-14:00"}'
        found["Messages"][0]["MessageAttributes"] = {ATTRIBUTE: {"DataType": "String", "StringValue": meta}}
        return status, found

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        assert [one.message.id for one in broker.acquire(["q"], limit=2, wait=0, lease=60)] == ["now"]
        [entry] = [entry for name, call in sqs.calls if name == "SendMessageBatch" for entry in call["Entries"]]
        assert (entry["MessageBody"], entry["DelaySeconds"]) == ("never", 900)


@pytest.mark.parametrize("wait", [0, 0.5])
def test_an_acquire_ends_although_there_is_ever_more_that_is_not_due(wait: float) -> None:
    """As of a queue with many long delays, which it sends on."""
    meta = json.dumps({"eta": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "ReceiveMessage":
            return None
        status, found = received(*map(str, range(call["MaxNumberOfMessages"])))
        for message in found["Messages"]:
            message["MessageAttributes"] = {ATTRIBUTE: {"DataType": "String", "StringValue": meta}}
        return status, found

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        began = time.monotonic()
        assert broker.acquire(["q"], limit=10, wait=wait, lease=60) == []
        assert wait <= time.monotonic() - began < 10


def test_an_update_that_was_not_sent_deletes_nothing() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        if operation == "ReceiveMessage":
            return received("0")
        return refusal("InternalError", 500) if operation == "SendMessageBatch" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        [held] = broker.acquire(["q"], limit=1, wait=0, lease=60)
        with pytest.raises(BrokerUnavailable):
            broker.update([(held, Message("0", "q", b"new"))])
        assert sqs.operations["DeleteMessageBatch"] == 0
        assert broker.ack([held]) == [True], "the lease was lost by an update that did nothing"


def test_a_lease_whose_time_is_over_is_lost_without_a_call() -> None:
    """SQS would delete the message all the same, though somebody else may have it by now."""

    def answer(operation: str, _: object) -> Answer | None:
        return received("0") if operation == "ReceiveMessage" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        [held] = broker.acquire(["q"], limit=1, wait=0, lease=1)
        held.token.ends = time.monotonic()  # type: ignore[attr-defined]  # it is ours
        calls = len(sqs.calls)
        assert broker.ack([held]) == [False]
        assert broker.update([(held, held.message)]) == [False]
        assert broker.extend([held], lease=30) == [False]
        assert len(sqs.calls) == calls


def test_no_lease_lasts_longer_than_12_hours_from_the_receive() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return received("0") if operation == "ReceiveMessage" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        [held] = broker.acquire(["q"], limit=1, wait=0, lease=43_200)
        held.token.began -= 3600  # type: ignore[attr-defined]  # it is ours
        assert broker.extend([held], lease=43_200) == [True]
        [entry] = sqs.calls[-1][1]["Entries"]
        assert 43_200 - 3660 <= entry["VisibilityTimeout"] < 43_200 - 3600


def test_a_lease_that_reaches_the_12_hours_ends_and_is_not_given_back() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return received("0") if operation == "ReceiveMessage" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        [held] = broker.acquire(["q"], limit=1, wait=0, lease=43_200)
        held.token.began -= 43_199.5  # type: ignore[attr-defined]  # it is ours
        assert broker.extend([held], lease=30) == [False]
        assert sqs.operations["ChangeMessageVisibilityBatch"] == 0
        assert broker.ack([held]) == [True], "until then it is held"


@pytest.mark.parametrize("in_time", [True, False])
def test_a_repeated_delete_is_believed_to_have_been_done_only_under_a_valid_lease(*, in_time: bool) -> None:
    """A FIFO queue says the same of a message that the first call has deleted, and of a lease that has ended."""
    held: list[Delivery] = []

    def answer(operation: str, _: object) -> Answer | None:
        if operation == "ReceiveMessage":
            return received("0")
        if operation != "DeleteMessageBatch":
            return None
        if sqs.operations[operation] == 1:
            return refusal("InternalError", 500)
        if not in_time:
            held[0].token.ends = time.monotonic()  # type: ignore[attr-defined]  # it is ours
        expired = {"Id": "0", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "it has expired"}
        return 200, {"Successful": [], "Failed": [expired]}

    with ScriptedSqs(answer) as sqs, closing(load_broker(f"{sqs.url}&fifo=yes")) as broker:
        held += broker.acquire(["q"], limit=1, wait=0, lease=60)
        assert broker.ack(held) == [in_time]
        assert sqs.operations["DeleteMessageBatch"] == 2


def test_the_child_of_a_fork_settles_nothing_of_its_parent() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        return received("0") if operation == "ReceiveMessage" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        held = broker.acquire(["q"], limit=1, wait=0, lease=60)

        def child() -> bool:
            answers = [broker.ack(held), broker.extend(held, lease=60), broker.update([(held[0], held[0].message)])]
            return answers == [[False]] * 3

        assert in_a_fork(child)
        assert set(sqs.operations) == {"GetQueueUrl", "ReceiveMessage"}
        assert broker.ack(held) == [True]


def test_a_broker_that_was_closed_is_closed_in_the_child_of_a_fork() -> None:
    def child() -> bool:
        with pytest.raises(BrokerUnavailable, match="closed"):
            broker.acquire(["q"], limit=1, wait=0, lease=1)
        return True

    with ScriptedSqs() as sqs:
        broker = load_broker(sqs.url)
        broker.close()
        assert in_a_fork(child)


def in_a_fork(function: Callable[[], bool]) -> bool:
    """Whether it returns True in a child of this process."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_no_error_shows_a_secret() -> None:
    secret = "AKIAEXAMPLEKEY00000"

    def answer(_: str, __: object) -> Answer | None:
        return refusal("SignatureDoesNotMatch", 403, f"Credential={secret} does not match\nsigned: s3cr3t")

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        with pytest.raises(ConfigurationError) as raised:
            broker.enqueue(MESSAGES)
        shown = f"{raised.value} {raised.value!r} {broker!r}"
        assert secret not in shown
        assert "s3cr3t" not in shown


@pytest.mark.slow
def test_a_thousand_messages_take_a_hundred_calls_each_way() -> None:
    waiting = [str(number) for number in range(1000)]

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "ReceiveMessage":
            return None
        number = call["MaxNumberOfMessages"]
        taken, waiting[:] = waiting[:number], waiting[number:]
        return received(*taken)

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        broker.enqueue([Message(id_, "q", b"") for id_ in waiting])
        while held := broker.acquire(["q"], limit=100, wait=0, lease=60):
            assert all(broker.ack(held))
        del sqs.calls[0]  # GetQueueUrl
        assert len(sqs.calls) <= 310
        assert sqs.operations["SendMessageBatch"] == sqs.operations["DeleteMessageBatch"] == 100


@pytest.fixture
def idle() -> Iterator[ScriptedSqs]:
    """Every queue is empty, and a poll takes its time, a hundredth of it."""

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation == "ReceiveMessage":
            time.sleep(call["WaitTimeSeconds"] / 100)
        return None

    with ScriptedSqs(answer) as sqs:
        yield sqs


@pytest.mark.slow
def test_a_consumer_that_goes_on_asking_polls_for_20_seconds(idle: ScriptedSqs) -> None:
    """A worker asks twice a second, for several queues; SQS is asked as rarely as it can be."""
    with closing(load_broker(idle.url)) as broker:
        while idle.operations["ReceiveMessage"] < 40:
            assert broker.acquire(["q", "r"], limit=10, wait=0.1, lease=30) == []
    waits = [call["WaitTimeSeconds"] for operation, call in idle.calls if operation == "ReceiveMessage"]
    assert sorted(waits)[:12] == [0, 0, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16]
    assert set(sorted(waits)[12:]) == {20}
