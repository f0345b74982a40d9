"""Events: each is emitted when it should, to those who listen, and nobody's exception matters."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from anybroker import App, ConfigurationError, Retry
from anybroker.events import (
    Acquired,
    BrokerBack,
    BrokerLost,
    Dead,
    Deferred,
    Enqueued,
    Event,
    Expired,
    Failed,
    LeaseWasLost,
    Retried,
    Started,
    StepFinished,
    Succeeded,
    TaskEvent,
    WorkerEvent,
    WorkerStarted,
    WorkerStopped,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.testing import Testing


def kinds(t: Testing) -> list[type[Event]]:
    return [type(event) for event in t.events]


def test_a_task_that_succeeds(app: App, t: Testing) -> None:
    @app.task(name="add", queue="sums")
    def add(a: int, b: int) -> int:
        return a + b

    handle = add.send(2, 3)
    assert kinds(t) == [Enqueued]
    t.run()
    assert kinds(t) == [Enqueued, Acquired, Started, Succeeded]
    for event in t.events:
        assert isinstance(event, TaskEvent)
        assert (event.id, event.task, event.queue, event.attempt) == (handle.id, "add", "sums", 1)
    acquired, succeeded = t.events[1], t.events[3]
    assert isinstance(acquired, Acquired)
    assert isinstance(succeeded, Succeeded)
    assert acquired.delivery_count == 1
    assert succeeded.result == 5
    assert 0 <= succeeded.seconds < 10


def test_a_task_that_is_retried_and_fails(app: App, t: Testing) -> None:
    @app.task(retry=Retry(max=1, after=3))
    def fail() -> None:
        raise ValueError("no")

    fail.send()
    t.run_until_idle()
    assert kinds(t) == [Enqueued, Acquired, Started, Retried, Acquired, Started, Failed, Dead]
    retried, failed, dead = t.events[3], t.events[6], t.events[7]
    assert isinstance(retried, Retried)
    assert isinstance(failed, Failed)
    assert isinstance(dead, Dead)
    assert (str(retried.error), retried.delay, retried.attempt) == ("no", 3, 1)
    assert (str(failed.error), failed.attempt) == ("no", 2)
    assert (dead.reason, dead.queue, dead.dead_queue, dead.attempt) == ("failed", "default", "default.dead", 2)


def test_a_job(app: App, t: Testing) -> None:
    def one(x: int) -> int:
        return x

    app.job("job").step(one).step(one).send(1)
    t.run()
    assert kinds(t) == [Enqueued, Acquired, Started, StepFinished, Acquired, Started, Succeeded]


def test_tasks_that_never_start(app: App, t: Testing) -> None:
    @app.task(name="number")
    def number(x: int) -> None: ...

    number.options(expires=1, delay=2, id="late").send(1)
    app.send_by_name("unknown", id="unknown")
    definition = app.tasks.pop("number")
    app.send_by_name("number", ["text"], id="misfit")
    app.tasks["number"] = definition
    t.advance(2)
    t.run()

    def of(id_: str) -> list[type[Event]]:
        return [type(event) for event in t.events if isinstance(event, TaskEvent) and event.id == id_]

    assert of("late") == [Enqueued, Expired]
    assert of("unknown") == [Enqueued, Deferred]
    assert of("misfit") == [Enqueued, Acquired, Failed, Dead]


def test_send_many_announces_each_task_with_its_queue(app: App, t: Testing) -> None:
    @app.task
    def nothing() -> None: ...

    app.send_many([nothing.s(), nothing.options(queue="other").s()])
    assert [event.queue for event in t.events if isinstance(event, Enqueued)] == ["default", "other"]


def test_nothing_is_announced_that_was_not_stored(app: App, t: Testing, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.task
    def nothing() -> None: ...

    def refuse(_messages: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(t.broker, "enqueue", refuse)
    with pytest.raises(ConnectionError):
        nothing.send()
    assert t.events == []


def test_a_worker_that_starts_and_stops(make_app: Callable[..., App]) -> None:
    app = make_app()
    heard: list[WorkerEvent] = []
    app.on(WorkerEvent, heard.append)
    with app.worker(concurrency=1) as worker:
        assert heard == [WorkerStarted(worker=worker.name)]
    assert heard == [WorkerStarted(worker=worker.name), WorkerStopped(worker=worker.name)]


def test_a_class_higher_in_the_tree_hears_all_below_it(app: App, t: Testing) -> None:
    everything: list[Event] = []
    tasks: list[Event] = []
    started: list[Event] = []
    app.on(Event, everything.append)
    app.on(TaskEvent)(tasks.append)

    @app.on(Started)
    def note(event: Started) -> None:
        started.append(event)

    @app.task
    def nothing() -> None: ...

    nothing.send()
    t.run()
    assert everything == tasks == t.events
    assert started == [event for event in t.events if isinstance(event, Started)]
    app.listeners.remove(note)
    nothing.send()
    t.run()
    assert len(started) == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_an_exception_in_a_listener_is_logged_and_changes_nothing(
    make_app: Callable[..., App], caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    app = make_app()

    def broken(_event: Event) -> None:
        raise error

    app.on(Event, broken)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    with app.worker(concurrency=1):
        assert add.send(1, 2).get(timeout=5) == 3
        assert add.send(3, 4).get(timeout=5) == 7
    said = [record for record in caplog.records if record.name == "anybroker.events"]
    assert {record.message.split()[3] for record in said} >= {"Enqueued", "Started", "Succeeded", "WorkerStopped"}
    assert all(record.levelno == logging.ERROR and record.exc_info for record in said)


def test_a_listener_may_come_and_go_while_events_happen(make_app: Callable[..., App]) -> None:
    app = make_app()
    heard = threading.Event()

    def once(_event: Succeeded) -> None:
        app.listeners.remove(once)
        heard.set()

    app.on(Succeeded, once)

    @app.task
    def nothing() -> None: ...

    with app.worker(concurrency=1):
        nothing.send()
        assert heard.wait(30)
        nothing.send().get(timeout=5)
    assert not app.listeners.any


def test_what_would_never_be_told_is_refused_where_it_is_written(app: App) -> None:
    async def never_awaited(_event: Event) -> None: ...

    mistakes: list[tuple[str, Callable[[], object]]] = [
        ("'Failed'.*class of anybroker.events", lambda: app.on("Failed", print)),  # type: ignore[call-overload]
        ("lambda.*class of anybroker.events", lambda: app.on(lambda _event: None)),  # type: ignore[call-overload]
        ("str.*class of anybroker.events", lambda: app.on(str, print)),  # type: ignore[type-var]
        ("never_awaited is a coroutine function", lambda: app.on(Failed, never_awaited)),
        ("never_awaited is a coroutine function", lambda: app.on(Failed)(never_awaited)),
        ("5 is no function", lambda: app.on(Failed, 5)),  # type: ignore[call-overload]
    ]
    for says, mistake in mistakes:
        with pytest.raises(ConfigurationError, match=says):
            mistake()
    assert not app.listeners.any


def test_every_event_is_emitted_by_some_test() -> None:
    """Here, or in worker/test_outage.py and worker/test_leases.py."""

    def leaves(kind: type[Event]) -> set[type[Event]]:
        below = kind.__subclasses__()
        return {kind} if not below else set().union(*(leaves(one) for one in below))

    here = {Enqueued, Acquired, Started, Succeeded, StepFinished, Retried, Failed, Expired, Deferred, Dead}
    here |= {WorkerStarted, WorkerStopped}
    assert leaves(Event) == here | {BrokerLost, BrokerBack, LeaseWasLost}
