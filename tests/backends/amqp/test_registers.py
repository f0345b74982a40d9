"""What a result backend promises that the laws find broken by chance alone."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

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
        held = rabbitmq.ctl("-q", "list_queues", "name", "messages").splitlines()
    cells = [line.split("\t")[1] for line in held if line.startswith(f"{prefix}lock.")]
    assert cells == ["1"] * LOCKS


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
