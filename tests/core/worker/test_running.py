"""A worker inside a program: what runs where, how many at once, in which order."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import ConfigurationError, State, current_context
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App


def test_plain_functions_run_in_threads_and_coroutine_functions_in_one_event_loop(
    make_app: Callable[..., App], each_url: str
) -> None:
    app = make_app(each_url)
    meet = threading.Barrier(4)
    loops = set()

    @app.task
    def in_thread() -> int:
        meet.wait(10)  # passes only if four run at once
        return threading.get_ident()

    @app.task
    async def in_loop() -> int:
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0.01)
        return threading.get_ident()

    threads = [in_thread.send() for _ in range(4)]
    coroutines = [in_loop.send() for _ in range(20)]
    with app.worker(concurrency=4):
        assert len({handle.get(timeout=10) for handle in threads}) == 4
        assert len({handle.get(timeout=10) for handle in coroutines}) == 1
    assert len(loops) == 1


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_never_more_than_concurrency_at_once(app: App, gate: threading.Event, kind: str) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def enter(by: int) -> None:
        nonlocal running, most
        with lock:
            running += by
            most = max(most, running)

    @app.task(name="plain")
    def plain() -> None:
        enter(1)
        gate.wait(10)
        enter(-1)

    @app.task(name="coroutine")
    async def coroutine() -> None:
        enter(1)
        await asyncio.to_thread(gate.wait, 10)
        enter(-1)

    handles = [app.send_by_name(kind) for _ in range(20)]
    with app.worker(concurrency=3) as worker:
        until(lambda: running == 3)
        gate.set()
        for handle in handles:
            handle.get(timeout=10)
        assert worker.stats().finished <= 20
    assert most == 3


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_concurrency_can_be_changed_while_running(app: App, gate: threading.Event, kind: str) -> None:
    @app.task(name="plain")
    def plain() -> None:
        gate.wait(10)

    @app.task(name="coroutine")
    async def coroutine() -> None:
        await asyncio.to_thread(gate.wait, 10)

    for _ in range(30):
        app.send_by_name(kind)
    with app.worker(concurrency=1) as worker:
        until(lambda: worker.stats().running == 1)
        worker.concurrency = 6
        until(lambda: worker.stats().running == 6, why="more run at once")
        assert worker.stats().concurrency == 6
        worker.concurrency = 2
        with pytest.raises(ConfigurationError, match="at least 1"):
            worker.concurrency = 0
        with pytest.raises(ConfigurationError, match="a whole number"):
            worker.concurrency = 1.5  # type: ignore[assignment]
        gate.set()
        until(lambda: worker.stats().finished == 30)


def test_lowering_the_concurrency_lets_running_tasks_end(app: App) -> None:
    turn = threading.Semaphore(0)

    @app.task
    def wait_for_turn() -> None:
        turn.acquire(timeout=10)

    handles = app.send_many([wait_for_turn.s() for _ in range(12)])
    with app.worker(concurrency=4) as worker:
        until(lambda: worker.stats().running == 4)
        worker.concurrency = 1
        turn.release(4)
        until(lambda: worker.stats().finished == 4)
        until(lambda: worker.stats().running == 1)
        turn.release(8)
        for handle in handles:
            handle.get(timeout=10)


def test_what_was_taken_in_advance_profits_from_more_concurrency(app: App, gate: threading.Event) -> None:
    @app.task(results=False)
    def quick() -> None: ...

    @app.task
    def slow() -> None:
        gate.wait(10)

    app.send_many([quick.s() for _ in range(3000)] + [slow.s() for _ in range(30)])
    with app.worker(concurrency=1) as worker:
        until(lambda: worker.stats().waiting > 5 and worker.stats().finished == 3000)
        worker.concurrency = 5
        until(lambda: worker.stats().running == 5, within=0.9, why="not before others have given up")
        gate.set()


def test_stats(app: App, gate: threading.Event) -> None:
    @app.task
    def slow() -> None:
        gate.wait(10)

    worker = app.worker(concurrency=2)
    assert worker.stats().idle
    with worker:
        handles = [slow.send() for _ in range(2)]
        until(lambda: worker.stats().running == 2)
        stats = worker.stats()
        assert (stats.concurrency, stats.waiting, stats.settling, stats.finished, stats.idle) == (2, 0, 0, 0, False)
        gate.set()
        for handle in handles:
            handle.get(timeout=10)
        until(lambda: worker.stats().idle)
        assert (worker.stats().finished, worker.stats().abandoned) == (2, 0)


def test_strict_queue_order(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)
    ran = []

    @app.task(name="note")
    def note(queue: str) -> None:
        ran.append(queue)

    for queue in ("low", "high", "low", "middle", "high"):
        last = note.options(queue=queue).send(queue)
    with app.worker(queues=["high", "middle", "low"], concurrency=1):
        last = note.options(queue="low").send("low")
        last.get(timeout=10)
    assert ran == ["high", "high", "middle", "low", "low", "low"]


def test_weighted_queue_order_starves_nobody(app: App) -> None:
    ran: list[str] = []
    enough = threading.Event()

    @app.task(name="note", results=False)
    def note(queue: str) -> None:
        ran.append(queue)
        if len(ran) >= 400:
            enough.set()

    for queue in ("mail", "default"):
        app.send_many([note.options(queue=queue).s(queue) for _ in range(2000)])
    with app.worker(queues="mail:3,default:1", concurrency=1) as worker:
        until(enough.is_set)
        until(lambda: worker.stats().finished == 4000, within=30)
    assert {"mail", "default"} <= set(ran[: len(ran) // 2]), "both have their turn before one is empty"


def test_a_queue_that_is_not_named_is_left_alone(app: App) -> None:
    @app.task
    def one() -> int:
        return 1

    other = one.options(queue="other").send()
    with app.worker(queues="default", concurrency=1):
        one.send().get(timeout=10)
    assert other.status is State.PENDING
    assert app.inspect().stats("other").ready == 1


def test_tasks_of_one_ordering_key_run_one_after_the_other(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)
    ran: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    running: dict[str, int] = dict.fromkeys(ran, 0)
    overlaps = []

    @app.task
    def note(key: str, number: int) -> None:
        running[key] += 1
        if running[key] > 1:
            overlaps.append((key, number))
        ran[key].append(number)
        running[key] -= 1

    handles = [note.options(ordering_key=key).send(key, number) for number in range(30) for key in ran]
    with app.worker(concurrency=8):
        for handle in handles:
            handle.get(timeout=20)
    assert overlaps == []
    assert ran == {key: list(range(30)) for key in ran}


def test_the_context_is_that_of_the_task_itself(app: App) -> None:
    meet = threading.Barrier(2)

    @app.task
    def mine() -> str:
        meet.wait(10)
        return current_context().id

    @app.task
    async def mine_async() -> str:
        await asyncio.sleep(0.01)
        return current_context().id

    handles = [mine.send(), mine.send(), *(mine_async.send() for _ in range(5))]
    with app.worker(concurrency=2):
        assert [handle.get(timeout=10) for handle in handles] == [handle.id for handle in handles]
    with pytest.raises(LookupError, match="inside a running task"):
        current_context()


def test_a_context_variable_of_one_task_is_not_seen_by_the_next(app: App) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    @app.task
    def increment() -> int:
        variable.set(variable.get() + 1)
        return variable.get()

    with app.worker(concurrency=1):
        assert [increment.send().get(timeout=10) for _ in range(3)] == [1, 1, 1]


def test_a_task_may_send_and_wait_for_others(app: App) -> None:
    @app.task
    def child(x: int) -> int:
        return x + 1

    @app.task
    def parent(x: int) -> int:
        return child.send(x).get(timeout=10) * 10

    @app.task
    async def async_parent(x: int) -> int:
        handle = await child.send_async(x)
        return await handle * 100

    with app.worker(concurrency=2):
        assert parent.send(1).get(timeout=10) == 20
        assert async_parent.send(1).get(timeout=10) == 200


def test_one_lone_task_is_not_delayed(make_app: Callable[..., App], each_url: str) -> None:
    from statistics import median
    from time import perf_counter

    app = make_app(each_url)

    @app.task
    def nothing() -> None: ...

    def round_trip() -> float:
        start = perf_counter()
        nothing.send().get(timeout=10)
        return perf_counter() - start

    with app.worker(concurrency=1):
        assert median(round_trip() for _ in range(30)) < 0.03


def test_nothing_with_a_future_eta_is_in_the_workers_memory(app: App) -> None:
    @app.task
    def later() -> None: ...

    app.send_many([later.options(delay=3600).s() for _ in range(1000)])
    with app.worker(concurrency=4) as worker:
        later.send().get(timeout=10)
        until(lambda: worker.stats().idle)
        assert app.inspect().stats("default").delayed == 1000


def test_the_worker_is_configured_by_the_settings(make_app: Callable[..., App]) -> None:
    app = make_app(queues=("a", "b"), concurrency=7, lease=12, grace=3)
    worker = app.worker()
    assert (worker.queues.names, worker.concurrency, worker.lease, worker.grace) == (("a", "b"), 7, 12.0, 3.0)
    worker = app.worker(queues="c", concurrency=1, lease=2, grace=0)
    assert (worker.queues.names, worker.concurrency, worker.lease, worker.grace) == (("c",), 1, 2.0, 0.0)


@pytest.mark.parametrize("options", [{"queues": "default.dead"}, {"queues": "a:0"}, {"concurrency": 0}])
def test_an_impossible_worker_is_refused(app: App, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        app.worker(**options)


def test_many_workers_on_one_queue_run_each_task_once(make_app: Callable[..., App], each_url: str) -> None:
    from contextlib import ExitStack

    app = make_app(each_url)
    ran = []

    @app.task
    def note(number: int) -> None:
        ran.append(number)

    handles = app.send_many([note.s(number) for number in range(500)])
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(app.worker(concurrency=2))
        for handle in handles:
            handle.get(timeout=20)
    assert sorted(ran) == list(range(500))
