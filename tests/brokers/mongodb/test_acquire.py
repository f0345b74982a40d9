"""What an ``acquire`` of several queues brings, when it is interrupted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable
from tests.brokers.mongodb.cutting import broker, cut, proxy

if TYPE_CHECKING:
    from anybroker_broker_mongodb import MongoBroker
    from tests.brokers.mongodb.cutting import Cut

__all__ = ["broker", "cut", "proxy"]

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_what_earlier_queues_have_brought_is_delivered(broker: MongoBroker, cut: Cut) -> None:
    """Though the connection breaks while messages of the next queue are leased. Else both are held by nobody."""
    broker.enqueue([Message("1", "a", b""), Message("2", "b", b"")])
    broker._idle, broker._promoted["a", "b"] = False, time.monotonic() + 60  # it looks for nothing but messages
    cut.commands, cut.after = {"update"}, 1
    taken = broker.acquire(["a", "b"], limit=2, wait=0, lease=60)
    assert [one.message.id for one in taken] == ["1"]
    assert broker.ack(taken) == [True]


def test_one_that_has_brought_nothing_says_that_it_was_interrupted(broker: MongoBroker, cut: Cut) -> None:
    broker.enqueue([Message("2", "b", b"")])
    broker._idle, broker._promoted["a", "b"] = False, time.monotonic() + 60
    cut.commands, cut.after = {"update"}, 0
    with pytest.raises(BrokerUnavailable):
        broker.acquire(["a", "b"], limit=2, wait=0, lease=60)
