"""The embedded stores do not grow with the number of messages and results processed, looked at from inside."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.backend import Result, State
from anybroker.broker import Delivery, Message
from anybroker.clock import ManualClock
from anybroker.memory import MemoryBackend, MemoryBroker

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


CYCLES = 6000
clock = ManualClock()
held: list[Delivery] = []


def work(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message(f"m{number}", f"queue {number}", b"x" * 2000, ordering_key=f"key {number}")])
    broker.ack(broker.acquire([f"queue {number}"], limit=1, wait=0, lease=3600))


def retry(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message(f"m{number}", "q", b"x" * 2000)])
    [taken] = broker.acquire(["q"], limit=1, wait=0, lease=3600)
    broker.update([(taken, msgspec.structs.replace(taken.message, eta=clock.now() + timedelta(seconds=0.5)))])
    clock.advance(1)
    broker.ack(broker.acquire(["q"], limit=1, wait=0, lease=3600))


def extend(broker: MemoryBroker, number: int) -> None:
    """A heartbeat that holds one message for ever."""
    if number == 0:
        broker.enqueue([Message("m", "q", b"")])
        held[:] = broker.acquire(["q"], limit=1, wait=0, lease=60)
    clock.advance(20)
    assert broker.extend(held, lease=60) == [True]
    assert broker.acquire(["q"], limit=1, wait=0, lease=60) == []


def remove_delayed(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message(f"m{number}", "q", b"x" * 2000, eta=clock.now() + timedelta(days=30))])
    assert broker.remove("q", [f"m{number}"]) == [True]


def remove_ready(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message("rock", "q", b"", priority=-5), Message(f"m{number}", "q", b"x" * 2000)])
    assert broker.remove("q", [f"m{number}"]) == [True]


def remove_keyed(broker: MemoryBroker, number: int) -> None:
    key = f"key {number}"
    broker.enqueue([Message("rock", "q", b"", priority=-5), Message(f"m{number}", "q", b"x" * 2000, ordering_key=key)])
    assert broker.remove("q", [f"m{number}"]) == [True]


def revive(broker: MemoryBroker, number: int) -> None:
    """A lease that runs out, is noticed, and is extended after all."""
    if number == 0:
        broker.enqueue([Message("m", "q", b"")])
        held[:] = broker.acquire(["q"], limit=1, wait=0, lease=1)
    clock.advance(2)
    assert broker.stats("q").ready == 1
    assert broker.extend(held, lease=1) == [True]


@pytest.mark.parametrize("cycle", [work, retry, extend, remove_delayed, remove_ready, remove_keyed, revive])
def test_growth__memory_broker(cycle: Callable[[MemoryBroker, int], None]) -> None:
    broker = MemoryBroker(clock=clock)
    threads = threading.active_count()
    for number in range(100):
        cycle(broker, number)

    def run() -> None:
        for number in range(100, CYCLES):
            cycle(broker, number)

    grown = growth(run)
    # one outdated heap item of some 150 bytes each is allowed up to the slack; what each cycle stores is not
    assert grown < 500_000
    queues = broker._store.queues
    assert len(queues.alarms) + sum(len(queue.ready) for queue in queues.by_name.values()) < CYCLES / 2
    assert threading.active_count() <= threads


def growth(run: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    run()
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return current


def test_growth__memory_backend() -> None:
    backend = MemoryBackend(clock=clock)

    def work() -> None:
        for number in range(CYCLES):
            for state in (State.RUNNING, State.SUCCEEDED):
                backend.store([Result(f"r{number}", state, 1, b"x" * 500)], ttl=10)
            token = backend.claim(f"lock {number}", ttl=1000)
            assert token
            assert backend.release(f"lock {number}", token)
            backend.join(f"group {number}", "member", size=1)
            backend.seal(f"group {number}")
            if number % 2:
                backend.forget([f"r{number}"])
            clock.advance(600)

    assert growth(work) < 1_000_000


def test_growth__a_store_is_freed_with_its_last_user() -> None:
    def open_and_leave() -> None:
        for number in range(200):
            broker = MemoryBroker(name=f"n{number}")
            broker.enqueue([Message("m", "q", b"x" * 5000)])
            broker.acquire(["q"], limit=1, wait=0, lease=60)

    assert growth(open_and_leave) < 200 * 5000 / 2
