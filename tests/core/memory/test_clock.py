from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from anybroker.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_tells_one_time_in_two_forms() -> None:
    clock = SystemClock()
    assert abs(clock.now().timestamp() - clock.time()) < 5
    assert clock.now().tzinfo is UTC


def test_the_system_clock_waits_no_longer_than_it_can() -> None:
    clock, condition = SystemClock(), threading.Condition()
    threading.Timer(0.01, lambda: notify(condition)).start()
    with condition:
        clock.wait(condition, float("inf"))
        clock.wait(condition, 0)


def notify(condition: threading.Condition) -> None:
    with condition:
        condition.notify_all()


def test_a_manual_clock_moves_only_when_it_is_moved() -> None:
    start = datetime(2031, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    clock = ManualClock(start)
    assert clock.now() == start
    clock.advance(0.5)
    clock.advance(timedelta(days=2))
    assert clock.now() == start + timedelta(days=2, seconds=0.5)
    assert clock.now().tzinfo is UTC
    assert clock.time() == clock.now().timestamp()


def test_a_manual_clock_does_not_go_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        ManualClock().advance(-1)


def wait_until(clock: Clock, condition: threading.Condition, moment: float) -> None:
    with condition:
        while clock.time() < moment:
            clock.wait(condition, moment - clock.time())


def test_a_manual_clock_wakes_everybody_who_waits_by_it() -> None:
    clock = ManualClock()
    moment = clock.time() + 3600
    waiters = [threading.Thread(target=wait_until, args=(clock, threading.Condition(), moment)) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    clock.advance(3600)  # before, while or after they begin to wait
    deadline = time.monotonic() + 20
    for waiter in waiters:
        waiter.join(deadline - time.monotonic())
        assert not waiter.is_alive()
