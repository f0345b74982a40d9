"""Tasks that misbehave: only that task is affected, by its policy."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import Retry, State, TaskFailed, TaskTimeout, current_context, dead_letters
from anybroker.broker import Message
from anybroker.codec import Codec
from anybroker.memory import MemoryBroker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker import App
    from anybroker.broker import Delivery, Stats


def recurse() -> None:
    recurse()


def exhaust_memory() -> None:
    _ = bytearray(sys.maxsize)


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


class OutOfLineError(BaseException):
    pass


@pytest.mark.parametrize(
    ("misbehave", "name"),
    [
        pytest.param(sys.exit, "SystemExit", id="exit"),
        pytest.param(raising(KeyboardInterrupt()), "KeyboardInterrupt", id="interrupt"),
        pytest.param(raising(GeneratorExit()), "GeneratorExit", id="generator exit"),
        pytest.param(raising(asyncio.CancelledError()), "CancelledError", id="cancelled"),
        pytest.param(raising(StopIteration()), "StopIteration|RuntimeError", id="stop iteration"),
        pytest.param(raising(OutOfLineError()), "OutOfLineError", id="base exception"),
        pytest.param(recurse, "RecursionError", id="recursion"),
        pytest.param(exhaust_memory, "MemoryError", id="memory"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_whatever_it_raises_only_that_task_fails(app: App, misbehave: Callable[[], None], name: str, kind: str) -> None:
    @app.task(name="plain", retry=Retry(max=1, after=0))
    def plain() -> None:
        misbehave()

    @app.task(name="coroutine", retry=Retry(max=1, after=0))
    async def coroutine() -> None:
        misbehave()

    @app.task
    def neighbour() -> int:
        return 1

    @app.task
    async def async_neighbour() -> int:
        await asyncio.sleep(0)
        return 2

    with app.worker(concurrency=1) as worker:
        before, bad = neighbour.send(), app.send_by_name(kind)
        after, async_after = neighbour.send(), async_neighbour.send()
        with pytest.raises(TaskFailed, match=name):
            bad.get(timeout=10)
        assert [before.get(timeout=10), after.get(timeout=10), async_after.get(timeout=10)] == [1, 1, 2]
        assert worker.stats().abandoned == 0
        result = bad.result()
        assert result is not None
        assert result.attempt == 2, "its retry policy holds"


def test_a_plain_task_past_its_timeout_gets_task_timeout(app: App) -> None:
    cleaned = []

    @app.task(timeout=0.1)
    def spin() -> None:
        try:
            while True:
                pass
        finally:
            cleaned.append(True)

    @app.task
    def neighbour() -> int:
        return 1

    with app.worker(concurrency=1) as worker:
        handle = spin.send()
        with pytest.raises(TaskFailed, match=r"TaskTimeout: ran longer than its time limit of 0\.1 s") as raised:
            handle.get(timeout=10)
        assert "in spin" in raised.value.remote_traceback
        assert neighbour.send().get(timeout=10) == 1
        assert worker.stats().abandoned == 0
    assert cleaned == [True]


def test_a_coroutine_past_its_timeout_is_cancelled(app: App) -> None:
    cancelled = threading.Event()

    @app.task(timeout=0.1)
    async def sleepy() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with app.worker(concurrency=1) as worker:
        with pytest.raises(TaskFailed, match=r"TaskTimeout: ran longer than its time limit of 0\.1 s"):
            sleepy.send().get(timeout=10)
        assert cancelled.is_set()
        assert worker.stats().abandoned == 0


@pytest.mark.parametrize("answer", [True, False])
def test_a_task_that_deals_with_its_timeout_itself_holds_its_thread_no_longer(
    app: App, monkeypatch: pytest.MonkeyPatch, *, answer: bool
) -> None:
    """Nothing waits for the exception, which has arrived already."""
    monkeypatch.setattr("anybroker.worker.deadlines.GIVE_UP_AFTER", 60)

    @app.task(timeout=0.05)
    def careful() -> str:
        deadline = time.monotonic() + 60
        try:
            while time.monotonic() < deadline:
                time.sleep(0.001)  # Python 3.13 runs no handler for what arrives at the jump of an empty loop
        except TaskTimeout as error:
            if not answer:
                raise ValueError("too slow") from error
        return "as far as it came"

    with app.worker(concurrency=1):
        handle = careful.send()
        if answer:
            assert handle.get(timeout=10) == "as far as it came"
        else:
            with pytest.raises(TaskFailed, match="ValueError: too slow"):
                handle.get(timeout=10)


@pytest.mark.parametrize("declared", [True, False])
def test_a_timeout_counts_as_a_failure_like_any_other(app: App, *, declared: bool) -> None:
    attempts = []

    @app.task(timeout=0.05 if declared else None, retry=Retry(max=2, after=0, on=TimeoutError))
    def slow_twice() -> int:
        attempts.append(current_context().last_error)
        while len(attempts) < 3:
            pass
        return len(attempts)

    with app.worker(concurrency=1):
        sender = slow_twice if declared else slow_twice.options(timeout=0.05)
        assert sender.send().get(timeout=10) == 3
    assert attempts[1] is not None
    assert attempts[1].type == "anybroker.errors.TaskTimeout"


def test_a_task_that_ends_in_time_is_not_disturbed(app: App) -> None:
    """Nor is the next one in the same thread, when the limit of the last would have been."""

    @app.task(timeout=0.05)
    def quick() -> None: ...

    @app.task
    def long() -> int:
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            pass
        return 1

    with app.worker(concurrency=1):
        for _ in range(20):
            quick.send()
        assert long.send().get(timeout=10) == 1


@pytest.mark.slow
def test_a_thread_that_ignores_its_timeout_is_given_up_and_replaced(
    app: App, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in a call that Python cannot interrupt; nobody waits for it."""

    @app.task(timeout=0.1)
    def stuck() -> None:
        gate.wait(60)

    @app.task
    def neighbour() -> int:
        return 1

    with app.worker(concurrency=2) as worker:
        handles = [stuck.send(), stuck.send()]
        waiting = neighbour.send()
        for handle in handles:
            with pytest.raises(TaskFailed, match="TaskTimeout"):
                handle.get(timeout=10)
        assert waiting.get(timeout=10) == 1
        assert worker.stats().abandoned == 2
        gate.set()
        assert [neighbour.send().get(timeout=10) for _ in range(4)] == [1] * 4
        until(lambda: worker.stats().idle)
        assert all(handle.status is State.FAILED for handle in handles)
    assert "ignores its time limit and keeps its thread" in caplog.text


@pytest.mark.slow
def test_a_thread_that_swallows_its_timeout_is_given_up(app: App, gate: threading.Event) -> None:
    @app.task(timeout=0.1, retry=Retry(max=1, after=0))
    def stubborn() -> int:
        while not gate.is_set() and current_context().attempt == 1:
            try:
                while not gate.is_set():
                    pass
            except Exception:  # noqa: S112
                continue
        return current_context().attempt

    with app.worker(concurrency=1) as worker:
        assert stubborn.send().get(timeout=10) == 2
        assert worker.stats().abandoned == 1
        gate.set()


@pytest.mark.slow
def test_a_coroutine_that_swallows_its_cancellation_is_given_up(app: App, gate: threading.Event) -> None:
    @app.task(timeout=0.1)
    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    @app.task
    async def neighbour() -> int:
        return 1

    with app.worker(concurrency=1) as worker:
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            stubborn.send().get(timeout=10)
        assert neighbour.send().get(timeout=10) == 1
        assert worker.stats().abandoned == 1
        gate.set()


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_coroutine_that_blocks_the_event_loop_is_given_up_alone(
    app: App, gate: threading.Event, caplog: pytest.LogCaptureFixture, others: int
) -> None:
    """Those that run or wait beside it, and those that come while it blocks, all end well, and once."""
    ran: list[int] = []
    blocking = threading.Event()

    @app.task(timeout=0.2)
    async def block() -> None:
        blocking.set()
        gate.wait(60)

    @app.task(name="neighbour")
    async def neighbour(number: int) -> int:
        if number < others:
            await asyncio.to_thread(blocking.wait, 10)
        await asyncio.sleep(0.01)
        ran.append(number)
        return number

    handles = [neighbour.send(number) for number in range(others)]
    with app.worker(concurrency=3) as worker:
        bad = block.send()
        assert blocking.wait(30)
        handles += [neighbour.send(others + number) for number in range(3)]
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            bad.get(timeout=10)
        assert [handle.get(timeout=10) for handle in handles] == list(range(others + 3))
        until(lambda: worker.stats().idle)
        gate.set()
        assert neighbour.send(99).get(timeout=10) == 99
        until(lambda: worker.stats().idle)
    assert "blocks the event loop" in caplog.text
    assert sorted(ran) == [*range(others + 3), 99], "none of them ran twice"


class SlowBroker(MemoryBroker):
    """Its calls take longer than the time limit of the task that makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted: list[str] = []

    def slowly(self, call: str) -> None:
        if threading.current_thread().name != "anybroker-task":
            return
        deadline = time.monotonic() + 0.3
        try:
            while time.monotonic() < deadline:
                pass
        except TaskTimeout:
            self.interrupted.append(call)
            raise

    def stats(self, queue: str) -> Stats:
        self.slowly("stats")
        return super().stats(queue)

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        self.slowly("acquire")
        return super().acquire(queues, limit=limit, wait=wait, lease=lease)


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda app: app.inspect().stats("default"), id="inspect"),
        pytest.param(lambda app: dead_letters.retry(app, "default"), id="dead letters"),
    ],
)
def test_a_time_limit_interrupts_no_look_into_queues(
    make_app: Callable[..., App], look: Callable[[App], object]
) -> None:
    """In the middle of a call it would leave the broker's lock taken, and all others waiting for it."""
    broker = SlowBroker()
    app = make_app(None, broker=broker, results_url="memory://")

    @app.task(timeout=0.1)
    def watch() -> None:
        while True:
            look(app)

    with app.worker(concurrency=1), pytest.raises(TaskFailed, match="TaskTimeout"):
        watch.send().get(timeout=10)
    assert broker.interrupted == []


def test_a_hook_or_a_result_that_misbehaves_past_the_timeout(app: App) -> None:
    calls: list[Any] = []

    def slow_hook(_context: object, value: object) -> None:
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            pass
        calls.append(value)

    @app.task(timeout=0.1, on_success=slow_hook)
    def quick() -> int:
        return 1

    with app.worker(concurrency=1):
        assert quick.send().get(timeout=10) == 1, "the limit is that of the task, not of its hooks"
    assert calls == [1]


def test_an_internal_error_is_logged_and_holds_up_nobody(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message on which the worker itself stumbles does not take the worker along, and is kept."""
    decode = Codec.decode

    def stumble(self: Codec, body: bytes) -> Any:
        task = decode(self, body)
        if task.id == "bad":
            raise AttributeError("a bug")
        return task

    monkeypatch.setattr(Codec, "decode", stumble)

    @app.task
    def one() -> int:
        return 1

    handles = [one.send(), one.options(id="bad").send(), one.send()]
    with app.worker(concurrency=3):
        assert [handles[0].get(timeout=5), handles[2].get(timeout=5), one.send().get(timeout=5)] == [1, 1, 1]
        until(lambda: [message.id for message in app.inspect().peek("default.dead")] == ["bad"])
    assert [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]


def test_a_message_that_cannot_even_be_a_dead_letter_holds_up_nobody(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """What came together with it is run, and nothing of it is held for ever."""

    @app.task
    def one() -> int:
        return 1

    text: Any = "not bytes"
    before = one.send()
    app.broker.enqueue([Message("bad", "default", text)])
    after = one.send()
    with app.worker(concurrency=3) as worker:
        assert [before.get(timeout=5), after.get(timeout=5)] == [1, 1]
        until(lambda: worker.stats().idle, 5)
    assert "message bad cannot be judged; it is delivered again after its lease" in caplog.text


def test_a_machine_that_grants_no_more_threads_for_a_while(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    start, refusals = threading.Thread.start, 3

    def refuse(thread: threading.Thread) -> None:
        nonlocal refusals
        if thread.name == "anybroker-task" and refusals:
            refusals -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    @app.task
    def one() -> int:
        return 1

    handles = [one.send() for _ in range(4)]
    with app.worker(concurrency=2, lease=1) as worker:
        assert [handle.get(timeout=8) for handle in handles] == [1] * 4
        assert worker.stats().abandoned == 0
    assert refusals == 0
