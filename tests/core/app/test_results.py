"""Results: states, waiting, failures as they look from afar, keeping and cancelling."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from anybroker import (
    ConfigurationError,
    DecodeError,
    ResultTimeout,
    Retry,
    State,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    waiter,  # noqa: F401  imported here: Python 3.11.0 to 3.11.4 cannot parse in two threads at once (gh-106905)
)
from anybroker.backend import Result
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from anybroker import App, Handle
    from anybroker.testing import Testing

R = TypeVar("R")


def test_the_states_of_a_task_that_is_retried_and_succeeds(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)
    go = [threading.Event(), threading.Event()]

    @app.task(retry=Retry(max=1, after=0.2))
    def second_time() -> str:
        attempt = 0 if not go[0].is_set() else 1
        go[attempt].wait(10)
        if attempt == 0:
            raise OSError
        return "there"

    handle = second_time.send()
    seen = [handle.status]
    with app.worker(concurrency=1):
        for event in go:
            until(lambda: handle.status is State.RUNNING, why="a task that takes a while is shown as running")
            seen.append(handle.status)
            event.set()
            until(lambda: handle.status is not State.RUNNING)
            seen.append(handle.status)
    assert seen == [State.PENDING, State.RUNNING, State.RETRYING, State.RUNNING, State.SUCCEEDED]
    result = handle.result()
    assert result is not None
    assert result.attempt == 2
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.started_at < result.finished_at


def test_final_states(app: App, t: Testing) -> None:
    @app.task
    def fail() -> None:
        raise ValueError

    failed, cancelled, expired = fail.send(), fail.options(delay=1).send(), fail.options(expires=1, delay=2).send()
    assert cancelled.cancel()
    t.run_until_idle()
    assert [one.status for one in (failed, cancelled, expired)] == [State.FAILED, State.CANCELLED, State.EXPIRED]
    with pytest.raises(TaskFailed):
        failed.get()
    with pytest.raises(TaskCancelled):
        cancelled.get()
    with pytest.raises(TaskExpired):
        expired.get()


def test_a_failed_get_carries_the_remote_traceback(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    class TooHotError(Exception):
        pass

    def deep_inside() -> None:
        raise TooHotError("42 °C")

    @app.task
    def measure() -> None:
        deep_inside()

    @app.task
    async def measure_async() -> None:
        deep_inside()

    with app.worker(concurrency=2):
        for handle in (measure.send(), measure_async.send()):
            with pytest.raises(TaskFailed, match="42 °C") as raised:
                handle.get(timeout=10)
            assert raised.value.type.endswith("TooHotError")
            lines = raised.value.remote_traceback.splitlines()
            assert lines[0] == "Traceback (most recent call last):"
            assert [line for line in lines if "in deep_inside" in line]
            assert lines[1].lstrip().startswith("File ")
            assert "executors.py" not in lines[1], "the worker's own frame is left out"
            assert str(raised.value).endswith(lines[-1])


def test_the_cause_of_an_error_is_part_of_the_traceback(app: App, t: Testing) -> None:
    @app.task
    def fail() -> None:
        try:
            _ = dict[str, int]()["missing"]
        except KeyError as error:
            raise RuntimeError("outer") from error

    handle = fail.send()
    t.run()
    with pytest.raises(TaskFailed) as raised:
        handle.get()
    assert "KeyError: 'missing'" in raised.value.remote_traceback
    assert "direct cause" in raised.value.remote_traceback


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(UnspeakableError(), id="no message"),
        pytest.param(ValueError("lone \ud800 surrogate"), id="surrogate"),
        pytest.param(ValueError("x" * 1_000_000), id="long"),
        pytest.param(ValueError("\x00\n\n"), id="control characters"),
        pytest.param(ExceptionGroup("several", [ValueError("one"), OSError("other")]), id="group"),
        pytest.param(asyncio.CancelledError(), id="cancelled"),
        pytest.param(TimeoutError(), id="timeout"),
    ],
)
def test_whatever_is_raised_arrives_as_a_failure_of_bounded_size(app: App, t: Testing, error: BaseException) -> None:
    @app.task
    def fail() -> None:
        raise error

    @app.task
    async def fail_async() -> None:
        raise error

    for task in (fail, fail_async):
        handle: Any = task.send()
        t.run()
        with pytest.raises(TaskFailed, match=type(error).__name__) as raised:
            handle.get()
        assert len(str(raised.value)) < 40_000


def test_get_waits_and_then_gives_up(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    @app.task
    def never() -> None: ...

    handle = never.send()
    start = time.monotonic()
    with pytest.raises(ResultTimeout, match=handle.id):
        handle.get(timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 10
    with pytest.raises(ResultTimeout):
        handle.get(timeout=0)


def test_a_time_to_wait_may_be_a_timedelta_like_every_other_duration(app: App) -> None:
    @app.task
    def never() -> None: ...

    short = timedelta(milliseconds=10)
    handles = app.send_many([never.s(), never.s()])
    with pytest.raises(ResultTimeout, match=r"within 0\.01 s"):
        handles[0].get(timeout=short)
    with pytest.raises(ResultTimeout, match=r"within 0\.01 s"):
        app.get_many(handles, timeout=short)


def test_many_results_in_the_order_of_their_handles(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    @app.task
    def square(x: int) -> int:
        return x * x

    with app.worker(concurrency=4):
        handles = app.send_many([square.s(i) for i in range(500)])
        backwards = app.get_many([*handles[::-1], handles[0]], timeout=10)
        assert backwards == [*(i * i for i in reversed(range(500))), 0]
    assert app.get_many(iter(handles)) == [i * i for i in range(500)], "they are there already"
    assert app.get_many([]) == []


def many(app: App, handles: Sequence[Handle[R]]) -> list[R]:
    return app.get_many(handles)


def each(app: App, handles: Sequence[Handle[R]]) -> list[R]:  # noqa: ARG001
    return [one.get() for one in handles]


@pytest.mark.parametrize("results", [many, each])
@pytest.mark.parametrize("there", [True, False], ids=["there already", "one by one"])
def test_many_results_take_few_calls_that_bring_nothing(
    app: App,
    t: Testing,
    monkeypatch: pytest.MonkeyPatch,
    *,
    there: bool,
    results: Callable[[App, Sequence[Handle[Any]]], list[Any]],
) -> None:
    @app.task
    def square(x: int) -> int:
        return x * x

    handles = app.send_many([square.s(i) for i in range(1000)])
    t.run()
    fetch, wait = t.backend.fetch, t.backend.wait
    looked, waited = [], []

    def count_looks(ids: Sequence[str]) -> list[Result | None]:
        looked.append(ids)
        return fetch(ids) if there else [None for _ in ids]

    def count_waits(ids: Sequence[str], *, timeout: float) -> list[Result]:
        waited.append(ids)
        return wait(ids, timeout=timeout)

    monkeypatch.setattr(t.backend, "fetch", count_looks)
    monkeypatch.setattr(t.backend, "wait", count_waits)
    assert results(app, handles) == [i * i for i in range(1000)]
    assert len(looked) <= (12 if results is many else 4 * 8), "those who ask each for one look for 256 at a time"
    assert len(waited) == (0 if there else 1000)


@pytest.mark.parametrize("results", [many, each])
def test_few_large_results_are_looked_for_in_one_call(
    app: App, t: Testing, monkeypatch: pytest.MonkeyPatch, results: Callable[[App, Sequence[Handle[Any]]], list[Any]]
) -> None:
    @app.task
    def large(x: int) -> str:
        return chr(x) * 400_000

    handles = app.send_many([large.s(x) for x in range(60, 120)])
    t.run()
    fetch, sizes = t.backend.fetch, []

    def measured(ids: Sequence[str]) -> list[Result | None]:
        found = fetch(ids)
        sizes.append(sum(len(one.body) for one in found if one is not None))
        return found

    monkeypatch.setattr(t.backend, "fetch", measured)
    assert results(app, handles) == [chr(x) * 400_000 for x in range(60, 120)]
    assert max(sizes[1:]) < 1_300_000


def test_results_without_a_byte_are_no_results_of_ours(app: App, t: Testing) -> None:
    @app.task
    def one() -> int:
        return 1

    handles = app.send_many([one.s() for _ in range(2)])
    t.backend.store([Result(handle.id, State.SUCCEEDED, 1, b"") for handle in handles], ttl=None)
    with pytest.raises(DecodeError, match=handles[0].id):
        handles[0].get(timeout=1)


def test_what_was_looked_for_with_another_one_is_forgotten_and_asked_for_again(app: App, t: Testing) -> None:
    @app.task
    def one() -> int:
        return 1

    first, second, third = app.send_many([one.s() for _ in range(3)])
    t.run()
    assert [first.get(), first.get()] == [1, 1]
    second.forget()
    with pytest.raises(ResultTimeout):
        second.get(timeout=0)
    t.backend.forget([third.id])
    assert third.get(timeout=0) == 1, "it was there when its sibling was asked for"
    with pytest.raises(ResultTimeout):
        third.get(timeout=0)


def test_many_results_of_which_one_failed(app: App, t: Testing) -> None:
    @app.task
    def check(x: int) -> int:
        if x > 1:
            raise ValueError(f"{x} is too much")
        return x

    handles = app.send_many([check.s(i) for i in range(4)])
    t.run()
    with pytest.raises(TaskFailed, match="2 is too much"):
        app.get_many(handles)
    assert app.get_many(handles[:2]) == [0, 1]


def test_many_results_are_given_up_together(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    @app.task
    def never() -> None: ...

    handles = app.send_many([never.s() for _ in range(3)])
    start = time.monotonic()
    with pytest.raises(ResultTimeout, match=handles[0].id):
        app.get_many(handles, timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 10


def test_many_results_have_one_time_together(app: App, t: Testing, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.task
    def one() -> int:
        return 1

    handles = app.send_many([one.s() for _ in range(2)])
    t.run()
    handles += app.send_many([one.s() for _ in range(2)])
    fetch, now, waited = t.backend.fetch, 0.0, list[float]()

    def take_time(ids: Sequence[str], *, timeout: float) -> list[Result]:
        nonlocal now
        now += 0.4
        waited.append(round(timeout, 3))
        return [one for one in fetch(ids) if one is not None]

    monkeypatch.setattr("anybroker.handle.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(t.backend, "wait", take_time)
    monkeypatch.setattr(t.backend, "fetch", lambda ids: [None for _ in ids])
    with pytest.raises(ResultTimeout, match=handles[2].id):
        app.get_many(handles, timeout=1)
    assert waited == [0.5, 0.5, 0.2]


def test_many_awaits_at_once(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    @app.task
    def square(x: int) -> int:
        if x == 13:
            raise ValueError("unlucky")
        return x * x

    async def main() -> list[int | BaseException]:
        handles = app.send_many([square.s(i) for i in range(300)])

        async def wait(i: int) -> int:
            return await handles[i]

        return await asyncio.gather(*(wait(i) for i in range(300)), wait(0), return_exceptions=True)

    before = set(threading.enumerate())
    with app.worker(concurrency=4):
        results = asyncio.run(main())
    waiting = [one for one in set(threading.enumerate()) - before if one.name == "anybroker-results"]
    assert isinstance(results.pop(13), TaskFailed)
    assert results == [i * i for i in range(300) if i != 13] + [0]
    assert len(waiting) == 1, "all of them are waited for by one thread"


def test_an_await_can_be_given_up_and_repeated(app: App) -> None:
    @app.task
    def one() -> int:
        return 1

    async def main() -> int:
        handle = one.send()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_get(handle), timeout=0.05)
        with app.worker(concurrency=1):
            return await asyncio.wait_for(_get(handle), timeout=10)

    async def _get(handle: Any) -> int:
        value: int = await handle
        return value

    assert asyncio.run(main()) == 1
    until(lambda: not app.waiter(app.results())._waiting)


def test_results_off(app: App, t: Testing) -> None:
    @app.task(results=False)
    def nothing() -> object:
        return object()  # what is not kept need not travel

    handle = nothing.send()
    assert t.run() == 1
    assert t.dead() == []
    assert t.backend.fetch([handle.id]) == [None]
    for ask in (handle.get, lambda: handle.status, handle.result, handle.forget):
        with pytest.raises(ConfigurationError, match="results=False"):
            ask()


def test_without_a_backend_the_error_says_what_to_do(make_app: Callable[..., App]) -> None:
    app = make_app("memory://", results_url="none")

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    done = threading.Event()
    handle = add.send(1, 2)

    async def await_it() -> None:
        await handle

    for ask in (handle.get, lambda: handle.status, lambda: asyncio.run(await_it())):
        with pytest.raises(ConfigurationError, match=r"results_url=.*ANYBROKER_RESULTS_URL"):
            ask()

    @app.task(on_success=lambda _context, _result: done.set())
    def last() -> None: ...

    last.send()
    with app.worker(concurrency=1):
        assert done.wait(10), "tasks run without a backend"


@pytest.mark.parametrize(
    ("keep", "configured", "lives"),
    [
        (60, None, 60),
        (timedelta(minutes=2), None, 120),
        (None, 30, 30),
        (True, 30, 30),
        (None, None, 86_400),
        ("forever", 30, None),
        (None, "forever", None),
    ],
)
def test_results_live_as_long_as_is_said(
    make_app: Callable[..., App], keep: Any, configured: Any, lives: float | None
) -> None:
    app = make_app("memory://", results_ttl=configured)

    @app.task(results=keep)
    def one() -> int:
        return 1

    with app.testing() as t:
        handle = one.send()
        t.run()
        t.advance(365 * 86_400 if lives is None else lives - 1)
        assert handle.get() == 1
        if lives is not None:
            t.advance(2)
            assert handle.status is State.PENDING
            assert handle.result() is None


def test_forget(app: App, t: Testing) -> None:
    @app.task
    def one() -> int:
        return 1

    handle = one.send()
    t.run()
    handle.forget()
    assert handle.status is State.PENDING


def test_a_result_that_does_not_fit_its_annotation_is_said_to(app: App, t: Testing) -> None:
    def lying() -> int:
        words: Any = "three"
        return words  # type: ignore[no-any-return]

    handle = app.task(lying).send()
    t.run()
    with pytest.raises((DecodeError, TaskFailed), match="lying"):
        handle.get()


def test_a_result_that_cannot_travel_fails_the_task(app: App, t: Testing) -> None:
    @app.task
    def opaque() -> Any:
        return object()

    handle = opaque.send()
    t.run()
    with pytest.raises(TaskFailed, match="object that cannot travel"):
        handle.get()
    assert [letter.reason for letter in t.dead()] == ["failed"]


@pytest.mark.parametrize("results", [True, False])
@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_nobody_awaits_is_no_success(app: App, t: Testing, *, results: bool) -> None:
    """A decorator that is a plain function hides that the function is a coroutine function: it would never run."""

    def decorated(function: Callable[[], Any]) -> Callable[[], Any]:
        def plain() -> Any:
            return function()

        return plain

    async def work() -> None: ...

    app.task(name="work", results=results)(decorated(work)).send()
    t.run()
    [letter] = t.dead()
    assert letter.error is not None
    assert "work returned a coroutine, which nobody awaits" in letter.error.message


def test_a_result_that_is_too_large_fails_the_task(make_app: Callable[..., App], tmp_path: Path) -> None:
    app = make_app("memory://", results_url=f"sqlite:///{tmp_path}/results.db?max_body=5000")

    @app.task
    def long(n: int) -> str:
        return "x" * n

    with app.worker(concurrency=1):
        with pytest.raises(TaskFailed, match="result backend takes at most 5,000"):
            long.send(6000).get(timeout=10)
        assert len(long.send(4000).get(timeout=10)) == 4000


def test_a_failure_that_is_too_large_for_the_result_backend_is_told_in_brief(
    make_app: Callable[..., App], tmp_path: Path
) -> None:
    app = make_app("memory://", results_url=f"sqlite:///{tmp_path}/results.db?max_body=1000")

    @app.task
    def fail() -> None:
        raise ValueError("no " * 1000)

    with app.worker(concurrency=1), pytest.raises(TaskFailed, match="ValueError: no no no"):
        fail.send().get(timeout=10)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_both_formats_go_all_the_way(make_app: Callable[..., App], each_url: str, codec: str) -> None:
    app = make_app(each_url, codec=codec)

    @app.task
    def echo(data: bytes, when: timedelta, *, names: set[str]) -> tuple[bytes, timedelta, set[str]]:
        return data, when, names

    sent = (b"\x00\xff", timedelta(days=2, seconds=3), {"a", "ä"})
    with app.worker(concurrency=1):
        assert echo.send(sent[0], sent[1], names=sent[2]).get(timeout=10) == sent
