"""Law 1: after enqueue returns, the message is delivered at least once, through the death of consumers."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker, Peer


def test_law01_durable__another_object_gets_it(
    broker: Broker, another: Callable[[], FullBroker], make: Callable[..., Message]
) -> None:
    message = make(body=b"kept")
    broker.enqueue([message])
    [delivery] = another().acquire(["q"], limit=5, wait=0, lease=60)
    assert delivery.message == message


def test_law01_durable__every_message_of_a_large_batch(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    messages = [make() for _ in range(1500)]
    broker.enqueue(messages)
    taken = broker.acquire(["q"], limit=2000, wait=0, lease=60)
    taken += take(1500 - len(taken))
    assert sorted(one.message.id for one in taken) == sorted(message.id for message in messages)


def test_law01_durable__empty_sequences_are_no_error(broker: Broker) -> None:
    broker.enqueue([])
    assert broker.ack([]) == []
    assert broker.update([]) == []
    assert broker.extend([], lease=5) == []
    assert broker.acquire([], limit=5, wait=0, lease=5) == []


@pytest.mark.parametrize("limit", [0, -1])
def test_law01_durable__a_limit_of_nothing_takes_nothing(
    broker: Broker, make: Callable[..., Message], limit: int
) -> None:
    broker.enqueue([make()])
    assert broker.acquire(["q"], limit=limit, wait=5, lease=5) == []
    assert len(broker.acquire(["q"], limit=1, wait=5, lease=5)) == 1


def test_law01_durable__through_the_death_of_the_holder(
    shared: Broker, peer: Callable[[], Peer], make: Callable[..., Message]
) -> None:
    messages = [make() for _ in range(3)]
    shared.enqueue(messages)
    holder = peer()
    assert len(holder.call("acquire", "q", 3, 1, 0.5)) == 3
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait()
    back: list[Delivery] = []
    while len(back) < 3:
        taken = shared.acquire(["q"], limit=3, wait=10, lease=60)
        assert taken, "the messages of the dead holder never came back"
        back += taken
    assert {one.message for one in back} == set(messages)
    assert {one.delivery_count for one in back} == {2}
