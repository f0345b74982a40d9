"""What a result backend promises that the laws find broken by chance alone."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pika
import pytest
from pika import spec

from anybroker.backend import Result, State
from anybroker.errors import BrokerUnavailable
from anybroker_backend_amqp import AmqpBackend, registers
from anybroker_backend_amqp.lanes import Lanes
from anybroker_backend_amqp.registers import LOCKS, LONGEST, _life
from anybroker_backend_amqp.session import Session
from tests.brokers.amqp.server import rabbitmq
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pika.amqp_object import Method

    from anybroker_backend_amqp.session import Got

pytestmark = [pytest.mark.services, pytest.mark.slow]

DONE = Result("1", State.SUCCEEDED, 1, b"done")


@pytest.fixture
def backend() -> Iterator[AmqpBackend]:
    with closing(AmqpBackend(rabbitmq.url(prefix=f"r{os.urandom(4).hex()}."))) as one:
        yield one


def test_values_are_not_counted_but_looked_at(backend: AmqpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ's queues tell how many messages they have before they put back those that they were given back.

    That is seen on a busy machine alone; here it is always so.
    """
    decode = spec.Queue.DeclareOk.decode

    def decoded(self: spec.Queue.DeclareOk, *arguments: Any) -> Any:
        answer = decode(self, *arguments)
        answer.message_count = 0
        return answer

    monkeypatch.setattr(spec.Queue.DeclareOk, "decode", decoded)
    kept = Result("1", State.FAILED, 3, b"kept")
    assert backend.store([kept], ttl=60) == [True]
    for state in State:
        assert backend.store([Result("1", state, 1, b"zombie")], ttl=60) == [False]
        assert backend.fetch(["1"]) == [kept]
    token = backend.claim("lock", ttl=60)
    assert backend.claim("lock", ttl=60) is None
    assert backend.release("lock", token or "")
    assert [backend.join("group", member, size=2) for member in "aab"] == [False, False, True]


def test_threads_that_begin_together_make_the_locks_once() -> None:
    prefix = f"r{os.urandom(4).hex()}."
    with closing(AmqpBackend(rabbitmq.url(prefix=prefix))) as backend:
        barrier = threading.Barrier(8)

        def begin(number: int) -> None:
            barrier.wait()
            backend.claim(f"lock {number}", ttl=60)
            backend.join(f"group {number}", "member", size=2)
            backend.store([Result(f"{number}", State.SUCCEEDED, 1, b"")], ttl=60)

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        backend.close()
        assert cells(prefix) == ["1"] * LOCKS


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_locks_that_are_deleted_are_made_again(kept: int, *, new: bool) -> None:
    """As by who deletes all queues, and none beside one that somebody holds. 0: it is another server, with nothing."""
    prefix = f"r{os.urandom(4).hex()}."
    url = rabbitmq.url(prefix=prefix)
    mine = crc32(f"{prefix}result.1".encode())
    names = [f"{prefix}lock.{(mine + place) % LOCKS:02}" for place in range(LOCKS)]
    with closing(AmqpBackend(url)) as backend:
        assert backend.store([DONE], ttl=60) == [True]
        with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq.running.url))) as connection:
            channel = connection.channel()
            if kept:
                channel.basic_get(names[-1])
            else:
                channel.exchange_delete(f"{prefix}lock.ready")
            for name in names[: LOCKS - kept]:
                channel.queue_delete(name)
            with closing(AmqpBackend(url)) if new else nullcontext(backend) as one:
                until(lambda: is_stored(one))
        until(lambda: cells(prefix) == ["1"] * LOCKS, why=lambda: f"{cells(prefix)}")


def test_nothing_piles_up_while_the_server_takes_nothing() -> None:
    with closing(AmqpBackend(rabbitmq.url(prefix=f"r{os.urandom(4).hex()}.", timeout="1s"))) as backend:
        backend.store([DONE], ttl=60)
        connection = backend._sessions.connection()
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            until(lambda: refuses(backend) and connection.blocking)
            before = len(connection.channels)
            assert all(refuses(backend) for _ in range(3))
            assert len(connection.channels) == before
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1500MB")
        until(lambda: not refuses(backend))
        assert backend.fetch(["1"]) == [DONE]


def refuses(backend: AmqpBackend) -> bool:
    """Whether a result cannot be stored."""
    try:
        backend.store([Result(os.urandom(8).hex(), State.SUCCEEDED, 1, b"")], ttl=60)
    except BrokerUnavailable:
        return True
    return False


def is_stored(backend: AmqpBackend) -> bool:
    """The first call may raise."""
    try:
        backend.store([DONE], ttl=60)
    except BrokerUnavailable:
        return False
    return backend.fetch(["1"]) == [DONE]


def cells(prefix: str) -> list[str]:
    """How many messages there are in each of the locks."""
    held = rabbitmq.ctl("-q", "list_queues", "name", "messages").splitlines()
    return [line.split("\t")[1] for line in held if line.startswith(f"{prefix}lock.")]


def test_a_new_result_is_stored_in_one_round_trip_beside_its_lock_and_its_confirm(
    backend: AmqpBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.fetch(["1"])  # connects
    asked: list[int] = []
    do = Lanes.do

    def count(lanes: Lanes, tasks: Sequence[Sequence[Method]], **options: Any) -> list[list[Any]]:
        asked.extend([len(tasks)] if tasks else [])
        return do(lanes, tasks, **options)

    monkeypatch.setattr(Lanes, "do", count)
    results = [Result(f"{number}", State.SUCCEEDED, 1, b"") for number in range(20)]
    assert backend.store(results, ttl=60) == [True] * 20
    assert asked == [20]
    assert backend.store(results, ttl=6000) == [False] * 20  # their queues are there in another form
    assert backend.fetch([result.id for result in results]) == results


def test_who_waits_for_one_lock_keeps_those_before(backend: AmqpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not wait for each of 64 when one of them is held."""
    waited: list[str] = []
    waiting = threading.Event()
    wait_for = Session.wait_for

    def count(session: Session, queue: str, timeout: float) -> Got | None:
        waited.append(queue)
        waiting.set()
        return wait_for(session, queue, timeout)

    monkeypatch.setattr(Session, "wait_for", count)
    results = [Result(f"{number}", State.SUCCEEDED, 1, b"") for number in range(200)]
    with ThreadPoolExecutor(1) as threads:
        with backend._results._locked(["5"]):
            stored = threads.submit(backend.store, results, ttl=60)
            assert waiting.wait(60)
        assert stored.result() == [True] * 200
    assert len(waited) == 1


def test_a_part_that_is_refused_fails_the_store(backend: AmqpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last part is stored."""
    monkeypatch.setattr(registers, "_PART", 1)
    confirmed = Session.on_confirm
    confirms: list[int] = []

    def refuse_first(session: Session, tag: int, *, multiple: bool, stored: bool) -> None:
        confirms.append(tag)
        confirmed(session, tag, multiple=multiple, stored=stored and len(confirms) > 1)

    backend.fetch(["1"])
    monkeypatch.setattr(Session, "on_confirm", refuse_first)
    with pytest.raises(BrokerUnavailable, match="refused to store"):
        backend.store([Result(f"{number}", State.SUCCEEDED, 1, b"") for number in range(3)], ttl=60)
    monkeypatch.undo()
    assert backend.store([Result("other", State.SUCCEEDED, 1, b"")], ttl=60) == [True]


@pytest.mark.parametrize("number", [200, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_queue_is_left_of_what_has_expired_or_is_forgotten(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of groups that are sealed and locks that are released."""
    monkeypatch.setattr(registers, "_REST", 1000)
    prefix = f"r{os.urandom(4).hex()}."
    with closing(AmqpBackend(rabbitmq.url(prefix=prefix, group_ttl="1s"))) as backend:
        for start in range(0, number, 100):
            ids = [f"{start + index}" for index in range(100)]
            backend.store([Result(id_, State.SUCCEEDED, 1, b"") for id_ in ids], ttl=1)
            backend.forget(ids[:10])
            backend.join(ids[0], "member", size=1)
            backend.seal(ids[0])
            backend.release(ids[0], backend.claim(ids[0], ttl=60) or "")
        until(lambda: _registers(prefix) == [], 120, why=lambda: f"queues are left: {_registers(prefix)[:5]}")


def _registers(prefix: str) -> list[str]:
    """The queues of registers that there are."""
    names = rabbitmq.ctl("-q", "--no-table-headers", "list_queues", "name").splitlines()
    return [name for name in names if name.startswith(prefix) and not name.startswith(f"{prefix}lock.")]


@pytest.mark.parametrize("days", [1, 25, 30, 49])
def test_the_queue_of_a_result_ends_after_it(days: int) -> None:
    life = _life(days * 86400.0)
    assert life is not None
    assert days * 86_400_000 < life <= LONGEST
