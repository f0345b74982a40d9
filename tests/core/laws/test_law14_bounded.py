"""Law 14: memory, queues, keys and threads do not grow with the number of messages processed."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.clock import ManualClock
from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker.backend import Result, State
from anybroker.broker import Message

if TYPE_CHECKING:
    from collections.abc import Callable

CYCLES = 6000
clock = ManualClock()


def work(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message(f"m{number}", f"queue {number}", b"x" * 2000, ordering_key=f"key {number}")])
    [held] = broker.acquire([f"queue {number}"], limit=1, wait=0, lease=3600)
    broker.ack([held])


def retry(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message(f"m{number}", "q", b"x" * 2000)])
    [held] = broker.acquire(["q"], limit=1, wait=0, lease=3600)
    broker.update([(held, msgspec.structs.replace(held.message, eta=clock.now() + timedelta(seconds=0.5)))])
    clock.advance(1)
    broker.ack(broker.acquire(["q"], limit=1, wait=0, lease=3600))


def extend(broker: MemoryBroker, number: int) -> None:
    if number == 0:
        broker.enqueue([Message("m", "q", b"")])
        broker.acquire(["q"], limit=1, wait=0, lease=60)
    broker.extend([], lease=60)
    held = [entry for entry in broker._store.queues.leases.values()]
    assert len(held) == 1
    clock.advance(20)
    broker._store.queues.extend(held[0], clock.time() + 60)
    broker.acquire(["q"], limit=1, wait=0, lease=60)


def remove_delayed(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message(f"m{number}", "q", b"x" * 2000, eta=clock.now() + timedelta(days=30))])
    assert broker.remove("q", [f"m{number}"]) == [True]


def remove_ready(broker: MemoryBroker, number: int) -> None:
    broker.enqueue([Message("rock", "q", b"", priority=-5), Message(f"m{number}", "q", b"x" * 2000)])
    assert broker.remove("q", [f"m{number}"]) == [True]


def revive(broker: MemoryBroker, number: int) -> None:
    """A lease that runs out, is noticed, and is extended after all."""
    if number == 0:
        broker.enqueue([Message("m", "q", b"")])
        revive.held = broker.acquire(["q"], limit=1, wait=0, lease=1)  # type: ignore[attr-defined]
    clock.advance(2)
    assert broker.stats("q").ready == 1
    assert broker.extend(revive.held, lease=1) == [True]  # type: ignore[attr-defined]


@pytest.mark.parametrize("cycle", [work, retry, extend, remove_delayed, remove_ready, revive])
def test_law14_bounded__memory_broker(cycle: Callable[[MemoryBroker, int], None]) -> None:
    broker = MemoryBroker(clock=clock)
    for number in range(100):
        cycle(broker, number)
    grown = growth(lambda: [cycle(broker, number) for number in range(100, CYCLES)])
    # one outdated heap item of some 150 bytes each is allowed up to the slack; what each cycle stores is not
    assert grown < 500_000
    assert threading.active_count() < 20


def growth(run: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    run()
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return current


def test_law14_bounded__memory_backend() -> None:
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


def test_law14_bounded__a_store_is_freed_with_its_last_user() -> None:
    before = growth(lambda: None)
    grown = growth(lambda: [MemoryBroker(name=f"n{n}").enqueue([Message("m", "q", b"x" * 5000)]) for n in range(200)])
    assert grown - before < 200 * 5000 / 2
    assert sys.getrefcount(clock) < 1000
