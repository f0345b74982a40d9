"""Leases: held as long as a task runs, given back when nobody gets to it, and lost with grace."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker import Context, Failure, Retry, State, TaskFailed, current_context
from anybroker.broker import Message
from anybroker.errors import MessageTooLarge
from anybroker.events import Acquired, LeaseWasLost, Succeeded
from anybroker.worker.execution import Execution, Outcome
from anybroker.worker.outage import Outage
from anybroker.worker.pipeline import Pipeline
from anybroker.worker.settler import Settlement, Settler
from tests.waiting import until

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from anybroker import App
    from anybroker.backend import Result
    from anybroker.broker import Delivery
    from tests.core.worker.conftest import Faults


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_heartbeats_keep_a_task_that_runs_longer_than_its_lease(
    make_app: Callable[..., App], each_url: str, gate: threading.Event, kind: str
) -> None:
    app = make_app(each_url, lease=0.3)
    runs = []

    @app.task(name="plain")
    def plain() -> int:
        runs.append(1)
        gate.wait(10)
        return len(runs)

    @app.task(name="coroutine")
    async def coroutine() -> int:
        runs.append(1)
        await asyncio.to_thread(gate.wait, 10)
        return len(runs)

    lost: list[LeaseWasLost] = []
    app.on(LeaseWasLost, lost.append)
    handle = app.send_by_name(kind)
    with app.worker(concurrency=1), app.worker(concurrency=1):
        start = time.monotonic()
        until(lambda: time.monotonic() - start > 1.0, why="three leases have passed")
        gate.set()
        assert handle.get(timeout=10) == 1
    assert lost == []


@pytest.mark.slow
def test_what_was_taken_in_advance_is_given_back_for_others(
    make_app: Callable[..., App], each_url: str, gate: threading.Event
) -> None:
    app = make_app(each_url, lease=30)
    ran_by: dict[int, str] = {}

    @app.task(results=False)
    def quick() -> None: ...

    @app.task(results=False)
    def slow(number: int) -> None:
        ran_by[number] = "first" if number == 0 else "any"
        gate.wait(20)

    app.send_many([quick.s() for _ in range(3000)] + [slow.s(number) for number in range(8)])
    with app.worker(concurrency=1) as first:
        until(lambda: first.stats().finished == 3000 and first.stats().waiting > 0)
        with app.worker(concurrency=16) as second:
            until(lambda: len(ran_by) == 8, within=5, why="the idle worker has the others, long before the lease")
            assert (first.stats().running, second.stats().running) == (1, 7)
            gate.set()
            until(lambda: first.stats().idle and second.stats().idle)
    assert app.inspect().stats("default").total == 0


def test_a_slow_task_keeps_no_other_from_being_acknowledged(
    make_app: Callable[..., App], each_url: str, gate: threading.Event
) -> None:
    app = make_app(each_url)

    @app.task(results=False)
    def quick() -> None: ...

    @app.task(results=False)
    def slow() -> None:
        gate.wait(20)

    app.send_many([quick.s() for _ in range(50)] + [slow.s()])
    with app.worker(concurrency=1) as worker:
        until(lambda: app.inspect().stats("default").total == 1, why="only the slow task is left")
        until(lambda: worker.stats().running == 1)
        assert app.inspect().stats("default").total == 1
        gate.set()


def test_being_given_back_brings_no_task_nearer_to_the_dead_letter_queue(app: App) -> None:
    @app.task
    def count() -> tuple[int, int | None]:
        ctx = current_context()
        return ctx.attempt, ctx.delivery_count

    handle = count.send()
    pipeline = Pipeline(app)
    for _ in range(3 * app.settings.max_deliveries):
        (delivery,) = app.broker.acquire(["default"], limit=1, wait=0, lease=60)
        execution = pipeline.admit(delivery)
        assert isinstance(execution, Execution)
        version = pipeline.given_back(execution).version
        assert version is not None
        assert app.broker.update([(delivery, version)]) == [True]
    with app.worker(concurrency=1):
        assert handle.get(timeout=10) == (1, 1)


def test_what_is_given_back_keeps_its_count_of_dead_workers(app: App) -> None:
    """Else a message that kills its workers would live for ever where workers are stopped politely in between."""

    @app.task
    def count() -> int | None:
        return current_context().delivery_count

    handle = count.send()
    for _ in range(2):
        app.broker.acquire(["default"], limit=1, wait=0, lease=0)  # a worker takes it and dies
    pipeline = Pipeline(app)
    (delivery,) = app.broker.acquire(["default"], limit=1, wait=1, lease=60)
    execution = pipeline.admit(delivery)
    assert isinstance(execution, Execution)
    version = pipeline.given_back(execution).version
    assert version is not None
    assert app.broker.update([(delivery, version)]) == [True]
    with app.worker(concurrency=1):
        assert handle.get(timeout=10) == 3


def test_what_cannot_be_written_anew_is_given_back_as_it_is(make_app: Callable[..., App]) -> None:
    """Else it would stay with its worker, unseen, and keep others from being given back after it."""
    app = make_app(codec="msgpack")

    @app.task
    def one() -> None: ...

    task = msgspec.msgpack.encode({"v": 1, "id": "x", "task": one.name})
    body = bytes([task[0] + 1]) + task[1:] + b"\xa1\xff" + b"\xc0"  # one more field: its name is no UTF-8
    app.broker.enqueue([Message("x", "default", body)])
    app.broker.acquire(["default"], limit=1, wait=0, lease=0)  # a worker takes it and dies
    (delivery,) = app.broker.acquire(["default"], limit=1, wait=1, lease=60)
    pipeline = Pipeline(app)
    execution = pipeline.admit(delivery)
    assert isinstance(execution, Execution)
    assert pipeline.given_back(execution).version == delivery.message
    delayed = pipeline.given_back(execution, 5.0).version
    assert delayed is not None
    assert delayed.body == body
    assert delayed.eta is not None


def test_a_result_backend_that_hangs_keeps_no_lease_from_being_extended(
    faulty_app: App, faults: Faults, gate: threading.Event
) -> None:
    @faulty_app.task
    def long() -> None:
        gate.wait(60)

    def hang() -> None:
        gate.wait(60)

    faults.before["store"] = hang
    with faulty_app.worker(concurrency=1):
        long.send()
        until(lambda: faults.calls["store"] > 0)
        before = faults.calls["extend"]
        until(lambda: faults.calls["extend"] >= before + 2)
        gate.set()


def test_a_worker_that_lost_a_lease_says_so_and_changes_nothing(
    faulty_app: App,
    faults: Faults,
    gate: threading.Event,
    make_app: Callable[..., App],
    sqlite_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, other = faulty_app, make_app(sqlite_url).broker
    seen: list[Context] = []
    lost: list[LeaseWasLost] = []
    succeeded: list[Succeeded] = []
    app.on(LeaseWasLost, lost.append)
    app.on(Succeeded, succeeded.append)

    @app.task(name="slow")
    def slow() -> str:
        seen.append(current_context())
        if len(seen) == 1:
            gate.wait(20)
            return "first"
        return "second"

    handle = slow.send()
    with app.worker(concurrency=1, lease=0.3) as worker:
        until(lambda: seen)
        faults.failing = {"extend", "acquire"}
        (taken,) = other.acquire(["default"], limit=1, wait=10, lease=60)
        faults.failing = {"acquire"}
        until(lambda: seen[0].lease_lost, why="the heartbeat finds out")
        assert [event.id for event in lost] == [handle.id]
        gate.set()
        until(lambda: worker.stats().idle)
        assert succeeded == [], "what it did to the message changes nothing"
        assert other.ack([taken]) == [True], "the other one still holds it"
    assert "lost its lease" in caplog.text


def test_a_failure_after_the_lease_was_lost_stands_in_nobodys_way(
    faulty_app: App, faults: Faults, gate: threading.Event, make_app: Callable[..., App], sqlite_url: str
) -> None:
    """As when a worker was stopped for longer than the lease, and than the time limit of its task."""
    app, other = faulty_app, make_app(sqlite_url)
    started = []

    @app.task(queue="failures")
    def tell(failure: Failure) -> None: ...

    @app.task(name="unlucky", on_failure=[tell])
    def unlucky() -> str:
        started.append(1)
        gate.wait(20)
        raise OSError

    @other.task(name="unlucky")
    def lucky() -> str:
        return "done"

    @app.task
    def fails() -> None:
        raise OSError

    handle = unlucky.send()
    with app.worker(concurrency=1, lease=0.3, queues="default") as worker:
        until(lambda: started)
        faults.failing = {"extend", "acquire"}
        (taken,) = other.broker.acquire(["default"], limit=1, wait=10, lease=60)
        faults.failing = {"acquire"}
        gate.set()
        until(lambda: worker.stats().idle)
        assert handle.status is not State.FAILED
        assert app.inspect().stats("failures").total == 0
        assert other.broker.update([(taken, taken.message)]) == [True]
        with other.worker(concurrency=1):
            assert handle.get(timeout=10) == "done"
        faults.failing = set()
        with pytest.raises(TaskFailed):
            fails.send().get(timeout=10)


def test_a_failure_that_is_left_out_stays_so_when_its_batch_is_taken_apart(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    def fails() -> None: ...

    lost, held = app.send_many([fails.s() for _ in range(2)])
    pipeline = Pipeline(app)
    outcomes = []
    deliveries = app.broker.acquire(["default"], limit=2, wait=0, lease=60)
    app.broker.extend(deliveries[:1], lease=0)
    app.broker.acquire(["default"], limit=1, wait=1, lease=60)  # another worker
    for delivery in deliveries:
        execution = pipeline.admit(delivery)
        assert isinstance(execution, Execution)
        outcomes.append(pipeline.raised(execution, OSError()))
    monkeypatch.setattr(app.backend, "store", refuse)
    settlement = Settlement(app, outcomes, lease=60)
    with pytest.raises(MessageTooLarge):
        settlement.carry_out()
    monkeypatch.undo()
    for part in settlement.split():
        part.carry_out()
    assert (lost.status, held.status) == (State.PENDING, State.FAILED)
    assert app.inspect().stats("default").total == 1


def refuse(*_: object, **__: object) -> None:
    raise MessageTooLarge


def test_a_task_is_delivered_again_when_its_worker_vanishes(make_app: Callable[..., App], each_url: str) -> None:
    """A holder that never settles, as one that was killed: after the lease others have the task."""
    app = make_app(each_url)
    acquired: list[Acquired] = []
    app.on(Acquired, acquired.append)

    @app.task
    def one() -> int:
        return current_context().delivery_count or 0

    handle = one.send()
    app.broker.acquire(["default"], limit=1, wait=0, lease=0.3)
    with app.worker(concurrency=1):
        assert handle.get(timeout=5) == 2
    assert [event.delivery_count for event in acquired] == [2]


@pytest.mark.parametrize("fast", [True, False])
def test_running_is_shown_for_tasks_that_take_a_while(
    app: App, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, *, fast: bool
) -> None:
    stored: list[State] = []
    store = app.results().store

    def noting(results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        stored.extend(result.state for result in results)
        return store(results, ttl=ttl)

    monkeypatch.setattr(app.backend, "store", noting)

    @app.task
    def work() -> None:
        if not fast:
            gate.wait(10)

    handle = work.send()
    with app.worker(concurrency=1):
        if not fast:
            until(lambda: handle.status is State.RUNNING)
            gate.set()
        handle.get(timeout=10)
    assert stored == ([State.SUCCEEDED] if fast else [State.RUNNING, State.SUCCEEDED])


def test_a_lost_lease_names_its_task_also_where_that_was_not_run(app: App) -> None:
    """One that has expired, one whose name nobody knows, and one that ran a second time."""

    @app.task(name="late")
    def late() -> None: ...

    @app.task(name="again", retry=Retry(max=1, after=0))
    def again() -> None: ...

    lost: list[LeaseWasLost] = []
    app.on(LeaseWasLost, lost.append)
    late.options(expires=-1).send()
    app.send_by_name("stranger")
    again.send()
    pipeline = Pipeline(app)
    *deliveries, first = app.broker.acquire(["default"], limit=3, wait=0, lease=30)
    execution = pipeline.admit(first)
    assert isinstance(execution, Execution)
    Settlement(app, [pipeline.raised(execution, OSError())], lease=30).carry_out()
    [second] = app.broker.acquire(["default"], limit=1, wait=0, lease=30)
    execution = pipeline.admit(second)
    assert isinstance(execution, Execution)
    outcomes = [pipeline.admit(delivery) for delivery in deliveries]
    outcomes.append(pipeline.succeeded(execution, None))
    assert app.broker.ack([*deliveries, second]) == [True] * 3
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        Settlement(app, [outcome], lease=60).carry_out()
    assert [(event.task, event.attempt) for event in lost] == [("late", 1), ("stranger", 1), ("again", 2)]


def test_a_failure_is_confirmed_for_the_lease_of_its_worker(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    leases: list[float] = []
    extend = app.broker.extend

    def record(deliveries: Sequence[Delivery], *, lease: float) -> Sequence[bool]:
        leases.append(lease)
        return extend(deliveries, lease=lease)

    @app.task
    def fails() -> None:
        raise OSError

    monkeypatch.setattr(app.broker, "extend", record)
    handle = fails.send()
    with app.worker(concurrency=1, lease=77), pytest.raises(TaskFailed):
        handle.get(timeout=10)
    assert leases == [77.0]


def test_a_settler_goes_on_behind_what_cannot_even_be_a_dead_letter(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def no_letter(*_: object) -> Outcome:
        raise RuntimeError("no letter")

    app.broker.enqueue([Message(f"{number}", "default", b"") for number in range(2)])
    refused, kept = app.broker.acquire(["default"], limit=2, wait=0, lease=30)
    settled: list[Outcome] = []
    settler = Settler(app, Outage("worker", app.listeners), settled.extend, no_letter, lease=30)
    settler.start()
    too_large = msgspec.structs.replace(refused.message, body=bytes(app.broker.capabilities.max_body + 1))
    settler.add(Outcome(refused, version=too_large))
    until(lambda: len(settled) == 1)
    settler.add(Outcome(kept))
    settler.close()
    assert settler.ended(60)
    assert [outcome.delivery for outcome in settled] == [refused, kept]
    assert "cannot be kept as a dead letter" in caplog.text
