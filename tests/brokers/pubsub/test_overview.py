"""Which queues Pub/Sub has, by their names and labels; laws prove the rest of an overview."""

from __future__ import annotations

import secrets
from contextlib import closing
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import pytest

from anybroker.broker import Estimate, Message
from anybroker_broker_pubsub import PubSubBroker
from tests.brokers.pubsub.server import pubsub

pytestmark = [pytest.mark.services, pytest.mark.slow]

NAMES = ["mail", "mail.dead", "ünïcödé 🦊", "🦊" * 80, "~later"]


def test_queues_of_any_name_are_known_by_their_prefix() -> None:
    prefix = f"o{secrets.token_hex(4)}-"
    with (
        closing(PubSubBroker.from_url(f"{pubsub.running.url}&prefix={prefix}")) as broker,
        closing(PubSubBroker.from_url(f"{pubsub.running.url}&prefix={prefix}x-")) as other,
    ):
        later = datetime.now(UTC) + timedelta(days=1)
        broker.enqueue([Message(f"{number}", name, b"") for number, name in enumerate(NAMES)])
        broker.enqueue([Message("later", "mail", b"", eta=later)])
        assert broker.known_queues() == sorted(NAMES)
        assert other.known_queues() == []
        assert broker.estimate("mail") == Estimate()
        other.clear("mail")
        assert len(broker.acquire(["mail"], limit=1, wait=5, lease=10)) == 1


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(hours=1)], ids=["behind", "ahead"])
def test_a_queue_is_cleared_whatever_the_time_is_here(off: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + off

    monkeypatch.setattr("anybroker_broker_pubsub.overview.datetime", Wrong)
    prefix = f"o{secrets.token_hex(4)}-"
    with closing(PubSubBroker.from_url(f"{pubsub.running.url}&prefix={prefix}")) as broker:
        broker.enqueue([Message("before", "mail", b"")])
        broker.clear("mail")
        broker.enqueue([Message("after", "mail", b"")])
        [found] = broker.acquire(["mail"], limit=5, wait=60, lease=60)
        assert found.message.id == "after"
        assert broker.known_queues() == ["mail"]
