"""Queues as anybroker creates them, and as others have."""

from __future__ import annotations

import json
import secrets
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from anybroker.broker import Message, Overview
from anybroker.errors import BrokerUnavailable
from anybroker.loading import load_broker
from tests.brokers.sqs.scripted import ScriptedSqs, refusal
from tests.live import service
from tests.waiting import until

if TYPE_CHECKING:
    from anybroker.broker import Delivery
    from tests.brokers.sqs.scripted import Answer

OPTIONS = "visibility=5m&message_size=1048576&kms_key=alias/jobs&tags=team:mail"
CREATED = {
    "VisibilityTimeout": "300",
    "MessageRetentionPeriod": "1209600",
    "MaximumMessageSize": "1048576",
    "KmsMasterKeyId": "alias/jobs",
}
FIFO = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}


@pytest.mark.parametrize(("fifo", "name", "attributes"), [("no", "q", CREATED), ("yes", "q.fifo", CREATED | FIFO)])
def test_a_queue_is_created_as_the_url_says(fifo: str, name: str, attributes: dict[str, str]) -> None:
    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation == "CreateQueue":
            return 200, {"QueueUrl": f"{sqs.endpoint}/000000000000/{call['QueueName']}"}
        return refusal("QueueDoesNotExist") if operation == "GetQueueUrl" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(f"{sqs.url}&fifo={fifo}&{OPTIONS}")) as broker:
        broker.enqueue([Message("1", "q", b"")])
        [created] = [call for operation, call in sqs.calls if operation == "CreateQueue"]
    assert created == {
        "QueueName": name,
        "Attributes": attributes,
        "tags": {"team": "mail", "anybroker-queue": "cQ=="},
    }


def test_a_queue_that_was_cleared_a_moment_ago_is_not_cleared_again_and_that_is_said() -> None:
    def answer(operation: str, _: object) -> Answer | None:
        if operation != "PurgeQueue":
            return None
        return refusal("PurgeQueueInProgress", 403, "Only one PurgeQueue operation on q is allowed every 60 seconds.")

    with ScriptedSqs(answer) as sqs, closing(load_broker(sqs.url)) as broker:
        assert isinstance(broker, Overview)
        with pytest.raises(BrokerUnavailable, match=r"PurgeQueueInProgress.*every 60 seconds"):
            broker.clear("q")


DAY = 86_400


@pytest.mark.parametrize(
    ("told", "age", "calls"),
    [
        ((200, {"Attributes": {"MessageRetentionPeriod": f"{14 * DAY}"}}), 3.6, {"ChangeMessageVisibilityBatch"}),
        (
            (200, {"Attributes": {"MessageRetentionPeriod": f"{4 * DAY}"}}),
            3.6,
            {"SendMessageBatch", "DeleteMessageBatch"},
        ),
        ((200, {"Attributes": {"MessageRetentionPeriod": f"{DAY}"}}), 0.6, {"SendMessageBatch", "DeleteMessageBatch"}),
        ((200, {"Attributes": {"MessageRetentionPeriod": f"{DAY}"}}), 0.0, {"ChangeMessageVisibilityBatch"}),
        ((200, {}), 3.6, {"SendMessageBatch", "DeleteMessageBatch"}),
        (refusal("AccessDeniedException", 403), 3.6, {"SendMessageBatch", "DeleteMessageBatch"}),
        (refusal("InternalError", 500), 3.6, {"SendMessageBatch", "DeleteMessageBatch"}),
    ],
)
def test_a_delayed_message_of_a_fifo_queue_is_not_forgotten_whoever_has_created_the_queue(
    told: Answer, age: float, calls: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``age``: days for which SQS has had it. What it would forget before the next look is sent anew."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda _self, _context: 0.0)
    now = datetime.now(UTC)
    meta = {"id": "1", "eta": (now + timedelta(days=10)).isoformat(), "key": "k"}
    message = {
        "MessageId": "1",
        "ReceiptHandle": "handle",
        "Body": "x",
        "MessageAttributes": {"anybroker": {"DataType": "String", "StringValue": json.dumps(meta)}},
        "Attributes": {
            "ApproximateReceiveCount": "1",
            "ApproximateFirstReceiveTimestamp": f"{now.timestamp() * 1000:.0f}",
            "SentTimestamp": f"{(now.timestamp() - age * DAY) * 1000:.0f}",
        },
    }

    def answer(operation: str, _: object) -> Answer | None:
        if operation == "ReceiveMessage":
            return 200, {"Messages": [message] if sqs.operations[operation] == 1 else []}
        return told if operation == "GetQueueAttributes" else None

    with ScriptedSqs(answer) as sqs, closing(load_broker(f"{sqs.url}&fifo=yes")) as broker:
        assert broker.acquire(["q"], limit=1, wait=0, lease=30) == []
        assert {name for name in sqs.operations if name.endswith("Batch")} == calls
        hidden = [
            entry for name, call in sqs.calls if name == "ChangeMessageVisibilityBatch" for entry in call["Entries"]
        ]
        assert all(entry["VisibilityTimeout"] >= DAY / 4 for entry in hidden)


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.parametrize("fifo", ["no", "yes"])
def test_a_redrive_policy_is_respected(fifo: str) -> None:
    """What was received twice and not deleted is moved by SQS, whole, to where the policy says."""
    prefix, suffix = f"r{secrets.token_hex(4)}-", ".fifo" if fifo == "yes" else ""
    client = boto3.client(
        "sqs",
        region_name="elasticmq",
        endpoint_url=f"http://127.0.0.1:{service('sqs').running.ports['http']}",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    kind = {"FifoQueue": "true"} if suffix else {}
    dead = client.create_queue(QueueName=f"{prefix}lost{suffix}", Attributes=kind)["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    client.create_queue(QueueName=f"{prefix}mail{suffix}", Attributes=kind | {"RedrivePolicy": policy})
    client.close()
    with closing(load_broker(service("sqs").url(prefix=prefix, fifo=fifo, create="no"))) as broker:
        sent = Message("1", "mail", b"\0body")
        broker.enqueue([sent])
        for count in (1, 2):
            [held] = broker.acquire(["mail"], limit=1, wait=10, lease=1)
            assert held.delivery_count == count
        moved: list[Delivery] = []

        def is_moved() -> bool:
            assert broker.acquire(["mail"], limit=1, wait=0, lease=1) == []
            moved.extend(broker.acquire(["lost"], limit=1, wait=0, lease=30))
            return bool(moved)

        until(is_moved)
        assert [(one.message.id, one.message.body) for one in moved] == [("1", b"\0body")]
