"""The thread that watches time limits, under many tasks that end before theirs."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.context import _current, shielded
from anybroker.errors import TaskTimeout
from anybroker.worker import deadlines as deadlines_module
from anybroker.worker.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator


def execution(key: int) -> Any:
    return SimpleNamespace(key=key, shielded=0, interrupting=False)


@pytest.fixture
def _switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("long", [1e10, 1e300])
def test_a_time_limit_of_centuries_ends_no_other(long: float) -> None:
    """Longer than any lock can be waited for."""
    given_up = threading.Event()
    deadlines = Deadlines(lambda _execution: given_up.set())
    deadlines.arm(execution(1), long, thread=None)
    waiting = next(one for one in threading.enumerate() if one.name == "anybroker-deadlines")
    waiting.join(0.05)
    assert waiting.is_alive()
    deadlines.arm(execution(2), 0.01, thread=None)
    assert given_up.wait(10)
    deadlines.forget(execution(1))
    deadlines.arm(execution(3), 0.01, thread=None)  # so that the thread notices, and ends
    waiting.join(10)
    assert not waiting.is_alive()


class Lingering(threading.Condition):
    """One whose lock the thread ``task`` gives back a while after it could have."""

    def __init__(self) -> None:
        super().__init__()
        self.lingers = threading.Event()

    def __exit__(self, *failure: object) -> None:
        if threading.current_thread().name == "task":
            self.lingers.set()
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                pass
        self.release()


def test_a_time_limit_that_passes_while_it_is_set_leaves_no_lock_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could set another one: each task with a time limit would hang."""

    def monotonic() -> float:
        if threading.current_thread().name == "anybroker-deadlines":
            changed.lingers.wait(1)  # look only when the task is in the middle of it
        return time.monotonic()

    def task() -> None:
        with suppress(TaskTimeout):
            deadlines.arm(execution(2), -1, thread=threading.get_ident())
            ended.wait(10)

    monkeypatch.setattr("anybroker.worker.deadlines.time", SimpleNamespace(monotonic=monotonic))
    ended = threading.Event()
    deadlines = Deadlines(lambda _execution: None)
    changed = deadlines._changed = Lingering()
    running = threading.Thread(target=task, name="task")
    deadlines.arm(execution(1), 60, thread=None)
    running.start()
    assert changed.lingers.wait(10)
    running.join(1)
    taken = changed.acquire(timeout=5)
    ended.set()
    running.join(10)
    assert taken
    deadlines.forget(execution(1))
    changed.notify()
    changed.release()


def test_a_time_limit_that_passes_before_a_shielded_call_does_not_arrive_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that watches has seen the task unshielded, and is held up before it raises the exception."""
    deciding, entering, came = threading.Event(), threading.Event(), []
    raise_in = deadlines_module._raise_in

    def raise_late(thread: int, error: type[BaseException] | None) -> None:
        deciding.set()
        entering.wait(10)
        time.sleep(0.1)  # the call goes on for longer
        raise_in(thread, error)

    def call() -> None:
        try:
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except TaskTimeout:
            came.append("in the call")
            raise

    def task() -> None:
        _current.set(one)
        try:
            deadlines.arm(one, 0.01, thread=threading.get_ident())
            deciding.wait(10)
            entering.set()
            shielded(call)
        except TaskTimeout:
            came.append("outside")

    one = execution(1)
    monkeypatch.setattr(deadlines_module, "_raise_in", raise_late)
    deadlines = Deadlines(lambda _execution: None)
    running = threading.Thread(target=task)
    running.start()
    running.join(10)
    deadlines.forget(one)
    assert came == ["outside"]


@pytest.mark.slow
@pytest.mark.usefixtures("_switch_interval")
def test_time_limits_are_watched_while_tasks_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread looks through what others change at any moment."""
    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    given_up, gone = threading.Event(), threading.Event()
    deadlines = Deadlines(lambda _execution: given_up.set())

    def come_and_go() -> None:
        while not gone.is_set():
            deadlines.arm(execution(0), 60, thread=None)
            deadlines.forget(execution(0))

    tasks = [execution(number) for number in range(1, 5000)]
    for task in tasks:
        deadlines.arm(task, 60, thread=None)
    sys.setswitchinterval(1e-6)
    coming = threading.Thread(target=come_and_go)
    coming.start()
    for task in tasks:
        deadlines.forget(task)
        time.sleep(0)  # let the other threads go on
    gone.set()
    coming.join()
    deadlines.arm(execution(-1), 0.01, thread=None)
    assert given_up.wait(10), failed
    assert failed == []
