"""Batches whose settling is interrupted between its two commands, and goes on when it is repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable
from tests.brokers.mongodb.cutting import broker, cut, proxy

if TYPE_CHECKING:
    from anybroker.broker import Delivery
    from anybroker_broker_mongodb import MongoBroker
    from tests.brokers.mongodb.cutting import Cut

__all__ = ["broker", "cut", "proxy"]

pytestmark = [pytest.mark.services, pytest.mark.slow]

NUMBER = 3
"""Messages of a batch."""


def leased(broker: MongoBroker, lease: float = 60) -> list[Delivery]:
    broker.enqueue([Message(f"m{number}", "q", b"old") for number in range(NUMBER)])
    return broker.acquire(["q"], limit=NUMBER, wait=10, lease=lease)


def settle(broker: MongoBroker, verb: str, deliveries: list[Delivery]) -> list[bool]:
    if verb == "ack":
        return broker.ack(deliveries)
    return broker.update([(one, Message(one.message.id, "q", b"new")) for one in deliveries])


def assert_settled(broker: MongoBroker, verb: str) -> None:
    found = broker.acquire(["q"], limit=NUMBER, wait=0 if verb == "ack" else 10, lease=60)
    assert [one.message.body for one in found] == ([] if verb == "ack" else [b"new"] * NUMBER)
    assert broker.stats("q").total == len(found)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("verb", ["ack", "update"])
def test_what_was_interrupted_goes_on_when_it_is_repeated(broker: MongoBroker, cut: Cut, verb: str, after: int) -> None:
    """Else a worker that lost its connection for a moment does all the tasks of a batch again."""
    held = leased(broker)
    cut.after = after
    with pytest.raises(BrokerUnavailable):
        settle(broker, verb, held)
    assert settle(broker, verb, held) == [True] * NUMBER
    assert_settled(broker, verb)
    assert settle(broker, verb, held) == [False] * NUMBER, "it is settled, and was forgotten"


@pytest.mark.parametrize("verb", ["ack", "update"])
def test_it_goes_on_one_by_one(broker: MongoBroker, cut: Cut, verb: str) -> None:
    held = leased(broker)
    cut.after = 1
    with pytest.raises(BrokerUnavailable):
        settle(broker, verb, held)
    assert [settle(broker, verb, [one]) for one in held] == [[True]] * NUMBER
    assert_settled(broker, verb)


@pytest.mark.parametrize("verb", ["ack", "update"])
def test_it_goes_on_again_and_again(broker: MongoBroker, cut: Cut, verb: str) -> None:
    """Also with another batch, and with some that have never been fenced."""
    held = leased(broker)
    for some in (held[:2], held, held, held[1:]):
        cut.after = 1
        with pytest.raises(BrokerUnavailable):
            settle(broker, verb, some)
    assert settle(broker, verb, held) == [True] * NUMBER
    assert_settled(broker, verb)


def assert_nobody_else_gets(broker: MongoBroker, verb: str, held: list[Delivery], *, wait: float) -> None:
    """What a settle that failed halfway has fenced, until it is settled again."""
    with pytest.raises(BrokerUnavailable):
        settle(broker, verb, held)
    assert broker.acquire(["q"], limit=NUMBER, wait=wait, lease=60) == []
    assert settle(broker, verb, held) == [True] * NUMBER
    assert_settled(broker, verb)


@pytest.mark.parametrize("verb", ["ack", "update"])
def test_nobody_gets_what_is_being_settled_although_its_lease_has_ended(
    broker: MongoBroker, cut: Cut, verb: str
) -> None:
    """Not as long as a command may take that ended with a time-out."""
    held = leased(broker, lease=1)
    cut.after = 1
    assert_nobody_else_gets(broker, verb, held, wait=2)


@pytest.mark.parametrize("verb", ["ack", "update"])
def test_nor_does_anybody_whose_server_says_that_a_lease_has_ended_which_should_last(
    broker: MongoBroker, cut: Cut, verb: str
) -> None:
    """Its clock is what counts, were it set forward meanwhile."""
    held = leased(broker)
    broker._messages().update_many({"_id": {"$ne": "m0"}}, {"$set": {"due": datetime(2020, 1, 1, tzinfo=UTC)}})
    cut.after = 2
    assert_nobody_else_gets(broker, verb, held, wait=0)


@pytest.mark.parametrize("verb", ["ack", "update"])
@pytest.mark.parametrize("after", [0, 1])
def test_its_leases_are_held_meanwhile(broker: MongoBroker, cut: Cut, verb: str, after: int) -> None:
    """As a worker does while it waits for the server, whether they have been fenced or not."""
    held = leased(broker)
    cut.after = after
    with pytest.raises(BrokerUnavailable):
        settle(broker, verb, held)
    assert broker.extend(held, lease=60) == [True] * NUMBER
    assert settle(broker, verb, held[1:]) == [True] * (NUMBER - 1)
    assert broker.extend(held, lease=60) == [True, *[False] * (NUMBER - 1)]
    assert settle(broker, verb, held[:1]) == [True]
    assert_settled(broker, verb)


def test_what_others_have_got_meanwhile_is_theirs(broker: MongoBroker, cut: Cut) -> None:
    held = leased(broker)
    cut.after = 1
    with pytest.raises(BrokerUnavailable):
        broker.ack(held)
    collection = broker._messages()
    collection.update_many({}, {"$set": {"state": "ready"}})  # as if all the time had passed
    theirs = broker.acquire(["q"], limit=2, wait=10, lease=60)
    assert len(theirs) == 2
    assert broker.ack(held) == [False, False, True]
    assert broker.ack(theirs) == [True, True]
    assert not broker._unsettled
