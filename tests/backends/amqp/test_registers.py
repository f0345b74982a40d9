"""What a result backend promises that the laws find broken by chance alone."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from pika import spec

from anybroker.backend import Result, State
from anybroker_backend_amqp import AmqpBackend
from anybroker_backend_amqp.registers import LOCKS, LONGEST, _life
from tests.brokers.amqp.server import rabbitmq

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.mark.parametrize("days", [1, 25, 30, 49])
def test_the_queue_of_a_result_ends_after_it(days: int) -> None:
    life = _life(days * 86400.0)
    assert life is not None
    assert days * 86_400_000 < life <= LONGEST
