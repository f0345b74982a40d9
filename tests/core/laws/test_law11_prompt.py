"""Law 11: an idle acquire wakes when a message arrives, returns within ``wait``, and never busy-loops."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.clock import ManualClock
from anybroker.memory import MemoryBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker, Peer

SLOW_MACHINE = 0.5
"""Seconds that a loaded machine may add to a declared bound."""
LONG = 30.0
replace = msgspec.structs.replace


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wake_time(pool: ThreadPoolExecutor, broker: Broker, cause: Callable[[], object], queues: list[str]) -> float:
    """Seconds from ``cause`` until an acquire that was waiting for it returns with a message."""
    waiting = threading.Event()

    def acquire() -> tuple[list[Delivery], float]:
        waiting.set()
        taken = broker.acquire(queues, limit=5, wait=LONG, lease=60)
        return taken, time.monotonic()

    future = pool.submit(acquire)
    waiting.wait(LONG)
    time.sleep(0.05)  # deep enough in its wait for this to be about waking up; nothing depends on it
    started = time.monotonic()
    cause()
    taken, woken = future.result(LONG)
    assert len(taken) == 1
    return woken - started


def test_law11_prompt__wakes_for_a_new_message(
    realtime: Broker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    bound = realtime.capabilities.wake_bound + SLOW_MACHINE
    assert wake_time(pool, realtime, lambda: realtime.enqueue([make()]), ["q"]) <= bound
    assert wake_time(pool, realtime, lambda: realtime.enqueue([make("second")]), ["first", "second"]) <= bound


def test_law11_prompt__wakes_for_a_message_that_was_given_back(
    realtime: Broker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    realtime.enqueue([make()])
    [held] = realtime.acquire(["q"], limit=1, wait=0, lease=LONG)
    assert wake_time(pool, realtime, lambda: realtime.update([(held, held.message)]), ["q"]) <= (
        realtime.capabilities.wake_bound + SLOW_MACHINE
    )


def test_law11_prompt__wakes_for_an_eta_that_was_moved_forward(
    realtime: Broker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    realtime.enqueue([make()])
    [held] = realtime.acquire(["q"], limit=1, wait=0, lease=LONG)
    soon = replace(held.message, eta=datetime.now(UTC) + timedelta(seconds=0.3))
    taken = wake_time(pool, realtime, lambda: realtime.update([(held, soon)]), ["q"])
    assert taken <= 0.3 + realtime.capabilities.delay_precision + SLOW_MACHINE


def test_law11_prompt__wakes_for_the_next_of_an_ordering_key(
    realtime: Broker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    realtime.enqueue([make(ordering_key="k"), make(ordering_key="k")])
    held = realtime.acquire(["q"], limit=1, wait=0, lease=LONG)
    assert wake_time(pool, realtime, lambda: realtime.ack(held), ["q"]) <= (
        realtime.capabilities.wake_bound + SLOW_MACHINE
    )


def test_law11_prompt__wakes_when_removing_a_message_unblocks_the_next(
    realtime: FullBroker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    realtime.enqueue([make(id="x", ordering_key="k", eta=later), make(ordering_key="k")])
    assert wake_time(pool, realtime, lambda: realtime.remove("q", ["x"]), ["q"]) <= (
        realtime.capabilities.wake_bound + SLOW_MACHINE
    )


def test_law11_prompt__wakes_for_a_lease_that_was_shortened(
    realtime: Broker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    realtime.enqueue([make()])
    held = realtime.acquire(["q"], limit=1, wait=0, lease=LONG)
    taken = wake_time(pool, realtime, lambda: realtime.extend(held, lease=0.1), ["q"])
    assert taken <= 0.1 + realtime.capabilities.expiry_bound + SLOW_MACHINE


def test_law11_prompt__wakes_in_another_process(
    shared: Broker, peer: Callable[[], Peer], make: Callable[..., Message]
) -> None:
    waiter = peer()
    waiter.ask("acquire", "q", 1, LONG, 60)
    time.sleep(0.2)  # idle for a while, so that an adaptive wait has backed off; nothing depends on it
    message = make()
    shared.enqueue([message])
    started = time.monotonic()
    assert waiter.answer() == [message.id]
    assert time.monotonic() - started <= shared.capabilities.wake_bound + SLOW_MACHINE


@pytest.mark.parametrize("wait", [0.0, 0.001, 0.2])
def test_law11_prompt__returns_within_the_wait(realtime: Broker, wait: float) -> None:
    started = time.monotonic()
    assert realtime.acquire(["q"], limit=1, wait=wait, lease=60) == []
    elapsed = time.monotonic() - started
    assert wait * 0.9 <= elapsed <= wait + realtime.capabilities.wait_slack + SLOW_MACHINE


def test_law11_prompt__never_waits_once_it_has_one(realtime: Broker, make: Callable[..., Message]) -> None:
    realtime.enqueue([make(), make()])
    started = time.monotonic()
    assert len(realtime.acquire(["q"], limit=100, wait=LONG, lease=60)) == 2
    assert time.monotonic() - started < LONG / 2


def test_law11_prompt__messages_of_other_queues_do_not_end_the_wait(
    realtime: Broker, pool: ThreadPoolExecutor, make: Callable[..., Message]
) -> None:
    future = pool.submit(realtime.acquire, ["q"], limit=1, wait=LONG, lease=60)
    realtime.enqueue([make("other") for _ in range(50)])
    message = make()
    realtime.enqueue([message])
    assert [one.message for one in future.result(LONG)] == [message]


def test_law11_prompt__never_busy_loops(realtime: Broker, make: Callable[..., Message]) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    realtime.enqueue([make(eta=later), make("held"), make(ordering_key="k"), make(ordering_key="k")])
    realtime.acquire(["held", "q"], limit=5, wait=0, lease=600)
    before, started = time.thread_time(), time.monotonic()
    realtime.acquire(["q", "held"], limit=1, wait=1, lease=60)
    assert (time.thread_time() - before) / (time.monotonic() - started) < 0.05


def test_law11_prompt__close_ends_the_wait(realtime: Broker, pool: ThreadPoolExecutor) -> None:
    future = pool.submit(realtime.acquire, ["q"], limit=1, wait=LONG, lease=60)
    while future.running() is False:
        assert not future.done()
    started = time.monotonic()
    time.sleep(0.05)  # nothing depends on it: see wake_time
    realtime.close()
    assert future.result(LONG) == []
    assert time.monotonic() - started < LONG / 2


def advance_until(clock: ManualClock, future: Future[list[Delivery]]) -> list[Delivery]:
    """Move the clock hour by hour until an acquire that waits by it returns."""
    deadline = time.monotonic() + LONG
    while not future.done():
        assert time.monotonic() < deadline, "the clock has woken nobody"
        clock.advance(timedelta(hours=1))
    return future.result()


def test_law11_prompt__waits_by_the_injected_clock(pool: ThreadPoolExecutor, make: Callable[..., Message]) -> None:
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    in_vain = pool.submit(broker.acquire, ["q"], limit=1, wait=30 * 86400, lease=60)
    assert advance_until(clock, in_vain) == []
    eta = clock.now() + timedelta(days=2)
    broker.enqueue([make(eta=eta)])
    lucky = pool.submit(broker.acquire, ["q"], limit=1, wait=float("inf"), lease=60)
    [delivery] = advance_until(clock, lucky)
    assert delivery.lease_until - timedelta(seconds=60) >= eta
