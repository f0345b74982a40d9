"""Hooks: functions and tasks that are told what became of a task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import ConfigurationError, Context, Failure, Retry, State
from anybroker.events import Enqueued, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from anybroker.testing import Testing

Told = list[tuple[str, str, Any]]


@pytest.fixture
def told() -> Told:
    """What the hook functions were told: (which hook, id, result or exception)."""
    return []


def hook(told: Told, name: str) -> Callable[[Context, object], None]:
    return lambda context, value: told.append((name, context.id, value))


def test_functions_get_the_context_and_the_result_or_the_exception(app: App, t: Testing, told: Told) -> None:
    @app.task(on_success=hook(told, "success"), on_failure=hook(told, "failure"))
    def divide(a: int, b: int) -> float:
        return a / b

    good, bad = divide.send(1, 2), divide.send(1, 0)
    t.run()
    assert told[0] == ("success", good.id, 0.5)
    assert told[1][:2] == ("failure", bad.id)
    assert isinstance(told[1][2], ZeroDivisionError)
    assert len(told) == 2


def test_several_hooks_are_called_in_order(app: App, t: Testing, told: Told) -> None:
    @app.task(on_success=[hook(told, "one"), hook(told, "two")])
    def nothing() -> None: ...

    nothing.send()
    t.run()
    assert [name for name, *_ in told] == ["one", "two"]


def test_tasks_get_the_result_or_the_failure(app: App, t: Testing) -> None:
    got: list[object] = []

    @app.task
    def log_result(value: float) -> None:
        got.append(value)

    @app.task
    def log_failure(failure: Failure) -> None:
        got.append(failure)

    @app.task(name="divide", on_success=log_result, on_failure=log_failure.options(queue="alarms"), retry=Retry(max=1))
    def divide(a: int, b: int) -> float:
        return a / b

    divide.send(1, 2)
    bad = divide.options(headers={"tenant": "7"}).send(1, 0)
    t.run_until_idle()
    assert got[0] == 0.5
    failure = got[1]
    assert isinstance(failure, Failure)
    assert (failure.id, failure.task, failure.queue, failure.attempt) == (bad.id, "divide", "default", 2)
    assert failure.headers == {"tenant": "7"}
    assert failure.error.type == "ZeroDivisionError"
    assert "divide" in failure.error.traceback
    assert len(got) == 2


def test_on_failure_is_not_called_for_a_retry(app: App, t: Testing, told: Told) -> None:
    @app.task(retry=Retry(max=2, after=1), on_failure=hook(told, "failure"), on_success=hook(told, "success"))
    def fail() -> None:
        raise ValueError

    fail.send()
    t.run()
    assert told == []
    t.run_until_idle()
    assert [name for name, *_ in told] == ["failure"]


def test_on_failure_hears_of_every_way_to_fail(app: App, t: Testing, told: Told) -> None:
    @app.task(name="number", on_failure=hook(told, "failure"))
    def number(x: int) -> int:
        return x

    app.tasks.pop("number")
    app.send_by_name("number", ["text"])
    app.task(name="number", on_failure=hook(told, "failure"))(number)
    number.options(expires=1, delay=2).send(1)
    t.run_until_idle()
    assert [type(error).__name__ for *_, error in told] == ["ArgumentsError", "TaskExpired"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_exception_in_a_hook_is_logged_and_changes_nothing(
    make_app: Callable[..., App], told: Told, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    app = make_app()

    def broken(_context: Context, _value: object) -> None:
        raise error

    @app.task(on_success=[broken, hook(told, "after")], on_failure=[broken, hook(told, "after")])
    def check(good: bool) -> str:
        assert good
        return "fine"

    with app.worker(concurrency=1) as worker:
        assert check.send(good=True).get(timeout=5) == "fine"
        bad = check.send(good=False)
        assert check.send(good=True).get(timeout=5) == "fine"
        assert bad.status is State.FAILED
        assert worker.stats().finished >= 3 or not worker.stats().idle
    assert len(told) == 3
    logged = [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]
    assert len(logged) == 3
    assert "a hook of" in logged[0].message


def test_a_hook_task_that_cannot_be_sent_changes_nothing(
    app: App, t: Testing, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def wants_a_number(x: int) -> None: ...

    @app.task(on_success=wants_a_number)
    def gives_text() -> str:
        return "text"

    handle = gives_text.send()
    assert t.run() == 1
    assert handle.get() == "text"
    assert "a hook of" in caplog.text


def test_a_hook_task_that_the_broker_would_refuse_changes_nothing(
    app: App, t: Testing, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def after(_x: int) -> None: ...

    @app.task(on_success=[after.options(priority=2**40), after])
    def one() -> int:
        return 1

    handle = one.send()
    assert t.run() == 2
    assert handle.get() == 1
    assert t.dead() == []
    assert "a hook of" in caplog.text
    assert "priority" in caplog.text


def test_hook_tasks_are_in_the_broker_before_the_task_is_acknowledged(
    app: App, t: Testing, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def note(subject: object, verb: str) -> None:
        original = getattr(subject, verb)

        def noting(*args: Any, **kwargs: Any) -> Any:
            calls.append(verb)
            return original(*args, **kwargs)

        monkeypatch.setattr(subject, verb, noting)

    for verb in ("enqueue", "ack", "update"):
        note(t.broker, verb)
    note(t.backend, "store")

    @app.task(results=False)
    def after(x: int) -> None: ...

    @app.task(on_success=after)
    def before() -> int:
        return 1

    before.send()
    calls.clear()
    t.run()
    assert calls == ["store", "enqueue", "ack", "ack"]


def test_a_hook_task_is_sent_once_however_often_the_task_is_delivered(app: App, t: Testing) -> None:
    got: list[int] = []

    @app.task
    def after(x: int) -> None:
        got.append(x)

    @app.task(on_success=after)
    def before() -> int:
        return 1

    before.options(id="once").send()
    (delivery,) = t.broker.acquire(["default"], limit=1, wait=0, lease=60)
    from anybroker.worker.execution import Execution
    from anybroker.worker.pipeline import Pipeline

    pipeline = Pipeline(app)
    execution = pipeline.admit(delivery)
    assert isinstance(execution, Execution)
    t.broker.enqueue(pipeline.succeeded(execution, 1).successors)  # and here the worker died
    t.broker.update([(delivery, delivery.message)])
    t.run()
    assert got == [1]


def test_a_task_sent_by_a_hook_is_announced(app: App, t: Testing) -> None:
    @app.task(name="after")
    def after(x: int) -> None: ...

    @app.task(name="before", on_success=after)
    def before() -> int:
        return 1

    before.send()
    t.run()
    assert [event.task for event in t.events if isinstance(event, Enqueued)] == ["before", "after"]
    assert [event.task for event in t.events if isinstance(event, Succeeded)] == ["before", "after"]


def test_a_hook_that_could_not_be_called_is_refused_where_it_is_declared(app: App) -> None:
    def takes_one(result: int) -> None: ...

    def takes_two(context: Any, result: int) -> None: ...

    fitting: list[Any] = [takes_two, print, min, app.task(takes_one).options(delay=1)]
    app.task(name="fitting", on_success=fitting, on_failure=fitting)(lambda: None)
    wrong: dict[str, Any] = {
        r"takes_one is called with the context and the result: too many": takes_one,
        r"takes_two is called with the result: missing": app.task(takes_two),
        r"nothing is called with the result: too many": app.task(name="nothing")(lambda: None).options(delay=1),
    }
    for says, hook in wrong.items():
        with pytest.raises(ConfigurationError, match=says):
            app.task(name="task", on_success=hook)(lambda: None)
    with pytest.raises(ConfigurationError, match="takes_one is called with the context and the failure"):
        app.job("job", on_failure=takes_one)


def test_a_coroutine_function_is_refused_as_a_hook(app: App) -> None:
    async def never_awaited(context: Context, value: object) -> None: ...

    for kind in ("on_success", "on_failure"):
        options: dict[str, Any] = {kind: never_awaited}
        with pytest.raises(ConfigurationError, match="coroutine"):
            app.task(name=kind, **options)(lambda: None)
