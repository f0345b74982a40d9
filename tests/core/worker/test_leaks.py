"""What a worker leaves behind after very many tasks: nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import Retry, current_context
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from anybroker.worker import Worker

pytestmark = pytest.mark.slow


TASKS = 40_000
WARM_UP = 5_000


def open_files() -> int:
    for directory in (Path("/proc/self/fd"), Path("/dev/fd")):
        if directory.is_dir():
            return len(list(directory.iterdir()))
    raise AssertionError("neither /proc/self/fd nor /dev/fd is there")


class Traces:
    """What there is in this process now."""

    def __init__(self) -> None:
        gc.collect()
        self.files = open_files()
        self.threads = Counter(thread.name for thread in threading.enumerate())
        self.coroutines = sum(issubclass(type(one), asyncio.Task) for one in gc.get_objects())  # no proxy is asked
        self.kinds = Counter(type(one).__qualname__ for one in gc.get_objects())
        self.objects = self.kinds.total()
        self.memory = tracemalloc.get_traced_memory()[0]

    def grown(self, before: Traces) -> str:
        return f"{(self.kinds - before.kinds).most_common(8)}, {self.memory - before.memory:,} bytes"


def drain(app: App, worker: Worker, calls: list[Any], number: int) -> None:
    done = worker.stats().finished
    for first in range(0, number, 10_000):
        app.send_many(calls[i % len(calls)] for i in range(first, min(first + 10_000, number)))
        until(lambda: worker.stats().idle and not app.inspect().queues(), within=100)
    assert worker.stats().finished - done >= number


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "coroutine", "mixed"])
def test_nothing_is_left_after_very_many_tasks(
    make_app: Callable[..., App], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    app = make_app("memory://", results_url="none")
    caplog.set_level(logging.CRITICAL, "anybroker")  # what pytest keeps of the log would be counted too

    @app.task(name="plain")
    def plain() -> None: ...

    @app.task(name="coroutine")
    async def coroutine() -> None: ...

    @app.task(name="failing", retry=Retry(max=1, after=0))
    def failing() -> None:
        if current_context().attempt == 1:
            raise ValueError

    calls = {
        "plain": [plain.s()],
        "coroutine": [coroutine.s()],
        "mixed": [*[plain.s(), coroutine.s()] * 20, failing.s(), plain.options(timeout=60).s()],
    }[kind]
    tasks = TASKS if kind == "plain" else TASKS // 4
    tracemalloc.start()
    try:
        with app.worker(concurrency=4) as worker:
            drain(app, worker, calls, WARM_UP)
            before = Traces()
            drain(app, worker, calls, tasks)
            after = Traces()
    finally:
        tracemalloc.stop()
    assert after.threads == before.threads
    assert after.files == before.files
    assert after.coroutines == before.coroutines
    assert after.objects - before.objects < 500, after.grown(before)
    assert after.memory - before.memory < 500_000, after.grown(before)


@pytest.mark.slow
def test_results_and_handles_leave_nothing(make_app: Callable[..., App]) -> None:
    app = make_app("memory://")

    @app.task
    def double(x: int) -> int:
        return 2 * x

    async def wait_for(handles: list[Any]) -> None:
        for handle in handles:
            await handle

    def round_of(number: int) -> None:
        handles = app.send_many([double.s(i) for i in range(number)])
        asyncio.run(wait_for(handles))
        for handle in handles:
            handle.get(timeout=10)
            handle.forget()

    with app.worker(concurrency=4) as worker:
        round_of(1000)
        until(lambda: worker.stats().idle)
        before = Traces()
        for _ in range(10):
            round_of(1000)
        until(lambda: worker.stats().idle)
        after = Traces()
    more = after.threads - before.threads - Counter(["anybroker-results"])  # it ends when it was idle for long enough
    assert not more
    assert after.files == before.files
    assert after.objects - before.objects < 500, after.grown(before)


@pytest.mark.slow
def test_workers_that_come_and_go_leave_nothing(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    @app.task
    def plain() -> None: ...

    @app.task
    async def coroutine() -> None: ...

    def one_life() -> None:
        with app.worker(concurrency=2):
            for task in (plain, coroutine):
                task.send().get(timeout=10)

    one_life()
    threads = set(threading.enumerate())
    before = Traces()
    for _ in range(20):
        one_life()
    until(lambda: set(threading.enumerate()) <= threads)
    after = Traces()
    assert after.files <= before.files
    assert after.objects - before.objects < 1000, after.grown(before)
