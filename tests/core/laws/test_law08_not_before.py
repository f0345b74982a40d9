"""Law 8: no message is delivered before its eta; it is delivered soon after, and blocks none behind it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from anybroker.clock import ManualClock
from anybroker.memory import MemoryBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker

SLOW_MACHINE = 1.0
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize("seconds", [0.000001, 0.001, 1, 59.999999, 3600, 86400, 15 * 60 + 0.5, 30 * 86400])
def test_law08_not_before__to_the_microsecond(make: Callable[..., Message], seconds: float) -> None:
    clock = ManualClock(datetime(2031, 5, 17, 11, 22, 33, 123_457, tzinfo=UTC))
    broker = MemoryBroker(clock=clock)
    delay = timedelta(seconds=seconds)
    broker.enqueue([make(eta=clock.now() + delay)])
    assert broker.acquire(["q"], limit=1, wait=0, lease=60) == []
    clock.advance(delay - MICROSECOND)
    assert broker.acquire(["q"], limit=1, wait=0, lease=60) == []
    clock.advance(MICROSECOND)
    assert len(broker.acquire(["q"], limit=1, wait=0, lease=60)) == 1


@pytest.mark.parametrize("microseconds", [1, 500, 999, 1000, 1001, 100_499, 100_501, 123_456])
def test_law08_not_before__by_the_clock_on_the_wall(
    realtime: Broker, make: Callable[..., Message], microseconds: int
) -> None:
    eta = datetime.now(UTC) + timedelta(milliseconds=50, microseconds=microseconds)
    realtime.enqueue([make(eta=eta.astimezone(timezone(timedelta(hours=-9, minutes=-30))))])
    [delivery] = realtime.acquire(["q"], limit=1, wait=10, lease=60)
    arrived = datetime.now(UTC)
    assert delivery.message.eta == eta
    late = (arrived - eta).total_seconds()
    assert 0 <= late <= realtime.capabilities.delay_precision + SLOW_MACHINE


@pytest.mark.parametrize("days", [0.1, 1, 30])
def test_law08_not_before__a_long_delay_waits_in_the_broker(
    broker: FullBroker,
    another: Callable[[], FullBroker],
    make: Callable[..., Message],
    now: Callable[[], datetime],
    assert_idle: Callable[..., None],
    days: float,
) -> None:
    message = make(eta=now() + timedelta(days=days))
    broker.enqueue([message])
    assert_idle("q")
    assert another().stats("q").delayed == 1
    assert another().peek("q") == [message]


def test_law08_not_before__blocks_none_behind_it(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    assert_idle: Callable[..., None],
) -> None:
    later = now() + timedelta(days=1)
    broker.enqueue([*(make(eta=later, priority=9) for _ in range(300)), make(id="due"), make(eta=later)])
    assert take()[0].message.id == "due"
    assert_idle("q")
    stats = broker.stats("q")
    assert (stats.ready, stats.leased, stats.delayed) == (0, 1, 301)


def test_law08_not_before__a_moment_that_has_passed_is_now(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]], now: Callable[[], datetime]
) -> None:
    messages = [make(eta=now() - timedelta(days=400)), make(eta=now()), make()]
    broker.enqueue(messages)
    assert [one.message for one in take(3)] == messages
    assert broker.stats("q").oldest is None


def test_law08_not_before__due_messages_keep_their_places(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
) -> None:
    soon = now() + timedelta(seconds=short)
    broker.enqueue([make(id="1", eta=soon), make(id="2", eta=soon - timedelta(seconds=short / 2)), make(id="3")])
    advance(short * 1.2)
    assert [one.message.id for one in take(3)] == ["1", "2", "3"]


def test_law08_not_before__many_come_due_at_once(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
) -> None:
    soon = now() + timedelta(seconds=short)
    broker.enqueue([make(eta=soon) for _ in range(2500)])
    advance(short * 1.2)
    taken = broker.acquire(["q"], limit=1500, wait=0, lease=600)
    taken += take(2500 - len(taken), lease=600)
    assert len({one.message.id for one in taken}) == 2500


def test_law08_not_before__a_waiting_consumer_gets_the_earlier_of_two(
    realtime: Broker, make: Callable[..., Message]
) -> None:
    start = datetime.now(UTC)
    realtime.enqueue([make(id="late", eta=start + timedelta(seconds=60))])
    realtime.enqueue([make(id="soon", eta=start + timedelta(seconds=0.1))])
    started = time.monotonic()
    [delivery] = realtime.acquire(["q"], limit=1, wait=20, lease=60)
    assert delivery.message.id == "soon"
    assert time.monotonic() - started < 5
