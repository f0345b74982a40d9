"""Which queues SQS has, by their names and tags; laws prove the rest of an overview."""

from __future__ import annotations

import secrets
from contextlib import closing

import pytest

from anybroker.broker import Estimate, Message
from anybroker_broker_sqs import SqsBroker
from tests.live import service

pytestmark = [pytest.mark.services, pytest.mark.slow]

NAMES = ["mail", "mail.dead", "ünïcödé 🦊", "🦊" * 80]


def test_queues_of_any_name_are_known_by_their_prefix() -> None:
    prefix = f"o{secrets.token_hex(4)}-"
    with (
        closing(SqsBroker.from_url(service("sqs").url(prefix=prefix))) as broker,
        closing(SqsBroker.from_url(service("sqs").url(prefix=prefix, fifo="yes"))) as fifo,
        closing(SqsBroker.from_url(service("sqs").url(prefix=f"{prefix}x-"))) as other,
    ):
        for number, name in enumerate(NAMES):
            broker.enqueue([Message(f"{number}", name, b"")])
        fifo.enqueue([Message("f", "line.of.one", b"")])
        assert broker.known_queues() == sorted(NAMES)
        assert fifo.known_queues() == ["line.of.one"]
        assert fifo.estimate("line.of.one") == Estimate(ready=1)
        assert other.known_queues() == []
        assert other.estimate("mail") == Estimate(ready=0)
        other.clear("mail")
        assert broker.estimate("mail").ready == 1
