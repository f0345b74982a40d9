"""Several processes on one file: waking each other, dying, holding the lock."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.broker import Delivery, Message
from anybroker.sqlite import SqliteBackend, SqliteBroker

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


pytestmark = pytest.mark.slow


Start = Callable[[str], "subprocess.Popen[str]"]

RECEIVER = """
import sys, time
from anybroker.sqlite import SqliteBroker
broker = SqliteBroker(sys.argv[1])
print("ready", flush=True)
while True:
    for delivery in broker.acquire(["q"], limit=1, wait=10, lease=30):
        print(time.time(), flush=True)
        broker.ack([delivery])
"""

ANSWERER = """
import sys
from anybroker.backend import Result, State
from anybroker.sqlite import SqliteBackend, SqliteBroker
broker, backend = SqliteBroker(sys.argv[1]), SqliteBackend(sys.argv[1])
while True:
    for delivery in broker.acquire(["q"], limit=1, wait=10, lease=30):
        backend.store([Result(delivery.message.id, State.SUCCEEDED, 1)], ttl=60)
        broker.ack([delivery])
"""

ENQUEUER = """
import sys
from anybroker.broker import Message
from anybroker.sqlite import SqliteBroker
broker = SqliteBroker(sys.argv[1])
for number in range(1_000_000):
    broker.enqueue([Message(f"{number}-{part}", "q", b"x" * 500) for part in range(3)])
    print(number, flush=True)
"""

LOCKER = """
import sys, time
from anybroker.broker import Message
from anybroker.sqlite import SqliteBroker
broker = SqliteBroker(sys.argv[1])
broker.enqueue([Message("whole", "q", b"")])
with broker._database.transaction() as connection:
    connection.execute("UPDATE messages SET body = 'half-done'")
    print("locked", flush=True)
    time.sleep(60)
"""


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the other process has ended"
    return line.strip()


def test_idle_acquire_in_another_process__wakes_within_the_declared_bound(broker: SqliteBroker, start: Start) -> None:
    receiver = start(RECEIVER)
    assert read_line(receiver) == "ready"
    delays = []
    for number in range(5):
        time.sleep(1.0)  # what is tested is how long it takes after a second in which nothing happened
        sent = time.time()
        broker.enqueue([Message(str(number), "q", b"")])
        delays.append(float(read_line(receiver)) - sent)
    assert statistics.median(delays) <= broker.capabilities.wake_bound


def test_round_trip_between_processes__takes_milliseconds_under_steady_traffic(
    broker: SqliteBroker, backend: SqliteBackend, start: Start
) -> None:
    start(ANSWERER)
    durations = []
    for number in range(200):
        began = time.perf_counter()
        broker.enqueue([Message(str(number), "q", b"")])
        assert backend.wait([str(number)], timeout=20) == [Result(str(number), State.SUCCEEDED, 1)]
        durations.append(time.perf_counter() - began)
    assert statistics.median(durations) < 0.02


def test_acquire_of_another_thread__wakes_at_once(broker: SqliteBroker) -> None:
    woken: list[float] = []

    def receive() -> None:
        assert broker.acquire(["q"], limit=1, wait=10, lease=30)
        woken.append(time.perf_counter())

    thread = threading.Thread(target=receive)
    thread.start()
    sent = time.perf_counter()
    broker.enqueue([Message("1", "q", b"")])
    thread.join(10)
    assert woken[0] - sent < 1


def test_many_waiting_threads__one_polls_and_all_are_served(broker: SqliteBroker, start: Start) -> None:
    served: list[str] = []

    def receive() -> None:
        served.extend(delivery.message.id for delivery in broker.acquire(["q"], limit=1, wait=20, lease=30))

    threads = [threading.Thread(target=receive) for _ in range(8)]
    for thread in threads:
        thread.start()
    sender = start(ENQUEUER)
    assert read_line(sender) == "0"
    for thread in threads:
        thread.join(20)
    assert len(set(served)) == 8


def test_lease_that_becomes_shorter__is_noticed_by_a_waiting_thread(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker.sqlite.broker._LONGEST_WAIT", 60.0)
    broker.enqueue([Message("1", "q", b"")])
    held = broker.acquire(["q"], limit=1, wait=0, lease=60)
    again: list[Delivery] = []
    thread = threading.Thread(target=lambda: again.extend(broker.acquire(["q"], limit=1, wait=30, lease=60)))
    thread.start()
    assert broker.extend(held, lease=0.1) == [True]
    thread.join(10)
    assert [delivery.message.id for delivery in again] == ["1"]


def test_lease_that_begins__is_told_to_waiting_threads(broker: SqliteBroker) -> None:
    broker.enqueue([Message("1", "q", b"")])
    before = broker._database.watch.version
    assert broker.acquire(["q"], limit=1, wait=0, lease=60)
    assert broker._database.watch.version != before


def test_wait_without_end__is_woken(backend: SqliteBackend) -> None:
    final: list[Result] = []
    thread = threading.Thread(target=lambda: final.extend(backend.wait(["t"], timeout=float("inf"))))
    thread.start()
    backend.store([Result("t", State.SUCCEEDED, 1)], ttl=None)
    thread.join(10)
    assert [result.id for result in final] == ["t"]


def test_close__ends_a_waiting_acquire(broker: SqliteBroker) -> None:
    answers: list[list[Delivery]] = []
    thread = threading.Thread(target=lambda: answers.append(broker.acquire(["q"], limit=1, wait=30, lease=60)))
    thread.start()
    deadline = time.monotonic() + 10
    while not broker._database.watch._polling:
        assert time.monotonic() < deadline, "the other thread does not wait"
        time.sleep(0.001)
    broker.close()
    thread.join(10)
    assert answers == [[]]


def test_waiting__costs_next_to_no_processor_time(broker: SqliteBroker) -> None:
    began = time.process_time()
    assert broker.acquire(["q"], limit=1, wait=2, lease=30) == []
    assert time.process_time() - began < 0.2


def test_idle_acquire__takes_no_write_lock(broker: SqliteBroker) -> None:
    broker.enqueue([Message("1", "other", b"")])
    executed: list[str] = []
    broker._database._connected().set_trace_callback(executed.append)
    assert broker.acquire(["q"], limit=1, wait=0.1, lease=30) == []
    assert any("SELECT" in sql for sql in executed)
    assert not any(sql.startswith("BEGIN") for sql in executed)


def test_sigkill_while_enqueueing__what_was_enqueued_is_there(path: Path, start: Start) -> None:
    sender = start(ENQUEUER)
    enqueued = [read_line(sender) for _ in range(100)]
    sender.kill()
    sender.wait()
    with closing(SqliteBroker(path)) as broker:
        delivered = [delivery.message for delivery in broker.acquire(["q"], limit=10_000, wait=0, lease=30)]
    assert {f"{number}-{part}" for number in enqueued for part in range(3)} <= {message.id for message in delivered}
    assert {message.body for message in delivered} == {b"x" * 500}
    assert len(delivered) % 3 == 0, "an enqueue is stored as a whole or not at all"


def test_sigkill_inside_a_transaction__others_go_on_without_it(path: Path, start: Start) -> None:
    locker = start(LOCKER)
    assert read_line(locker) == "locked"
    locker.kill()
    locker.wait()
    with closing(SqliteBroker(path)) as broker:
        broker.enqueue([Message("next", "q", b"")])
        assert [(message.id, message.body) for message in broker.peek("q")] == [("whole", b""), ("next", b"")]


def test_result_of_another_process__is_waited_for(path: Path, start: Start) -> None:
    with closing(SqliteBackend(path)) as backend:
        start(
            "import sys\nfrom anybroker.backend import *\nfrom anybroker.sqlite import SqliteBackend\n"
            "SqliteBackend(sys.argv[1]).store([Result('t', State.FAILED, 2, b'why')], ttl=None)"
        )
        assert backend.wait(["other", "t"], timeout=20) == [Result("t", State.FAILED, 2, b"why")]
