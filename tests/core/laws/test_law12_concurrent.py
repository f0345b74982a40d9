"""Law 12: any number of threads and processes; a fork after use is safe."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.memory import MemoryBackend, MemoryBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker, Peer

THREADS = 8


def test_law12_concurrent__threads_deliver_every_message_once(
    realtime: FullBroker, make: Callable[..., Message]
) -> None:
    messages = [make(f"q{n % 3}", priority=n % 5) for n in range(2000)]
    batches = [messages[n : n + 50] for n in range(0, 2000, 50)]
    done = threading.Event()

    def consume() -> list[str]:
        finished: list[str] = []
        while not done.is_set():
            taken = realtime.acquire(["q0", "q1", "q2"], limit=13, wait=0.05, lease=60)
            again, last = taken[:2], taken[2:]
            assert all(realtime.extend(taken, lease=120))
            assert all(realtime.ack(last))
            finished += [one.message.id for one in last]
            # every so often one is given back instead, marked so that it is finished the next time
            back = [(one, msgspec.structs.replace(one.message, body=b"again")) for one in again if not one.message.body]
            assert all(realtime.update(back))
            rest = [one for one in again if one.message.body]
            assert all(realtime.ack(rest))
            finished += [one.message.id for one in rest]
        return finished

    with ThreadPoolExecutor(2 * THREADS) as pool:
        consumers = [pool.submit(consume) for _ in range(THREADS)]
        list(pool.map(realtime.enqueue, batches))
        deadline = time.monotonic() + 60
        while realtime.queues():
            assert time.monotonic() < deadline, "messages were left behind"
            assert not any(one.done() for one in consumers), "a consumer died"
        done.set()
        finished = Counter(chain.from_iterable(one.result(10) for one in consumers))
    assert finished == Counter(message.id for message in messages)


def test_law12_concurrent__one_message_for_many_racing_threads(realtime: Broker, make: Callable[..., Message]) -> None:
    barrier = threading.Barrier(THREADS)

    def race() -> int:
        barrier.wait(10)
        return len(realtime.acquire(["q"], limit=1, wait=0, lease=60))

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(20):
            realtime.enqueue([make()])
            assert sum(one.result(30) for one in [pool.submit(race) for _ in range(THREADS)]) == 1


def test_law12_concurrent__one_settle_wins(realtime: FullBroker, make: Callable[..., Message]) -> None:
    barrier = threading.Barrier(THREADS)

    def settle(held: Delivery, by_ack: bool) -> bool:
        barrier.wait(10)
        if by_ack:
            return realtime.ack([held])[0]
        return realtime.update([(held, msgspec.structs.replace(held.message, queue="dead"))])[0]

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(20):
            realtime.enqueue([make()])
            [held] = realtime.acquire(["q"], limit=1, wait=0, lease=60)
            futures = [pool.submit(settle, held, number % 2 == 0) for number in range(THREADS)]
            answers = [future.result(30) for future in futures]
            assert sum(answers) == 1
            assert realtime.stats("q").total == 0
            assert realtime.purge("dead") == answers.index(True) % 2


def test_law12_concurrent__processes_share_the_work(
    shared: FullBroker, peer: Callable[[], Peer], make: Callable[..., Message]
) -> None:
    messages = [make() for _ in range(600)]
    peers = [peer(), peer()]
    shared.enqueue(messages)
    for one in peers:
        one.ask("drain", "q", 60)
    done = [*chain.from_iterable(one.answer() for one in peers)]
    assert Counter(done) == Counter(message.id for message in messages)
    assert shared.queues() == []


def in_child(check: Callable[[], object]) -> None:
    """Run a check in a fork of this process; fails if it raises there or takes longer than 20 seconds."""
    child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 20
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.005)


forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forks
def test_law12_concurrent__fork_after_use_shares_the_messages(shared: FullBroker, make: Callable[..., Message]) -> None:
    first, second, third = make(), make(), make()
    shared.enqueue([first, second])
    [held] = shared.acquire(["q"], limit=1, wait=0, lease=60)

    def child() -> None:
        [taken] = shared.acquire(["q"], limit=5, wait=0, lease=60)
        assert taken.message == second
        assert shared.ack([taken]) == [True]
        shared.enqueue([third])
        shared.close()

    in_child(child)
    assert shared.ack([held]) == [True], "the child's close has given up what the parent holds"
    assert [one.message for one in shared.acquire(["q"], limit=5, wait=0, lease=60)] == [third]


@forks
def test_law12_concurrent__fork_gives_the_child_of_a_memory_broker_its_own_copy(make: Callable[..., Message]) -> None:
    broker = MemoryBroker()
    messages = [make(), make()]
    broker.enqueue(messages)

    def child() -> None:
        taken = broker.acquire(["q"], limit=5, wait=0, lease=60)
        assert [one.message for one in taken] == messages
        assert broker.ack(taken) == [True, True]

    in_child(child)
    assert broker.stats("q").ready == 2


@forks
def test_law12_concurrent__fork_while_other_threads_work(realtime: FullBroker, make: Callable[..., Message]) -> None:
    stop = threading.Event()
    backend = MemoryBackend()

    def work(name: str) -> None:
        while not stop.is_set():
            realtime.enqueue([make(name) for _ in range(5)])
            realtime.ack(realtime.acquire([name], limit=5, wait=0.01, lease=60))
            backend.fetch([name])

    def use() -> None:
        realtime.enqueue([make("child", id="of the child")])
        taken = realtime.acquire(["child"], limit=1, wait=5, lease=60)
        assert realtime.ack(taken) == [True]
        assert backend.claim("lock", ttl=5)
        assert backend.wait(["unknown"], timeout=0.01) == []

    def child() -> None:
        with ThreadPoolExecutor(
            1
        ) as pool:  # the forking thread itself could pass a reentrant lock that was left locked
            pool.submit(use).result(15)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, name) for name in "abcd"]
        try:
            for _ in range(10):
                in_child(child)
        finally:
            stop.set()
        for worker in workers:
            worker.result(20)
