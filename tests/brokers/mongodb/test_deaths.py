"""A process that dies before any of the commands of a call loses no message and leaves no second one."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Message
from anybroker_broker_mongodb import MongoBroker
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.broker import Delivery
    from tests.brokers.mongodb.dying import Deaths

pytestmark = [pytest.mark.services, pytest.mark.slow]

LEASE = 0.3
NUMBER = 3
"""Messages of a batch."""


@pytest.fixture
def broker(deaths: Deaths) -> Iterator[MongoBroker]:  # noqa: ARG001  it makes the calls of the broker die
    with closing(MongoBroker.from_url(service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-"))) as broker:
        broker.queues()
        yield broker


def batch(queue: str, body: bytes = b"old") -> list[Message]:
    return [Message(f"{queue}.{number}", queue, body) for number in range(NUMBER)]


def leased(broker: MongoBroker, queue: str) -> list[Delivery]:
    broker.enqueue(batch(queue))
    return broker.acquire([queue], limit=NUMBER, wait=0, lease=LEASE)


def update(broker: MongoBroker, queue: str) -> list[bool]:
    return broker.update([(held, Message(held.message.id, queue, b"new")) for held in leased(broker, queue)])


CALLS = {
    "enqueue": lambda broker, queue: broker.enqueue(batch(queue)),
    "acquire": leased,
    "extend": lambda broker, queue: broker.extend(leased(broker, queue), lease=LEASE),
    "ack": lambda broker, queue: broker.ack(leased(broker, queue)),
    "update": update,
}


@pytest.mark.parametrize("verb", CALLS)
def test_a_call_that_was_interrupted_has_lost_nothing(deaths: Deaths, broker: MongoBroker, verb: str) -> None:
    """Whoever enqueues again, as one does who has not heard, finds each message delivered once, with one version."""
    died = list(deaths.before_each_command(lambda queue: CALLS[verb](broker, queue)))
    assert len(died) >= {"enqueue": 1, "acquire": 3, "extend": 4, "ack": 5, "update": 5}[verb]
    for queue in died:
        broker.enqueue(batch(queue))
        found: list[Message] = []
        while taken := broker.acquire([queue], limit=NUMBER, wait=0 if len(found) == NUMBER else 60, lease=60):
            found += [one.message for one in taken]
        assert sorted(found, key=lambda one: one.id) == batch(queue)
        assert broker.stats(queue).total == NUMBER
