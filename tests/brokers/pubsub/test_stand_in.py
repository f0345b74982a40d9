"""The stand-in of the services door for Pub/Sub: what other fakes of it do not do, or do not survive."""

from __future__ import annotations

import secrets
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import grpc
import pytest
from google.api_core.exceptions import InvalidArgument
from google.pubsub_v1 import PublisherClient, PubsubMessage
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from anybroker.broker import Message
from anybroker_broker_pubsub import PubSubBroker
from anybroker_broker_pubsub.later import _hop
from anybroker_conformance.services import Running, running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State
from tests.brokers.pubsub.server import without_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Running]:
    """The stand-in, also where Google's emulator is installed."""
    with without_emulator(), TemporaryDirectory(prefix="pubsub") as parent:
        folder = Path(parent) / "state"
        door = Door(State(folder))
        try:
            assert door.up(["pubsub"], "local")[1] == []
            yield running(folder)["pubsub"]
        finally:
            door.down(["pubsub"])


def _broker(of: Running, *, exactly_once: str = "no") -> PubSubBroker:
    return PubSubBroker.from_url(f"{of.url}&prefix=s{secrets.token_hex(4)}-&exactly_once={exactly_once}")


@pytest.mark.parametrize("exactly_once", ["no", "yes"])
def test_it_survives_leases_of_before_a_restart(stand_in: Running, exactly_once: str) -> None:
    with closing(_broker(stand_in, exactly_once=exactly_once)) as broker:
        broker.enqueue([Message("1", "mail", b"")])
        held = broker.acquire(["mail"], limit=1, wait=5, lease=60)
        stand_in.restart()
        broker.enqueue([Message("2", "mail", b"")])
        broker.extend(held, lease=60)
        broker.ack(held)
        [other] = broker.acquire(["mail"], limit=1, wait=5, lease=60)
        assert other.message.id == "2", "an ack of before the restart is of nothing that is there now"
    assert stand_in.ended == []


def test_it_survives_a_seek_and_forgets_one_subscription_only(stand_in: Running) -> None:
    with closing(_broker(stand_in)) as broker, closing(_broker(stand_in)) as other:
        broker.enqueue([Message("1", "mail", b""), Message("2", "mail", b"")])
        other.enqueue([Message("3", "mail", b"")])
        assert len(broker.acquire(["mail"], limit=1, wait=5, lease=60)) == 1
        broker.clear("mail")
        assert broker.acquire(["mail"], limit=5, wait=0.2, lease=60) == []
        assert [one.message.id for one in other.acquire(["mail"], limit=5, wait=5, lease=60)] == ["3"]
    assert stand_in.ended == []


def test_every_delivery_has_an_ack_id_of_its_own(stand_in: Running) -> None:
    with closing(_broker(stand_in, exactly_once="yes")) as broker:
        broker.enqueue([Message("1", "mail", b"")])
        [first] = broker.acquire(["mail"], limit=1, wait=5, lease=1)
        [second] = broker.acquire(["mail"], limit=1, wait=5, lease=60)
        assert (first.delivery_count, second.delivery_count) == (1, 2)
        assert first.token != second.token
        assert broker.extend([first, second], lease=60) == [False, True]
        assert broker.ack([first, second]) == [False, True]


def test_a_request_with_two_ordering_keys_is_refused(stand_in: Running) -> None:
    """Google forbids it, and so the adapter must not do it; its emulator takes it."""
    channel = grpc.insecure_channel(f"127.0.0.1:{stand_in.ports['grpc']}")
    with PublisherClient(transport=PublisherGrpcTransport(channel=channel)) as publisher:
        topic = f"projects/anybroker/topics/s{secrets.token_hex(4)}"
        publisher.create_topic(name=topic)
        messages = [PubsubMessage(data=b"x", ordering_key=key) for key in "ab"]
        with pytest.raises(InvalidArgument, match="ordering key"):
            publisher.publish(topic=topic, messages=messages)
        assert len(publisher.publish(topic=topic, messages=messages[:1]).message_ids) == 1


def test_what_waits_is_renewed_in_the_time_for_which_it_is_kept(stand_in: Running) -> None:
    """Whoever made the subscription: what it keeps counts, and not what this URL would have made."""
    prefix = f"s{secrets.token_hex(4)}-"
    later = Message("1", "mail", b"", datetime.now(UTC) + timedelta(hours=2))
    urls = (f"{stand_in.url}&prefix={prefix}&retention=10m", f"{stand_in.url}&prefix={prefix}")
    for url in urls:
        with closing(PubSubBroker.from_url(url)) as broker:
            broker.enqueue([later])
            assert broker._here()._topology.retention(f"{prefix}~later") == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("left", "kept", "seconds"),
    [
        (7200.0, timedelta(days=31), 600),
        (7200.0, timedelta(minutes=10), 150),
        (100.0, timedelta(minutes=10), 90),
        (2.0, timedelta(minutes=10), 1),
    ],
)
def test_nothing_is_parked_for_longer_than_it_is_kept(left: float, kept: timedelta, seconds: int) -> None:
    assert _hop(left, kept) == seconds
