"""Delays longer than SQS takes, which have several parts: not of 15 minutes or 12 hours, but of a second here."""

from __future__ import annotations

import secrets
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import anybroker_broker_sqs.broker
from anybroker.broker import Message
from anybroker_broker_sqs import SqsBroker, envelope, received
from anybroker_broker_sqs.connection import Connection
from tests.live import service
from tests.waiting import until

if TYPE_CHECKING:
    from anybroker.broker import Delivery

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each operation was called."""
    counted = Counter[str]()
    call = Connection.call

    def count(self: Connection, operation: str, **parameters: Any) -> dict[str, Any]:
        counted[operation] += 1
        return call(self, operation, **parameters)

    monkeypatch.setattr(Connection, "call", count)
    return counted


@pytest.mark.parametrize(
    ("fifo", "key", "part"),
    [("no", None, "SendMessageBatch"), ("yes", "a key", "ChangeMessageVisibilityBatch")],
    ids=["standard", "fifo"],
)
def test_nobody_sees_the_parts_of_a_long_delay(
    fifo: str, key: str | None, part: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "MAX_DELAY", 1)
    for module in (anybroker_broker_sqs.broker, received):
        monkeypatch.setattr(module, "MAX_LEASE", 2)
    url = service("sqs").url(prefix=f"d{secrets.token_hex(4)}-", fifo=fifo)
    with closing(SqsBroker.from_url(url)) as broker:
        assert broker.acquire(["later"], limit=1, wait=0.1, lease=1) == []  # creates the queue
        message = Message("1", "later", b"body", datetime.now(UTC) + timedelta(seconds=6), 0, key)
        assert message.eta is not None
        broker.enqueue([message])
        before = calls[part]
        found: list[Delivery] = []

        def is_found() -> bool:
            found.extend(broker.acquire(["later"], limit=2, wait=0.5, lease=30))
            return bool(found)

        until(is_found)
        assert datetime.now(UTC) >= message.eta
        assert calls[part] - before >= 1, "it had one part only"
        assert [(one.message, one.delivery_count) for one in found] == [(message, 1)]
        assert broker.ack(found) == [True]
