"""Stopping a worker that is embedded in a program: nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import State
from anybroker.events import LeaseWasLost, WorkerStopped
from anybroker.worker.worker import Worker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from tests.core.worker.conftest import Faults


def in_background(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_running_tasks_finish_and_the_rest_is_given_back(
    make_app: Callable[..., App], each_url: str, gate: threading.Event, kind: str
) -> None:
    app = make_app(each_url, lease=60)

    @app.task(name="plain")
    def plain() -> str:
        gate.wait(10)
        return "done"

    @app.task(name="coroutine")
    async def coroutine() -> str:
        await asyncio.to_thread(gate.wait, 10)
        return "done"

    handles = [app.send_by_name(kind) for _ in range(10)]
    worker = app.worker(concurrency=2)
    worker.start()
    until(lambda: worker.stats().running == 2)
    stopping = in_background(worker.stop)
    until(lambda: app.inspect().stats("default").ready == 8, why="what is not running is given back at once")
    assert stopping.is_alive()
    gate.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert [handle.get(timeout=0) for handle in handles[:2]] == ["done"] * 2
    stats = app.inspect().stats("default")
    assert (stats.ready, stats.leased) == (8, 0)
    assert worker.stats().idle


@pytest.mark.slow
def test_after_the_grace_time_running_tasks_are_given_back(
    make_app: Callable[..., App], each_url: str, gate: threading.Event
) -> None:
    app = make_app(each_url, lease=60)
    cancelled = threading.Event()

    @app.task
    def stuck() -> None:
        gate.wait(10)

    @app.task
    async def sleepy() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    handles = [stuck.send(), sleepy.send()]
    worker = app.worker(concurrency=2)
    worker.start()
    until(lambda: worker.stats().running == 2)
    start = time.monotonic()
    worker.stop(grace=0.2)
    assert 0.2 <= time.monotonic() - start < 8
    stats = app.inspect().stats("default")
    assert (stats.ready, stats.leased) == (2, 0)
    assert cancelled.wait(5)
    gate.set()
    with app.worker(concurrency=1):
        handles[0].get(timeout=10)


def test_stopping_again_ends_the_grace_time(app: App, gate: threading.Event) -> None:
    @app.task
    def stuck() -> None:
        gate.wait(20)

    stuck.send()
    worker = app.worker(concurrency=1, grace=60)
    worker.start()
    until(lambda: worker.stats().running == 1)
    first = in_background(worker.stop)
    until(worker._stopping.is_set)
    start = time.monotonic()
    worker.stop()
    first.join(15)
    assert time.monotonic() - start < 15
    assert app.inspect().stats("default").ready == 1


def test_a_stop_that_was_interrupted_holds_up_no_other(
    app: App, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a program stops its worker, which it does again when it ends."""
    started = threading.Event()

    @app.task
    def wait() -> None:
        started.set()
        gate.wait(60)

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    worker = app.worker(concurrency=1)
    worker.start()
    wait.send()
    assert started.wait(10)
    monkeypatch.setattr("anybroker.worker.worker.time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupt))
    with pytest.raises(KeyboardInterrupt):
        worker.stop()
    again = in_background(worker.stop)
    again.join(10)
    assert not again.is_alive()


def test_a_worker_that_was_never_started_may_be_stopped(app: App) -> None:
    worker = app.worker(concurrency=1)
    worker.stop()
    worker.stop()


def test_the_block_may_raise(app: App) -> None:
    stopped: list[WorkerStopped] = []
    app.on(WorkerStopped, stopped.append)
    with pytest.raises(ZeroDivisionError), app.worker(concurrency=1):
        _ = 1 / 0
    assert len(stopped) == 1


def test_a_stopped_worker_leaves_no_threads(app: App) -> None:
    @app.task
    def plain() -> None: ...

    @app.task(timeout=5)
    async def coroutine() -> None: ...

    @app.task(timeout=5)
    def limited() -> None: ...

    before = set(threading.enumerate())
    for _ in range(3):
        with app.worker(concurrency=4):
            for handle in [task.send() for task in (plain, coroutine, limited) for _ in range(5)]:
                handle.get(timeout=10)
    until(lambda: set(threading.enumerate()) <= before, within=30)


def test_an_idle_worker_stops_soon(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with the waiting time that users get
    worker = Worker(app, concurrency=1)
    worker.start()
    start = time.monotonic()
    worker.stop()
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("how", ["grace is over", "in time"])
def test_stopping_tells_of_no_lost_leases(
    make_app: Callable[..., App], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Also for a task that runs alone because it may be killing its workers."""
    app = make_app(max_deliveries=2)
    go = threading.Event()
    lost: list[LeaseWasLost] = []
    app.on(LeaseWasLost, lost.append)

    @app.task
    def suspect() -> None:
        go.wait(10)

    suspect.send()
    app.broker.acquire(["default"], limit=1, wait=0, lease=0)  # a worker died
    worker = app.worker(concurrency=4)
    worker.start()
    until(lambda: worker.stats().running == 1)
    if how == "in time":
        go.set()
    worker.stop(grace=0 if how == "grace is over" else 10)
    go.set()
    assert lost == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert app.inspect().stats("default").total == (1 if how == "grace is over" else 0)


@pytest.mark.slow
def test_a_worker_stops_while_its_broker_is_away(faulty_app: App, faults: Faults, gate: threading.Event) -> None:
    app = faulty_app

    @app.task
    def work() -> str:
        gate.wait(10)
        return "done"

    handle = work.send()
    worker = app.worker(concurrency=1)
    worker.start()
    until(lambda: worker.stats().running == 1)
    faults.failing = {"all"}
    gate.set()
    until(lambda: faults.calls["store"])
    start = time.monotonic()
    worker.stop()
    assert time.monotonic() - start < 5, "it tries for as long as its lease lasts, and no longer"
    faults.failing = set()
    assert handle.status is State.PENDING
    with app.worker(concurrency=1):
        assert handle.get(timeout=10) == "done"


def test_a_program_may_stop_its_worker_from_a_task(app: App) -> None:
    stopped: list[Any] = []
    worker = app.worker(concurrency=1)

    @app.task(results=False)
    def last() -> None:
        stopped.append(in_background(worker.stop))

    last.send()
    worker.start()
    until(lambda: stopped and not stopped[0].is_alive())
    assert app.inspect().stats("default").total == 0
