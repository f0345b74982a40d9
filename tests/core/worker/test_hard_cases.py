"""Cases in which a worker once hung, lost or repeated a task."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App, State, TaskExpired, TaskFailed
from anybroker.broker import Message
from anybroker.clock import ManualClock
from anybroker.errors import ConfigurationError
from anybroker.events import Succeeded
from anybroker.retry import Retry
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TENANT: ContextVar[str] = ContextVar("tenant", default="none")


def spin(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of threads that the system refuses to start, each entry once."""
    names: list[str] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            names.remove(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return names


async def exit_in_gathered() -> None:
    async def sub() -> None:
        sys.exit(3)

    await asyncio.gather(sub())


async def interrupt_in_group() -> None:
    async def sub() -> None:
        raise KeyboardInterrupt

    async with asyncio.TaskGroup() as group:
        group.create_task(sub())


async def exit_in_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(0)


async def stop_loop() -> None:
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize("end", [exit_in_gathered, interrupt_in_group, exit_in_callback, stop_loop])
def test_what_ends_the_event_loop_affects_only_its_own_task(
    app: App, end: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    @app.task
    async def bad() -> None:
        await end()

    @app.task
    async def good() -> int:
        await asyncio.sleep(0)
        return 1

    with app.worker(concurrency=2) as worker:
        assert good.send().get(timeout=3) == 1
        handle = bad.send()
        until(lambda: handle.status in {State.FAILED, State.SUCCEEDED}, 3)
        assert good.send().get(timeout=3) == 1
        until(lambda: worker.stats().idle, 3)


@pytest.mark.slow
def test_an_event_loop_whose_thread_was_refused_is_started_again(
    make_app: Callable[..., App], refused: list[str]
) -> None:
    app = make_app(lease=1)

    @app.task
    async def good() -> int:
        return 1

    refused.append("anybroker-asyncio")
    handles = [good.send() for _ in range(3)]
    with app.worker(concurrency=4):
        assert [handle.get(timeout=5) for handle in handles] == [1] * 3
        assert good.send().get(timeout=3) == 1
    assert refused == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_time_limits_hold_after_the_thread_that_watches_them_was_refused(
    make_app: Callable[..., App], refused: list[str], kind: str
) -> None:
    """The task that nobody could watch has not failed: it is delivered again."""
    app = make_app(lease=1)

    @app.task(name="coroutine", timeout=0.3)
    async def coroutine() -> int:
        return 1

    @app.task(name="plain", timeout=0.3)
    def plain() -> int:
        return 1

    @app.task(timeout=0.3)
    def endless() -> None:
        spin(4)

    refused.append("anybroker-deadlines")
    with app.worker(concurrency=2) as worker:
        first = app.send_by_name(kind)
        until(lambda: refused == [], 3)
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            endless.send().get(timeout=3)
        assert first.get(timeout=10) == 1
        until(lambda: worker.stats().idle, 4)


@pytest.mark.slow
def test_a_task_is_given_up_although_its_thread_for_that_was_refused(
    app: App, refused: list[str], gate: threading.Event
) -> None:
    @app.task(timeout=0.1)
    def stuck() -> None:
        gate.wait(60)

    refused.append("anybroker-given-up")
    with app.worker(concurrency=1) as worker:
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            stuck.send().get(timeout=4)
        until(lambda: worker.stats().idle, 2)
        assert worker.stats().abandoned == 1
        assert refused == []


@pytest.mark.slow
def test_a_given_up_task_whose_outcome_cannot_be_written_stops_no_time_limits(
    make_app: Callable[..., App], gate: threading.Event
) -> None:
    app = make_app("memory://?max_body=3000", results_url="memory://")

    @app.task(name="stuck", timeout=0.1, retry=Retry(max=3))
    def stuck(text: str) -> int:
        gate.wait(60)
        return len(text)

    @app.task(timeout=0.1)
    def endless() -> None:
        spin(4)

    body = {"v": 1, "id": "m1", "task": "stuck", "args": ["x" * 2880], "sent_at": "2026-01-01T00:00:00Z"}
    with app.worker(concurrency=2) as worker:
        app.broker.enqueue([Message("m1", "default", json.dumps(body).encode())])
        until(lambda: worker.stats().abandoned == 1, 4)
        until(lambda: worker.stats().idle, 2, why="the task that was given up is not held for ever")
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            endless.send().get(timeout=3)


@pytest.mark.slow
def test_a_hook_that_blocks_after_its_task_was_given_up_stops_no_time_limits(app: App, gate: threading.Event) -> None:
    in_hook = threading.Event()

    def blocking_hook(_context: object, _error: object) -> None:
        in_hook.set()
        gate.wait(60)

    @app.task(timeout=0.1, on_failure=blocking_hook)
    def stuck() -> None:
        gate.wait(60)

    @app.task(timeout=0.1)
    def endless() -> None:
        spin(4)

    with app.worker(concurrency=2):
        stuck.send()
        assert in_hook.wait(4)
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            endless.send().get(timeout=3)
        gate.set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_hook_may_take_longer_than_the_time_limit_of_its_task(app: App, kind: str) -> None:
    calls: list[str] = []

    def slow_hook(_context: object, _value: object) -> None:
        spin(1.5)
        calls.append("success")

    def failed(_context: object, _error: object) -> None:
        calls.append("failure")

    @app.task(name="plain", timeout=0.2, on_success=slow_hook, on_failure=failed)
    def plain() -> int:
        return 1

    @app.task(name="coroutine", timeout=0.2, on_success=slow_hook, on_failure=failed)
    async def coroutine() -> int:
        return 1

    with app.worker(concurrency=2) as worker:
        assert app.send_by_name(kind).get(timeout=5) == 1
        assert worker.stats().abandoned == 0
    assert calls == ["success"]


@pytest.mark.slow
def test_stop_waits_for_hooks_for_the_grace_time_however_short_the_lease(app: App) -> None:
    in_hook, calls = threading.Event(), []

    def slow_hook(_context: object, value: object) -> None:
        in_hook.set()
        spin(1.5)
        calls.append(value)

    @app.task(on_success=slow_hook)
    def quick() -> int:
        return 1

    worker = app.worker(concurrency=1, lease=0.5)
    worker.start()
    handle = quick.send()
    assert in_hook.wait(5)
    worker.stop(grace=30)
    stats = app.inspect().stats("default")
    assert (handle.status, stats.ready, stats.leased, calls) == (State.SUCCEEDED, 0, 0, [1])


def test_a_coroutine_that_is_given_back_has_not_failed_for_its_hooks(app: App) -> None:
    started, calls = threading.Event(), []

    @app.task(on_failure=lambda _context, error: calls.append(error))
    async def slow() -> None:
        started.set()
        await asyncio.sleep(60)

    worker = app.worker(concurrency=1)
    worker.start()
    slow.send()
    assert started.wait(5)
    worker.stop(grace=0)
    assert app.inspect().stats("default").ready == 1
    assert calls == []


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_context_variable_that_a_task_sets_is_not_seen_by_the_next(app: App, kind: str) -> None:
    @app.task(name="plain")
    def plain(name: str) -> str:
        seen = TENANT.get()
        TENANT.set(name)
        return seen

    @app.task(name="coroutine")
    async def coroutine(name: str) -> str:
        seen = TENANT.get()
        TENANT.set(name)
        await asyncio.sleep(0)
        return seen

    handles = [app.send_by_name(kind, [name]) for name in ("alpha", "beta", "gamma", "delta")]
    with app.worker(concurrency=1):
        assert [handle.get(timeout=5) for handle in handles] == ["none"] * 4


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
@pytest.mark.parametrize("results", [True, False])
def test_a_generator_function_is_refused_as_a_task(app: App, function: Callable[[], Any], *, results: bool) -> None:
    with pytest.raises(ConfigurationError, match="generator function"):
        app.task(results=results)(function)


class Shop:
    def sell(self, item: str) -> None: ...

    @classmethod
    def open(cls, name: str) -> None: ...

    @staticmethod
    def count(items: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (Shop, "is a class; give a function"),
        (Shop.sell, "is a method without its object"),
        (Shop.open.__func__, "is a method without its object"),  # type: ignore[attr-defined]
    ],
)
def test_what_needs_an_object_is_refused_as_a_task(app: App, function: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        app.task(function)
    with pytest.raises(ConfigurationError, match=says):
        app.job("job").step(function)


def test_a_method_of_an_object_and_a_function_with_a_parameter_of_that_name_are_tasks(app: App) -> None:
    def local(self: int) -> int:
        return self

    functions: list[Any] = [Shop().sell, Shop.open, Shop.count, local]
    for number, function in enumerate(functions):
        app.task(name=f"task {number}")(function)
    assert len(app.tasks) == 4


@pytest.mark.parametrize("function", [partial(spin, 0), 3])
def test_what_has_no_name_is_refused_as_a_task_with_a_sentence(app: App, function: Any) -> None:
    with pytest.raises(ConfigurationError, match="has no name"):
        app.task(function)


@pytest.mark.parametrize(
    "options",
    [{"on": "ValueError"}, {"on": 3}, {"give_up_on": "ValueError"}, {"after": "5s"}, {"max": "x"}, {"max": -1}],
)
def test_a_retry_policy_that_makes_no_sense_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Retry"):
        Retry(**options)


def test_a_retry_that_is_no_policy_is_refused_at_declaration(app: App) -> None:
    policy: Any = 3
    with pytest.raises(ConfigurationError, match="Retry"):

        @app.task(retry=policy)
        def declared() -> None: ...


def test_listeners_run_without_a_foreign_exception_around_them(app: App) -> None:
    contexts: list[object] = []

    @app.on(Succeeded)
    def listener(_event: Succeeded) -> None:
        contexts.append(sys.exc_info()[1])

    @app.task
    def one() -> int:
        return 1

    @app.task
    async def async_one() -> int:
        return 1

    with app.worker(concurrency=1) as worker:
        for handle in [one.send(), async_one.send(), one.send()]:
            assert handle.get(timeout=5) == 1
        assert worker.stats().abandoned == 0
    assert contexts == [None] * 3


@pytest.mark.parametrize("options", [{"lease": 0}, {"lease": -1}, {"lease": 1e9}, {"grace": -1}])
def test_a_worker_is_not_made_with_a_lease_or_grace_time_that_cannot_be(app: App, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="lease"):
        app.worker(**options)


@pytest.mark.slow
def test_a_task_that_runs_for_long_is_not_waited_for_because_of_a_suspect(
    app: App, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker.worker.worker.CLEARING", 0.3)
    beside: list[int] = []

    @app.task
    def suspect() -> int:
        beside.append(worker.stats().running)
        return 1

    @app.task
    def long() -> None:
        gate.wait(60)

    @app.task
    def quick() -> int:
        return 1

    suspected = suspect.send()
    for _ in range(4):
        assert app.broker.acquire(["default"], limit=1, wait=3, lease=0.02), "its worker died, and its lease ran out"
    worker = app.worker(concurrency=4, grace=1)
    long.send()
    with worker:
        handles = [quick.send() for _ in range(20)]
        assert [handle.get(timeout=4) for handle in handles] == [1] * 20
        assert (worker.stats().running, beside) == (1, []), "the suspect does not run beside others"
        gate.set()
        assert suspected.get(timeout=5) == 1
    assert beside == [1]


@pytest.mark.slow
def test_hooks_of_tasks_that_are_not_run_hold_up_nobody(app: App, gate: threading.Event) -> None:
    """Neither those that were taken together with them, nor what comes after."""

    @app.task(name="late", on_failure=lambda _context, _error: gate.wait(60))
    def late() -> None: ...

    @app.task
    def one() -> int:
        return 1

    expired = late.options(expires=0).send()
    beside = one.send()
    with app.worker(concurrency=2):
        assert beside.get(timeout=5) == 1
        assert one.send().get(timeout=5) == 1
        gate.set()
        with pytest.raises(TaskExpired):
            expired.get(timeout=5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_task_that_expires_while_it_waits_in_a_worker_is_not_started(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event, kind: str
) -> None:
    monkeypatch.setattr("anybroker.worker.pace.Pace.prefetch", lambda _: 4)
    monkeypatch.setattr("anybroker.worker.worker.GIVE_BACK_AFTER", 60.0)
    clock = ManualClock()
    with closing(App("memory://", clock=clock)) as app:

        @app.task(name="plain")
        def plain(*, wait: bool = False) -> None:
            if wait:
                gate.wait(60)

        @app.task(name="coroutine")
        async def coroutine(*, wait: bool = False) -> None:
            await asyncio.to_thread(plain, wait=wait)

        task = plain if kind == "plain" else coroutine
        first, second = task.s(wait=True), task.s().options(expires=60)
        handles = app.send_many([first, second])
        with app.worker(concurrency=1) as worker:
            until(lambda: worker.stats().waiting == 1)
            clock.advance(61)
            gate.set()
            assert handles[0].get(timeout=10) is None
            with pytest.raises(TaskExpired):
                handles[1].get(timeout=10)


FORKING = """
import asyncio, os, sys, threading, time
from anybroker import App

app = App(sys.argv[1])

@app.task(name="one")
def one() -> int:
    return 1

async def result(handle):
    return await handle

with app.worker(concurrency=1):
    assert asyncio.run(result(one.send())) == 1
    handle = one.send()
    assert handle.get(5) == 1

held = threading.Event()

def hold():  # as for a moment whenever somebody comes or a result does
    with app.waiter(app.results())._changed:
        held.set()
        time.sleep(60)

if sys.argv[2] == "held":
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
child = os.fork()
if not child:
    os._exit(0 if asyncio.run(result(handle)) == 1 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["free", "held"])
def test_a_result_is_awaited_in_the_child_of_a_process_that_awaited_one(sqlite_url: str, lock: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, sqlite_url, lock]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, errors = process.communicate(timeout=5)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
