"""The broker or the result backend goes away and comes back: said once, waited for, nothing lost."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import Retry, State
from anybroker.codec import decode_dead
from anybroker.errors import BrokerUnavailable, ConfigurationError, MessageTooLarge
from anybroker.events import BrokerBack, BrokerLost, LeaseWasLost, Retried, Succeeded
from anybroker.worker import process
from anybroker.worker.outage import Outage
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from tests.core.worker.conftest import Faults


@pytest.fixture
def said(faulty_app: App) -> list[BrokerLost | BrokerBack | LeaseWasLost]:
    """What the worker announced."""
    events: list[Any] = []
    for kind in (BrokerLost, BrokerBack, LeaseWasLost):
        faulty_app.on(kind, events.append)
    return events


@pytest.fixture
def ran(faulty_app: App) -> list[int]:
    """The numbers that the task ``note`` noted."""
    noted: list[int] = []

    @faulty_app.task(name="note")
    def note(number: int) -> int:
        noted.append(number)
        return number

    return noted


@pytest.mark.slow
@pytest.mark.usefixtures("ran")
def test_an_idle_worker_says_it_once_backs_off_and_resumes(
    faulty_app: App,
    faults: Faults,
    said: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = faulty_app
    with app.worker(concurrency=2):
        app.send_by_name("note", [1]).get(timeout=10)
        faults.failing = {"all"}
        faults.calls.clear()
        start = time.monotonic()
        until(lambda: faults.calls["acquire"] >= 5)
        took = time.monotonic() - start
        assert [type(event) for event in said] == [BrokerLost]
        faults.failing = set()
        handle = app.send_by_name("note", [2])
        assert handle.get(timeout=10) == 2
        until(lambda: [type(event) for event in said] == [BrokerLost, BrokerBack])
    assert took >= 0.5 * (0.1 + 0.2 + 0.4 + 0.8) - 0.1, "each pause is longer than the one before"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "BrokerUnavailable" in errors[0].message
    assert "trying again" in errors[0].message
    assert "secret" not in caplog.text
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "the broker answers again"
    ]


@pytest.mark.usefixtures("ran")
def test_a_broker_that_is_down_at_the_start_is_waited_for(faulty_app: App, faults: Faults, said: list[Any]) -> None:
    app = faulty_app
    handle = app.send_by_name("note", [1])
    faults.failing = {"all"}
    with app.worker(concurrency=1):
        until(lambda: said)
        faults.failing = set()
        assert handle.get(timeout=10) == 1


@pytest.mark.parametrize("verb", ["store", "ack", "update", "acquire", "extend", "all"])
def test_what_runs_during_an_outage_is_settled_after_it(
    faulty_app: App,
    faults: Faults,
    said: list[Any],
    ran: list[int],
    gate: threading.Event,
    verb: str,
) -> None:
    app = faulty_app

    @app.task(name="fail_once", retry=Retry(max=1, after=0))
    def fail_once() -> str:
        gate.wait(10)
        if not ran:
            ran.append(0)
            raise ValueError
        return "second time"

    handles = [app.send_by_name("fail_once")]
    retried: list[Retried] = []
    app.on(Retried, retried.append)
    with app.worker(concurrency=3, lease=5) as worker:
        until(lambda: worker.stats().running == 1)
        faults.failing = {verb}
        faults.calls.clear()
        gate.set()
        until(lambda: faults.calls[verb] or faults.calls["acquire"] or verb == "extend")
        faults.failing = set()
        handles += [app.send_by_name("note", [number]) for number in range(1, 20)]
        assert [handle.get(timeout=10) for handle in handles] == ["second time", *range(1, 20)]
        until(lambda: worker.stats().idle)
    assert sorted(ran) == list(range(20)), "nothing ran twice"
    assert len(retried) == 1
    assert [event for event in said if isinstance(event, LeaseWasLost)] == []
    assert app.inspect().stats("default").total == 0


def test_a_batch_that_is_half_settled_when_the_broker_goes_is_not_settled_twice(
    faulty_app: App, faults: Faults, said: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One task succeeds and another is retried, in one batch; the outage comes between ack and update."""
    app = faulty_app
    meet = threading.Barrier(2)
    blocked, go = threading.Event(), threading.Event()
    succeeded: list[Succeeded] = []
    app.on(Succeeded, succeeded.append)

    @app.task(name="blocker", results=False)
    def blocker() -> None: ...

    @app.task(name="good")
    def good() -> str:
        meet.wait(10)
        return "good"

    @app.task(name="bad", retry=Retry(max=1, after=0))
    def bad() -> None:
        meet.wait(10)
        raise ValueError

    def hold_the_settler() -> None:
        blocked.set()
        go.wait(10)
        del faults.before["ack"]

    faults.before["ack"] = hold_the_settler
    handles = [app.send_by_name(name) for name in ("blocker", "good", "bad")]
    with app.worker(concurrency=3, lease=30) as worker:
        assert blocked.wait(10)
        until(lambda: worker.stats().running == 0 and worker.stats().settling == 3)
        faults.failing = {"update"}
        go.set()
        until(lambda: faults.calls["update"])
        faults.failing = set()
        assert handles[1].get(timeout=10) == "good"
        until(lambda: faults.log.count("update") and worker.stats().idle is not None)
        meet.abort()
        until(lambda: worker.stats().idle and handles[2].status is State.FAILED)
    assert [event.task for event in succeeded] == ["blocker", "good"]
    assert [event for event in said if isinstance(event, LeaseWasLost)] == []
    assert "lost" not in caplog.text.replace("BrokerLost", "")


def test_the_backend_alone_goes_away(faulty_app: App, faults: Faults, said: list[Any], ran: list[int]) -> None:
    """The broker still answers, which does not mean that all is well."""
    app = faulty_app
    with app.worker(concurrency=8, lease=30):
        faults.failing = {"store"}
        handles = []
        for number in range(6):
            handles.append(app.send_by_name("note", [number]))
            until(lambda: len(ran) == len(handles))
        until(lambda: faults.calls["store"] >= 4)
        assert [type(event) for event in said] == [BrokerLost]
        faults.failing = set()
        assert [handle.get(timeout=10) for handle in handles] == list(range(6))
        until(lambda: [type(event) for event in said] == [BrokerLost, BrokerBack])
    assert len(ran) == 6


@pytest.mark.usefixtures("ran")
def test_a_result_is_stored_before_its_message_is_acknowledged(faulty_app: App, faults: Faults) -> None:
    app = faulty_app
    stored: list[State] = []
    handle = app.send_by_name("note", [7])
    faults.before["ack"] = lambda: stored.append(handle.status)
    with app.worker(concurrency=1):
        assert handle.get(timeout=10) == 7
        until(lambda: stored)
    assert stored == [State.SUCCEEDED]
    assert faults.log.index("store") < faults.log.index("ack")


@pytest.mark.slow
def test_no_result_no_acknowledgement(faulty_app: App, faults: Faults, ran: list[int]) -> None:
    """A worker that dies while it cannot store a result leaves the task to others."""
    app = faulty_app
    handle = app.send_by_name("note", [7])
    faults.failing = {"store"}
    worker = app.worker(concurrency=1, lease=0.5)
    worker.start()
    until(lambda: faults.calls["store"] >= 2)
    worker.stop()
    assert faults.calls["ack"] == 0
    faults.failing = set()
    with app.worker(concurrency=1):
        assert handle.get(timeout=10) == 7
    assert ran == [7, 7]


@pytest.mark.slow
def test_an_outage_longer_than_the_lease_loses_nothing(
    faulty_app: App, faults: Faults, ran: list[int], gate: threading.Event
) -> None:
    app = faulty_app

    @app.task(name="slow")
    def slow() -> str:
        gate.wait(10)
        return "slow"

    handles = [app.send_by_name("slow"), *(app.send_by_name("note", [number]) for number in range(50))]
    with app.worker(concurrency=2, lease=0.3) as worker:
        until(lambda: worker.stats().running)
        faults.failing = {"all"}
        start = time.monotonic()
        until(lambda: time.monotonic() - start > 0.6, why="two leases have passed")
        gate.set()
        faults.failing = set()
        assert [handle.get(timeout=15) for handle in handles] == ["slow", *range(50)]
        until(lambda: worker.stats().idle)
    assert set(ran) == set(range(50))
    assert app.inspect().stats("default").total == 0


@pytest.mark.slow
@pytest.mark.usefixtures("ran")
def test_an_error_that_is_no_outage_is_logged_and_survived(
    faulty_app: App, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    """An adapter with a bug: one message cannot be settled; the others are."""
    app = faulty_app
    failures = 2

    def break_down() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise ZeroDivisionError

    faults.before["ack"] = break_down
    faults.before["acquire"] = lambda: None
    with app.worker(concurrency=1, lease=0.5):
        handle = app.send_by_name("note", [1])
        assert handle.get(timeout=10) == 1
        until(lambda: failures == 0 and app.inspect().stats("default").total == 0)
    assert "cannot be settled" in caplog.text


def test_a_password_that_is_refused_is_said_once_in_a_line(
    faulty_app: App, faults: Faults, ran: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise ConfigurationError("redis://shop:***@host: invalid username-password pair")

    faults.before["acquire"] = refuse
    with faulty_app.worker(concurrency=1):
        until(lambda: faults.calls["acquire"] >= 3)
        assert caplog.text.count("ConfigurationError: redis://shop:***@host: invalid username-password pair") == 1
        assert "Traceback" not in caplog.text
        faults.before.clear()
        faulty_app.send_by_name("note", [1]).get(timeout=20)
    assert ran == [1]


@pytest.mark.parametrize("verb", ["store", "enqueue"])
def test_what_is_refused_of_an_outcome_makes_the_task_a_dead_letter(
    faulty_app: App, faults: Faults, ran: list[int], verb: str
) -> None:
    """It would be refused again after another run, and after the last one the reason would be forgotten."""
    app = faulty_app

    @app.task
    def after(_result: int) -> None: ...

    @app.task(on_success=after)
    def note_and_go_on() -> int:
        ran.append(1)
        return 1

    def refuse() -> None:
        raise MessageTooLarge("not with me")

    note_and_go_on.send()
    faults.before[verb] = refuse
    with app.worker(concurrency=1):
        until(lambda: app.inspect().stats(app.dead_queue("default")).ready == 1)
    faults.before.clear()
    assert ran == [1]
    assert app.inspect().stats("default").total == 0
    [letter] = app.inspect().peek(app.dead_queue("default"), limit=2)
    dead, _ = decode_dead(letter.body)
    assert (dead.reason, dead.error and dead.error.message) == ("failed", "not with me")


def test_closing_without_the_broker_closes_the_backend_and_changes_no_exit_code(
    make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app("memory://")
    backend = app.results()

    def close() -> None:
        raise BrokerUnavailable("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(app.broker, "close", close)
        patch.setattr(process, "find_app", lambda _target: app)
        patch.setattr(process, "run", lambda _worker, **_options: process.EXIT_STOPPED)
        assert process.run_target(process.WorkerOptions(target="tasks:app")) == process.EXIT_STOPPED
    assert "the server is gone" in caplog.text
    with pytest.raises(BrokerUnavailable, match="closed"):
        backend.fetch(["x"])


def test_pauses_grow_with_jitter_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    pauses: list[float] = []

    class Recorder(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    monkeypatch.setattr("anybroker.worker.outage.threading.Event", Recorder)
    pausing = Outage("w", app.listeners)
    for _ in range(12):
        pausing.pause("acquire", BrokerUnavailable("away"))
    for number, pause in enumerate(pauses):
        whole = min(0.1 * 2**number, 5.0)
        assert whole / 2 <= pause <= whole
    assert len(set(pauses)) == 12
