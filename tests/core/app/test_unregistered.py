"""A task whose name no worker knows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from anybroker.events import Dead, Deferred
from anybroker.worker.pipeline import MAX_DEFERRALS
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from anybroker import App
    from anybroker.testing import Testing


def nothing() -> None: ...


def test_it_is_put_off_with_growing_delay_and_dead_lettered_in_the_end(app: App, t: Testing) -> None:
    app.send_by_name("elsewhere.task", [1], headers={"a": "b"}, priority=3)
    start = t.now
    assert t.run_until_idle() == 0, "nothing was run"
    delays = [event.delay for event in t.events if isinstance(event, Deferred)]
    assert delays == [2.0**n for n in range(MAX_DEFERRALS)]
    assert (t.now - start).total_seconds() == sum(delays)
    assert sum(delays) < 600
    (letter,) = t.dead()
    assert (letter.reason, letter.attempt, letter.priority) == ("unregistered", 1, 3)
    assert letter.error is not None
    assert letter.error.type == "anybroker.errors.UnknownTask"
    assert [event.reason for event in t.events if isinstance(event, Dead)] == ["unregistered"]


def test_the_log_lists_the_nearest_names(app: App, t: Testing, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("mail.send_welcome", "mail.send_receipt", "images.resize"):
        app.task(name=name)(nothing)
    app.send_by_name("mail.send_welcom")
    with caplog.at_level(logging.WARNING, "anybroker.worker"):
        t.run()
    (record,) = caplog.records
    assert "no task is registered as 'mail.send_welcom'" in record.message
    assert record.message.index("mail.send_welcome") < record.message.index("mail.send_receipt")
    assert "images.resize" not in record.message
    assert f"put off for 1 s, 1 of {MAX_DEFERRALS}" in record.message


def test_where_no_name_is_near_the_log_lists_what_there_is(
    app: App, t: Testing, caplog: pytest.LogCaptureFixture
) -> None:
    app.send_by_name("zzz")
    t.run()
    app.task(name="images.resize")(nothing)
    t.advance(1)
    t.run()
    assert "registered: none" in caplog.records[0].message
    assert "registered: images.resize" in caplog.records[1].message


def test_it_runs_as_soon_as_somebody_knows_it(app: App, t: Testing) -> None:
    handle = app.send_by_name("later.known", [20], queue="q", headers={"a": "b"})
    t.run()
    t.advance(1)
    t.run()

    @app.task(name="later.known")
    def double(x: int) -> int:
        return 2 * x

    t.advance(2)
    assert t.run() == 1
    assert handle.get() == 40


def test_others_are_not_held_up(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)

    @app.task
    def known() -> int:
        return 1

    for number in range(20):
        app.send_by_name(f"unknown{number}")
    handle = known.send()
    with app.worker(concurrency=1) as worker:
        assert handle.get(timeout=5) == 1
        until(lambda: worker.stats().idle)
    assert app.inspect().stats("default").total == 20
