"""How many messages a worker takes in advance."""

from __future__ import annotations

import pytest

from anybroker.broker import Delivery, Message
from anybroker.clock import SystemClock
from anybroker.worker import pace
from anybroker.worker.pace import MAX_PREFETCH, Pace

CONCURRENCY = 4


class Time:
    """A monotonic clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(pace, "time", time)
    return time


def deliveries(number: int) -> list[Delivery]:
    now = SystemClock().now()
    return [Delivery(Message(str(n), "q", b""), None, 1, now) for n in range(number)]


def work(time: Time, taken: Pace, *, acquire: float, rounds: int) -> float:
    """Take what there is room for, which takes so long, and finish it in no time; returns tasks a second."""
    began, done = time.now, 0
    for _ in range(rounds):
        room = CONCURRENCY + taken.prefetch()
        time.now += acquire
        taken.took(deliveries(room), acquire)
        taken.finished(room)
        done += room
    return done / (time.now - began)


@pytest.mark.parametrize("acquire", [0.001, 0.05, 0.2])
def test_a_slow_broker_is_asked_for_more_at_a_time(time: Time, acquire: float) -> None:
    taken = Pace()
    work(time, taken, acquire=acquire, rounds=100)
    assert work(time, taken, acquire=acquire, rounds=10) > MAX_PREFETCH * 0.9 / acquire


def test_having_waited_for_a_message_is_not_slowness(time: Time) -> None:
    taken = Pace()
    for _ in range(200):  # six tasks at once, every half of a second, and a task takes half of a second
        time.now += 0.5
        taken.took(deliveries(1), 0.5)
        taken.took(deliveries(5), 0.002)
        taken.finished(6)
    assert taken.prefetch() == 0


def test_nothing_is_taken_in_advance_after_a_rest(time: Time) -> None:
    taken = Pace()
    work(time, taken, acquire=0.05, rounds=100)
    time.now += 2
    assert taken.prefetch() == 0


def test_bodies_without_a_byte_are_no_end_of_a_worker(time: Time) -> None:
    """A program that sends them for long makes their mean size vanish."""
    taken = Pace()
    work(time, taken, acquire=0.001, rounds=1200)
    assert 0 < taken.prefetch() <= MAX_PREFETCH
