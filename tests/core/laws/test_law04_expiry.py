"""Law 4: a message whose lease runs out, or whose holder dies, is available again, with delivery_count one higher."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker, Peer

SLOW_MACHINE = 1.0
"""Seconds that a loaded machine may add to a declared bound."""


def test_law04_expiry__counts_deliveries(
    broker: Broker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    broker.enqueue([make()])
    for expected in (1, 2, 3):
        [delivery] = take(lease=short)
        assert delivery.delivery_count == expected
        advance(short * 1.2)


def test_law04_expiry__lease_until_tells_when(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]], now: Callable[[], datetime]
) -> None:
    broker.enqueue([make()])
    before = now()
    [delivery] = take(lease=600)
    assert delivery.lease_until.utcoffset() is not None
    assert (delivery.lease_until - before).total_seconds() >= 599.9
    assert (delivery.lease_until - now()).total_seconds() <= 600.1


def test_law04_expiry__within_the_bound(realtime: Broker, make: Callable[..., Message]) -> None:
    realtime.enqueue([make()])
    realtime.acquire(["q"], limit=1, wait=0, lease=0.3)
    started = time.monotonic()
    assert len(realtime.acquire(["q"], limit=1, wait=10, lease=60)) == 1
    assert time.monotonic() - started <= 0.3 + realtime.capabilities.expiry_bound + SLOW_MACHINE


def test_law04_expiry__a_message_that_comes_back_keeps_its_place(
    broker: Broker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    messages = [make() for _ in range(3)]
    broker.enqueue(messages)
    take(lease=short)
    advance(short * 1.2)
    assert [one.message for one in take(3)] == messages


def test_law04_expiry__close_gives_back_at_once(
    broker: Broker, another: Callable[[], FullBroker], make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    messages = [make(), make()]
    broker.enqueue(messages)
    leaver = another()
    assert len(leaver.acquire(["q"], limit=1, wait=0, lease=6000)) == 1
    leaver.close()
    leaver.close()
    assert [one.message for one in take(2)] == messages


def test_law04_expiry__close_leaves_what_others_hold(
    broker: Broker, another: Callable[[], FullBroker], make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make()])
    held = take()
    another().close()
    assert broker.ack(held) == [True]


def test_law04_expiry__close_does_not_undo_an_ack(
    broker: Broker, another: Callable[[], FullBroker], make: Callable[..., Message], assert_idle: Callable[..., None]
) -> None:
    broker.enqueue([make()])
    leaver = another()
    assert leaver.ack(leaver.acquire(["q"], limit=1, wait=0, lease=6000)) == [True]
    leaver.close()
    assert_idle("q")


def test_law04_expiry__a_stopped_process_loses_its_lease(
    shared: Broker, peer: Callable[[], Peer], make: Callable[..., Message]
) -> None:
    shared.enqueue([make()])
    assert len(peer().call("acquire", "q", 1, 1, 0.3)) == 1
    [delivery] = shared.acquire(["q"], limit=1, wait=10, lease=60)
    assert delivery.delivery_count == 2
