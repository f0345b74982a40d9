"""A memory broker waits by the clock that it was given."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

from anybroker.broker import Delivery, Message
from anybroker.clock import ManualClock
from anybroker.memory import MemoryBroker


def advance_until(clock: ManualClock, waiting: Future[list[Delivery]]) -> list[Delivery]:
    """Let days pass until a call returns."""
    deadline = time.monotonic() + 20
    while not waiting.done() and time.monotonic() < deadline:
        clock.advance(86400)
        time.sleep(0.001)
    return waiting.result(0)


def test_acquire__waits_by_the_injected_clock() -> None:
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    with ThreadPoolExecutor(2) as pool:
        in_vain = pool.submit(broker.acquire, ["q"], limit=1, wait=30 * 86400, lease=60)
        assert advance_until(clock, in_vain) == []
        eta = clock.now() + timedelta(days=2)
        broker.enqueue([Message("m", "q", b"", eta=eta)])
        lucky = pool.submit(broker.acquire, ["q"], limit=1, wait=float("inf"), lease=60)
        [delivery] = advance_until(clock, lucky)
        assert delivery.lease_until - timedelta(seconds=60) >= eta
