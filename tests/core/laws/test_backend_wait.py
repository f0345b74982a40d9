"""Waiting for results: as soon as one is final, never longer than asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.clock import ManualClock
from anybroker.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.backend import ResultBackend

SLOW_MACHINE = 0.5
LONG = 30.0
FINAL = [state for state in State if state.final]
UNFINISHED = [state for state in State if not state.final]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_in(pool: ThreadPoolExecutor, backend: ResultBackend, ids: list[str]) -> Future[list[Result]]:
    waiting = threading.Event()

    def wait() -> list[Result]:
        waiting.set()
        return backend.wait(ids, timeout=LONG)

    future = pool.submit(wait)
    waiting.wait(LONG)
    time.sleep(0.05)  # deep enough in its wait for this to be about waking up; nothing depends on it
    return future


@pytest.mark.parametrize("state", FINAL)
def test_backend_wait__what_is_final_already(backend: ResultBackend, state: State) -> None:
    final = Result("b", state, 1, b"body")
    backend.store([Result("a", State.RUNNING, 1), final], ttl=60)
    assert backend.wait(["a", "b", "c"], timeout=0) == [final]


@pytest.mark.parametrize("state", UNFINISHED)
def test_backend_wait__nothing_is_final(backend: ResultBackend, state: State) -> None:
    backend.store([Result("a", state, 1)], ttl=60)
    assert backend.wait(["a"], timeout=0) == []


def test_backend_wait__all_that_are_final(backend: ResultBackend) -> None:
    results = [Result(f"r{n}", State.SUCCEEDED, 1, bytes([n])) for n in range(5)]
    backend.store(results, ttl=60)
    assert sorted(backend.wait([one.id for one in results], timeout=5), key=lambda one: one.id) == results


def test_backend_wait__wakes_when_one_is_final(realtime_backend: ResultBackend, pool: ThreadPoolExecutor) -> None:
    future = wait_in(pool, realtime_backend, ["a", "b"])
    realtime_backend.store([Result("other", State.SUCCEEDED, 1), Result("b", State.RUNNING, 1)], ttl=60)
    assert not future.done()
    final = Result("b", State.SUCCEEDED, 1, b"body")
    realtime_backend.store([final], ttl=60)
    started = time.monotonic()
    assert future.result(LONG) == [final]
    assert time.monotonic() - started <= realtime_backend.capabilities.wake_bound + SLOW_MACHINE


def test_backend_wait__wakes_everybody(realtime_backend: ResultBackend, pool: ThreadPoolExecutor) -> None:
    futures = [wait_in(pool, realtime_backend, ["a", f"own {n}"]) for n in range(5)]
    final = Result("a", State.FAILED, 1)
    realtime_backend.store([final], ttl=60)
    assert [one.result(LONG) for one in futures] == [[final]] * 5


@pytest.mark.parametrize("timeout", [0.0, 0.01, 0.2])
def test_backend_wait__ends_in_time(realtime_backend: ResultBackend, timeout: float) -> None:
    started = time.monotonic()
    assert realtime_backend.wait(["a"], timeout=timeout) == []
    assert timeout * 0.9 <= time.monotonic() - started <= timeout + SLOW_MACHINE


def test_backend_wait__never_busy_loops(realtime_backend: ResultBackend) -> None:
    before, started = time.thread_time(), time.monotonic()
    realtime_backend.wait(["a"], timeout=1)
    assert (time.thread_time() - before) / (time.monotonic() - started) < 0.05


def test_backend_wait__by_the_injected_clock(pool: ThreadPoolExecutor) -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock=clock)
    future = pool.submit(backend.wait, ["a"], timeout=30 * 86400)
    deadline = time.monotonic() + LONG
    while not future.done():
        assert time.monotonic() < deadline, "the clock has woken nobody"
        clock.advance(3600)
    assert future.result() == []


def test_backend_wait__close_ends_it(realtime_backend: ResultBackend, pool: ThreadPoolExecutor) -> None:
    started = time.monotonic()
    future = wait_in(pool, realtime_backend, ["a"])
    realtime_backend.close()
    realtime_backend.close()
    assert future.result(LONG) == []
    assert time.monotonic() - started < LONG / 2


def test_backend_wait__close_keeps_the_results(
    backend: ResultBackend, another_backend: Callable[[], ResultBackend]
) -> None:
    final = Result("a", State.SUCCEEDED, 1)
    leaver = another_backend()
    leaver.store([final], ttl=60)
    leaver.close()
    assert backend.fetch(["a"]) == [final]
