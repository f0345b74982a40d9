"""A coroutine without a time limit blocks the event loop: others run the coroutines, the worker runs all else."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from anybroker import App
    from anybroker.worker import Worker

pytestmark = pytest.mark.slow


class Blocking:
    """A task that blocks the event loop until ``gate`` is set, and tasks to run beside it."""

    def __init__(self, app: App, gate: threading.Event) -> None:
        self._began = threading.Event()
        self.ran: list[int] = []

        @app.task(name="block")
        async def block() -> int:
            self._began.set()
            gate.wait(60)
            return 0

        @app.task(name="quick")
        async def quick(number: int) -> int:
            self.ran.append(number)
            return number

        @app.task(name="plain")
        def plain() -> int:
            return 1

        self.block, self.quick, self.plain = block, quick, plain

    def begin(self, worker: Worker) -> None:
        """Block the loop, and return when the worker knows."""
        self.block.send()
        assert self._began.wait(30)
        until(lambda: worker._executors.loop_blocked)


@pytest.fixture
def tasks(app: App, gate: threading.Event) -> Blocking:
    return Blocking(app, gate)


def test_coroutines_go_to_another_worker(app: App, gate: threading.Event, tasks: Blocking) -> None:
    """Also those that came before the worker knew that its loop is blocked."""
    with app.worker(concurrency=8) as caught:
        tasks.block.send()
        handles = [tasks.quick.send(number) for number in range(5)]
        with app.worker(concurrency=8):
            assert [handle.get(timeout=20) for handle in handles] == list(range(5))
            assert caught.stats().running == 1
            gate.set()
    assert sorted(tasks.ran) == list(range(5)), "none of them ran twice"


def test_plain_tasks_behind_coroutines_go_on(
    app: App, tasks: Blocking, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    with app.worker(concurrency=2) as worker:
        tasks.begin(worker)
        coroutines = [tasks.quick.send(number) for number in range(8)]
        plain = [tasks.plain.send() for _ in range(8)]
        assert [handle.get(timeout=10) for handle in plain] == [1] * 8
        assert tasks.ran == []
        until(lambda: worker.stats().waiting == 0, why="none is kept for the loop")
        gate.set()
        assert [handle.get(timeout=10) for handle in coroutines] == list(range(8))
        until(lambda: worker.stats().idle)
    assert sorted(tasks.ran) == list(range(8)), "none of them ran twice"
    assert [record.message for record in caplog.records if "blocks the event loop" in record.message] == [
        "a coroutine blocks the event loop; until it ends, other coroutines are left to other workers"
    ], "said once"


def test_a_blocked_worker_that_cannot_run_anything_is_quiet(
    app: App, tasks: Blocking, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired: list[int] = []
    acquire, enough = app.broker.acquire, threading.Event()

    def count(*args: object, **options: object) -> object:
        deliveries = acquire(*args, **options)  # type: ignore[arg-type]
        acquired.append(len(deliveries))
        if len(acquired) == 10:
            enough.set()
        return deliveries

    with app.worker(concurrency=2) as worker:
        tasks.begin(worker)
        handles = [tasks.quick.send(number) for number in range(100)]
        monkeypatch.setattr(app.broker, "acquire", count)
        start = time.monotonic()
        assert enough.wait(30)
        assert time.monotonic() - start > 0.8, "ten tries take a second"
        assert max(acquired) <= 4, "what it cannot run stays where others find it"
        gate.set()
        assert [handle.get(timeout=10) for handle in handles] == list(range(100))
