"""Calls at the same time, and one after the other where the order counts."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable
from anybroker_broker_sqs import SqsBroker
from anybroker_broker_sqs.envelope import ATTRIBUTE
from tests.brokers.sqs.scripted import ScriptedSqs, refusal

if TYPE_CHECKING:
    from tests.brokers.sqs.scripted import Answer

CALLS = 2
LARGE = "x" * 30_000
"""Ten of these do not fit one call."""


def not_due(number: int) -> Answer:
    """A reply to ReceiveMessage: large messages that are to be sent anew."""
    eta = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    messages = [
        {
            "MessageId": str(place),
            "ReceiptHandle": str(place),
            "Body": LARGE,
            "Attributes": {"ApproximateReceiveCount": "1"},
            "MessageAttributes": {ATTRIBUTE: {"DataType": "String", "StringValue": f'{{"eta":"{eta}"}}'}},
        }
        for place in range(number)
    ]
    return 200, {"Messages": messages}


def test_receives_at_the_same_time_that_each_send_more_than_one_call_takes_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("anybroker_broker_sqs.broker.MORE", 10.0)  # also a slow machine comes to the end of them
    left = 1 + CALLS  # one receive alone, then as many as there are threads

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        nonlocal left
        if operation != "ReceiveMessage" or not left:
            return None
        left -= 1
        return not_due(call["MaxNumberOfMessages"])

    with ScriptedSqs(answer) as sqs, closing(SqsBroker.from_url(f"{sqs.url}&calls={CALLS}")) as broker:
        acquire = threading.Thread(
            target=broker.acquire, args=[["q"]], kwargs={"limit": 100, "wait": 0, "lease": 60}, daemon=True
        )
        acquire.start()
        acquire.join(10)
        waits = acquire.is_alive()
        threads = broker._here.connection._threads
        assert threads is not None
        threads.shutdown(wait=False, cancel_futures=True)  # else those that wait would keep the process from ending
        assert not waits
        assert not left
        assert sqs.operations["SendMessageBatch"] == 2 * (1 + CALLS)
        assert sqs.operations["DeleteMessageBatch"] == 1 + CALLS


@pytest.mark.parametrize("all_of_the_call", [True, False])
def test_in_a_fifo_queue_nothing_overtakes_a_message_that_was_not_stored(*, all_of_the_call: bool) -> None:
    """What is in the same call may: SQS answers for each, and takes nothing back."""

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "SendMessageBatch" or not call["QueueUrl"].endswith("/bad.fifo"):
            return None
        if all(entry["MessageBody"] != "13" for entry in call["Entries"]):
            return None
        if all_of_the_call:
            return refusal("OverLimit", 403, "not this one")
        failed = {"Id": "3", "SenderFault": False, "Code": "InternalError", "Message": "not this one"}
        return 200, {"Successful": [{"Id": e["Id"]} for e in call["Entries"] if e["Id"] != "3"], "Failed": [failed]}

    def messages(queue: str) -> list[Message]:
        return [Message(f"{queue} {number}", queue, b"%d" % number, ordering_key="k") for number in range(35)]

    with ScriptedSqs(answer) as sqs, closing(SqsBroker.from_url(f"{sqs.url}&fifo=yes")) as broker:
        with pytest.raises(BrokerUnavailable, match="not this one") as raised:
            broker.enqueue([*messages("bad"), *messages("good")])
        stored = [f"bad {number}" for number in range(10 if all_of_the_call else 20) if number != 13]
        assert raised.value.stored == {*stored, *(one.id for one in messages("good"))}
        assert sqs.operations["SendMessageBatch"] == 2 + 4


def test_of_a_standard_queue_every_call_is_made() -> None:
    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        bodies = [entry["MessageBody"] for entry in call.get("Entries", ())]
        return refusal("OverLimit", 403) if operation == "SendMessageBatch" and "13" in bodies else None

    with ScriptedSqs(answer) as sqs, closing(SqsBroker.from_url(sqs.url)) as broker:
        with pytest.raises(BrokerUnavailable) as raised:
            broker.enqueue([Message(str(number), "q", b"%d" % number) for number in range(35)])
        assert raised.value.stored == {str(number) for number in range(35) if number // 10 != 1}
