"""What a close, a time limit or a purge must not leave behind: locks, connections, messages that came later."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App, dead_letters
from anybroker.broker import Message
from anybroker.codec import encode_dead
from anybroker.errors import BrokerUnavailable
from anybroker.memory.backend import MemoryBackend
from anybroker.task import DeadLetter, TaskErrorInfo
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anybroker.sqlite import SqliteBroker

MakeApp = Callable[..., App]


class WriteLock:
    """The file's write lock, held by a connection of our own, as if by another process."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def take(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def write_lock(path: Path) -> Iterator[WriteLock]:
    with closing(WriteLock(path)) as lock:
        yield lock


@pytest.mark.slow
@pytest.mark.usefixtures("prompt_stop")
def test_time_limit__while_the_task_waits_for_the_lock__leaves_it_free(
    make_app: MakeApp, sqlite_url: str, write_lock: WriteLock
) -> None:
    app = make_app(sqlite_url)
    sending, limit = threading.Barrier(3), 0.4
    ended: list[float] = []

    @app.task(name="child", queue="other", results=False)
    def child() -> None: ...

    @app.task(name="sender", timeout=limit, results=False)
    def sender() -> None:
        sending.wait(5)
        try:
            child.send()
        finally:
            ended.append(time.monotonic())

    @app.task(name="ping")
    def ping() -> int:
        return 1

    with app.worker(concurrency=4, lease=5):
        assert ping.send().get(5) == 1
        for _ in range(2):
            sender.send()
        until(lambda: sending.n_waiting == 2)
        write_lock.take()
        taken = time.monotonic()
        sending.wait(5)
        until(lambda: time.monotonic() > taken + 2 * limit)
        assert not ended, "both wait for the lock, past their limit"
        write_lock.release()
        until(lambda: len(ended) == 2)
        answers: list[int] = []
        asks = threading.Thread(target=lambda: answers.append(ping.send().get(5)), daemon=True)
        asks.start()
        until(lambda: answers, within=6, why="the lock is free again")


@pytest.fixture
def closed_while_acquiring(open_broker: Callable[..., SqliteBroker]) -> SqliteBroker:
    """A broker that was closed while three threads were in ``acquire``."""
    broker = open_broker()
    broker.enqueue([Message(str(number), "q", b"") for number in range(3)])
    inside = threading.Barrier(4)
    answered: list[Any] = []

    def acquire() -> None:
        inside.wait(5)
        while True:
            try:
                answered.append(broker.acquire(["q", "empty"], limit=1, wait=0.2, lease=60))
            except BrokerUnavailable:
                return

    threads = [threading.Thread(target=acquire, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    broker.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    return broker


@pytest.mark.parametrize("attempt", range(20))
def test_close__while_calls_are_under_way__leaves_no_connection_and_no_lease(
    closed_while_acquiring: SqliteBroker, open_broker: Callable[..., SqliteBroker], attempt: int
) -> None:
    assert closed_while_acquiring._database._connection is None, attempt
    assert open_broker().stats("q").leased == 0


def test_close__a_transaction_that_was_waiting_raises_and_opens_nothing(
    broker: SqliteBroker, write_lock: WriteLock
) -> None:
    broker.enqueue([Message("1", "q", b"")])
    database = broker._database
    write_lock.take()
    raised: list[BaseException] = []

    def late() -> None:
        try:
            broker.enqueue([Message("2", "q", b"")])
        except BrokerUnavailable as error:
            raised.append(error)

    database.lock.acquire()  # so that the call has passed its check and waits here when close comes
    thread = threading.Thread(target=late, daemon=True)
    thread.start()
    until(lambda: not thread.is_alive() or _waits_in(thread, "transaction"))
    write_lock.release()
    broker.close()
    database.lock.release()
    thread.join(5)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert "closed" in str(raised[0])
    assert database._connection is None


def _waits_in(thread: threading.Thread, name: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == name


def test_purge__leaves_what_was_enqueued_after_it_began(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.enqueue([Message(str(number), "q", b"") for number in range(3)])
    bite, bites = broker._purge_bite, 0

    def purge_bite(*arguments: Any) -> int:
        nonlocal bites
        removed = bite(*arguments)
        bites += 1
        broker.enqueue([Message(f"new-{bites}", "q", b"")])
        return removed

    monkeypatch.setattr(broker, "_purge_bite", purge_bite)
    assert broker.purge("q") == 3
    left = [message.id for message in broker.peek("q")]
    assert left == [f"new-{number + 1}" for number in range(bites)]


def test_purge__in_several_bites_removes_no_more_than_there_was(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker.sqlite.inspection.PURGE_BITE", 2)
    test_purge__leaves_what_was_enqueued_after_it_began(broker, monkeypatch)


def letter(id_: str, queue: str, *, priority: int = 0) -> Message:
    error = TaskErrorInfo(type="ValueError", message="", traceback="")
    dead = DeadLetter(
        v=1, reason="failed", queue=queue, died_at=datetime.now(UTC), error=error, attempt=1, priority=priority
    )
    return Message(id_, "default.dead", encode_dead(dead, b"{}"))


def ids(app: App, queue: str) -> Sequence[str]:
    return sorted(message.id for message in app.inspect().peek(queue))


@pytest.mark.parametrize(
    "unfit",
    [letter("unfit", ""), letter("unfit", "x" * 81), letter("unfit", "default", priority=2**40)],
    ids=["no queue", "long queue", "priority"],
)
def test_retry__a_letter_that_cannot_go_back_stays_and_keeps_no_other(
    make_app: MakeApp, each_url: str, unfit: Message
) -> None:
    app = make_app(each_url)
    app.broker.enqueue([letter("1", "default"), unfit, letter("2", "default")])
    assert sorted(dead_letters.retry(app, "default")) == ["1", "2"]
    assert ids(app, "default") == ["1", "2"]
    assert ids(app, "default.dead") == ["unfit"]
    stats = app.inspect().stats("default.dead")
    assert (stats.ready, stats.leased) == (1, 0)


@pytest.mark.parametrize("timeout", [0.0, 60.0])
def test_memory_backend__refuses_to_wait_once_closed(timeout: float) -> None:
    backend = MemoryBackend()
    backend.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        backend.wait(["1"], timeout=timeout)
    with pytest.raises(BrokerUnavailable, match="closed"):
        backend.fetch(["1"])


def test_get__ends_when_another_thread_closes_the_app(make_app: MakeApp, each_url: str) -> None:
    app = make_app(each_url)

    @app.task(name="never")
    def never() -> None: ...

    handle = never.send()
    raised: list[BaseException] = []

    def get() -> None:
        try:
            handle.get()
        except BrokerUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    until(lambda: _waits_in(thread, "wait"), why="get() has begun to wait")
    app.close()
    until(lambda: not thread.is_alive(), within=4)
    assert len(raised) == 1
    assert "closed" in str(raised[0])
