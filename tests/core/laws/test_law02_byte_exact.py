"""Law 2: id, body and fields come back as they went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anybroker.broker import Message
from anybroker.errors import MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery
    from tests.core.laws.conftest import FullBroker, Subject

BODIES = [
    b"",
    b"\0",
    bytes(range(256)),
    bytes(range(255, -1, -1)) * 300,
    b"\xff\xfe\0\0",
    "pâté 🥧".encode(),
    b"'\"\\;--\n",
]
TEXTS = [
    "x",
    "ünïcode",
    "🦊" * 40,
    "a b\tc\nd",
    "'; DROP TABLE messages; --",
    '"quoted"',
    "{}:*?[a]/\\%_",
    "\0nul\0",
    "日本語",
]
ZONE = timezone(timedelta(hours=5, minutes=45), "Kathmandu")


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_law02_byte_exact__bodies(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]], body: bytes
) -> None:
    broker.enqueue([make(body=body)])
    [delivery] = take()
    assert delivery.message.body == body
    assert type(delivery.message.body) is bytes


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_law02_byte_exact__texts(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]], text: str
) -> None:
    message = make(text, id=text, ordering_key=text)
    broker.enqueue([message])
    assert [one.message for one in take(1, text)] == [message]


@pytest.mark.parametrize("priority", [-(2**31), -7, 0, 1, 255, 2**31 - 1])
def test_law02_byte_exact__priorities(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]], priority: int
) -> None:
    broker.enqueue([make(priority=priority)])
    assert take()[0].message.priority == priority


@pytest.mark.parametrize(
    "eta",
    [
        datetime(2020, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1999, 12, 31, 0, 0, 0, 1, tzinfo=ZONE),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 7, 20, 20, 17, 40, 500_001, tzinfo=timezone(timedelta(hours=-11))),
    ],
    ids=str,
)
def test_law02_byte_exact__eta(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]], eta: datetime
) -> None:
    message = make(eta=eta)
    broker.enqueue([message])
    [delivery] = take()
    assert delivery.message.eta == eta
    assert delivery.message.eta is not None
    assert delivery.message.eta.utcoffset() is not None


def test_law02_byte_exact__update_and_peek_too(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make(body=b"old")])
    [delivery] = take()
    new = msgspec.structs.replace(delivery.message, body=bytes(range(256)), priority=-9, ordering_key="schlüssel")
    assert broker.update([(delivery, new)]) == [True]
    assert broker.peek("q") == [new]
    assert take()[0].message == new


def test_law02_byte_exact__the_largest_body_and_one_byte_more(subject: Subject, make: Callable[..., Message]) -> None:
    broker = subject.broker(max_body=1000)
    assert broker.capabilities.max_body == 1000
    largest = make(body=b"\xa5" * 1000)
    broker.enqueue([largest])
    with pytest.raises(MessageTooLarge):
        broker.enqueue([make(), make(body=b"\xa5" * 1001)])
    [delivery] = broker.acquire(["q"], limit=5, wait=1, lease=60)
    assert delivery.message == largest, "something was stored although the call was refused"
    with pytest.raises(MessageTooLarge):
        broker.update([(delivery, msgspec.structs.replace(largest, body=b"\xa5" * 1001))])
    assert broker.ack([delivery]) == [True], "the refused update has taken the lease"


def test_law02_byte_exact__a_large_body(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    body = bytes(range(256)) * (4 * 4096)
    broker.enqueue([make(body=body)])
    assert take()[0].message.body == body


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)
ETA = st.datetimes(max_value=datetime(2020, 1, 1), timezones=st.just(UTC) | st.just(ZONE))  # noqa: DTZ001
PRIORITY = st.integers(-(2**31), 2**31 - 1)
MESSAGES = st.tuples(TEXT, TEXT, st.binary(max_size=300), st.none() | ETA, PRIORITY, st.none() | TEXT).map(
    lambda fields: Message(*fields)
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=MESSAGES)
def test_law02_byte_exact__anything(broker: Broker, message: Message) -> None:
    broker.enqueue([message])
    deliveries = broker.acquire([message.queue], limit=1, wait=0, lease=60)
    assert broker.ack(deliveries) == [True]
    assert deliveries[0].message == message
