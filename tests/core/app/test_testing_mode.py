"""Testing mode: what it offers, and that it is the real pipeline."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from anybroker import App, ResultTimeout, Retry
from anybroker.events import Enqueued

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.testing import Testing

pytest_plugins = ["pytester"]


def test_a_delay_of_two_days_takes_no_time(app: App, t: Testing) -> None:
    ran = []

    @app.task
    def welcome(user: int) -> None:
        ran.append(user)

    start, before = time.monotonic(), t.now
    welcome.options(delay=timedelta(days=2)).send(42)
    assert t.run() == 0
    t.advance(timedelta(days=2))
    assert t.run() == 1
    assert ran == [42]
    assert t.now - before == timedelta(days=2)
    assert time.monotonic() - start < 60


def test_time_stands_still_by_itself(app: App, t: Testing) -> None:
    before = t.now
    assert app.clock.now() == before
    assert t.now == before
    with pytest.raises(ValueError, match="backwards"):
        t.advance(-1)


def test_run_runs_what_tasks_send_and_counts(app: App, t: Testing) -> None:
    ran = []

    @app.task
    def count_down(n: int) -> None:
        ran.append(n)
        if n:
            count_down.send(n - 1)

    count_down.send(3)
    assert t.run() == 4
    assert ran == [3, 2, 1, 0]
    assert t.run() == 0


def test_run_until_idle_moves_the_time_to_each_moment(app: App, t: Testing) -> None:
    at = []

    @app.task
    def note() -> None:
        at.append(t.now)

    start = t.now
    for delay in (5, 1, 3):
        note.options(delay=delay).send()
    assert t.run_until_idle() == 3
    assert at == [start + timedelta(seconds=seconds) for seconds in (1, 3, 5)]


@pytest.mark.timeout(20)
def test_run_until_idle_waits_for_who_is_behind_a_later_one_of_the_same_key(app: App, t: Testing) -> None:
    ran = []

    @app.task
    def note(name: str) -> None:
        ran.append((name, t.now - start))

    start = t.now
    note.options(delay=2, ordering_key="k").send("first")
    note.options(delay=1, ordering_key="k").send("second")
    assert t.run_until_idle() == 2
    assert ran == [("first", timedelta(seconds=2)), ("second", timedelta(seconds=2))]


@pytest.mark.timeout(20)
def test_a_time_limit_holds_in_testing_mode_too(app: App, t: Testing) -> None:
    @app.task(timeout=0.05)
    def endless() -> None:
        while True:
            pass

    endless.send()
    assert t.run() == 1
    (letter,) = t.dead()
    assert letter.error is not None
    assert letter.error.type == "anybroker.errors.TaskTimeout"


def test_nothing_uses_threads_or_the_real_broker(app: App) -> None:
    broker, backend, clock = app.broker, app.backend, app.clock

    @app.task
    def where() -> int:
        return threading.get_ident()

    with app.testing() as t:
        assert app.broker is not broker
        handle = where.send()
        t.run()
        assert handle.get() == threading.get_ident()
    assert (app.broker, app.backend, app.clock) == (broker, backend, clock)
    assert app.inspect().queues() == []
    assert not app.listeners.any


def test_two_testings_know_nothing_of_each_other(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    with app.testing() as t:
        nothing.send()
    with app.testing() as t:
        assert t.run() == 0
        assert t.events == []


def test_an_exception_inside_the_block_restores_the_app(app: App) -> None:
    broker = app.broker
    with pytest.raises(ZeroDivisionError), app.testing():
        _ = 1 / 0
    assert app.broker is broker


def test_async_tasks_run_also_when_the_test_itself_is_in_an_event_loop(app: App, t: Testing) -> None:
    @app.task
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    async def inside() -> int:
        handle = await double.send_async(4)
        t.run()
        return await handle

    assert asyncio.run(inside()) == 8


@pytest.mark.usefixtures("t")
def test_get_does_not_wait_for_what_cannot_come(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    handle = nothing.send()
    with pytest.raises(ResultTimeout, match=r"t\.run\(\)"):
        handle.get()

    async def await_it() -> None:
        await handle

    with pytest.raises(ResultTimeout, match=r"t\.run\(\)"):
        asyncio.run(await_it())


def test_assert_enqueued(app: App, t: Testing) -> None:
    @app.task(name="mail")
    def mail(to: str, *, urgent: bool = False) -> None: ...

    @app.task(name="other")
    def other() -> None: ...

    with pytest.raises(AssertionError, match="nothing"):
        t.assert_enqueued(mail, "ada")
    t.assert_not_enqueued(mail)
    mail.send("ada", urgent=True)
    t.assert_enqueued(mail, "ada", urgent=True)
    with pytest.raises(AssertionError, match=r"mail\('bob'\) was not sent; sent: mail\('ada', urgent=True\)"):
        t.assert_enqueued(mail, "bob")
    with pytest.raises(AssertionError):
        t.assert_enqueued(mail, "ada")
    with pytest.raises(AssertionError, match="mail was sent"):
        t.assert_not_enqueued(mail)
    t.assert_not_enqueued(other)
    t.run()
    t.assert_enqueued(mail, "ada", urgent=True)


def test_assert_enqueued_takes_keyword_and_positional_arguments_for_the_same(app: App, t: Testing) -> None:
    @app.task
    def mail(to: str, subject: str = "") -> None: ...

    mail.send(to="ada", subject="hi")
    t.assert_enqueued(mail, "ada", "hi")


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_assert_enqueued_compares_values_and_not_how_they_were_written(codec: str) -> None:
    app = App("memory://", codec=codec)

    @app.task
    def mail(to: str, *, fields: dict[str, int], tags: frozenset[str] = frozenset(), **more: float) -> None: ...

    with app.testing() as t:
        mail.send("ada", fields={"a": 1, "b": 2}, tags=frozenset("abcdefgh"), x=1, y=2.0)
        t.assert_enqueued(mail, "ada", y=2, x=1.0, tags=frozenset("hgfedcba"), fields={"b": 2, "a": 1})
        with pytest.raises(AssertionError, match="was not sent"):
            t.assert_enqueued(mail, "ada", y=2, x=1.0, tags=frozenset("hgfedcb"), fields={"b": 2, "a": 1})
        other = App("memory://", broker=t.broker, codec=codec)
        other.send_by_name(mail.name, [5])
        with pytest.raises(AssertionError, match="was not sent"):
            t.assert_enqueued(mail, "bob", fields={})


def test_results_pass_with_the_time(app: App, t: Testing) -> None:
    @app.task(results=60)
    def one() -> int:
        return 1

    handle = one.send()
    t.run()
    assert handle.get() == 1
    t.advance(61)
    with pytest.raises(ResultTimeout):
        handle.get()


def test_dead_letters_by_queue(app: App, t: Testing) -> None:
    @app.task(queue="mail")
    def fail() -> None:
        raise ValueError("no")

    fail.send()
    t.run()
    assert t.dead() == []
    (letter,) = t.dead("mail")
    assert letter.error is not None
    assert letter.error.message == "no"


def test_a_retry_waits_for_its_moment(app: App, t: Testing) -> None:
    runs = []

    @app.task(retry=Retry(max=1, after=timedelta(hours=1)))
    def fail() -> None:
        runs.append(t.now)
        raise ValueError

    fail.send()
    assert t.run() == 1
    assert t.run() == 0
    t.advance(3600)
    assert t.run() == 1


def test_the_fixture(app: App, anybroker_testing: Callable[[App], Testing]) -> None:
    @app.task
    def nothing() -> None: ...

    t = anybroker_testing(app)
    nothing.send()
    t.assert_enqueued(nothing)
    assert [type(event) for event in t.events] == [Enqueued]
    assert t.run() == 1


def test_the_fixture_ends_testing_mode_after_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from anybroker import App

        app = App("memory://")
        broker = app.broker

        @app.task
        def add(a: int, b: int) -> int:
            return a + b

        def test_sends(anybroker_testing):
            t = anybroker_testing(app)
            handle = add.send(2, 3)
            t.assert_enqueued(add, 2, 3)
            t.run()
            assert handle.get() == 5

        def test_is_over():
            assert app.broker is broker
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist").assert_outcomes(passed=2)
