"""Cancelling: a task that waits will not run; one that runs or is done is left alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from anybroker import Retry, State, TaskCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from anybroker.testing import Testing


def test_cancel_keeps_a_waiting_task_from_running(app: App, t: Testing) -> None:
    @app.task
    def never() -> None:
        raise AssertionError

    handle = never.send()
    assert handle.cancel() is True
    assert handle.cancel() is False
    assert t.run() == 0
    assert handle.status is State.CANCELLED


def test_cancel_comes_too_late_for_what_runs_or_is_done(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)
    started, go = threading.Event(), threading.Event()

    @app.task
    def slow() -> int:
        started.set()
        go.wait(10)
        return 1

    handle = slow.send()
    with app.worker(concurrency=1):
        assert started.wait(10)
        assert handle.cancel() is False
        go.set()
        assert handle.get(timeout=10) == 1
        assert handle.cancel() is False
        assert handle.status is State.SUCCEEDED


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_cancel_between_two_retries(app: App, t: Testing, failures: int) -> None:
    @app.task(retry=Retry(max=9, after=60))
    def fail() -> None:
        raise ValueError

    handle = fail.send()
    for _ in range(failures):
        t.run()
        t.advance(60)
    assert handle.cancel() is True
    assert handle.status is State.CANCELLED
    with pytest.raises(TaskCancelled):
        handle.get()
    assert t.run() == 0


def test_cancel_keeps_no_result_of_a_task_that_keeps_none(app: App, t: Testing) -> None:
    @app.task(results=False)
    def nothing() -> None: ...

    handle = nothing.send()
    assert handle.cancel() is True
    assert t.backend.fetch([handle.id]) == [None]
