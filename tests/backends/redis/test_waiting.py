"""Waiting for results: one connection for all who wait, whichever node has what they wait for."""

from __future__ import annotations

import select
import statistics
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py

from anybroker.backend import Result, State
from anybroker.errors import BrokerUnavailable, ConfigurationError, DecodeError
from anybroker_backend_redis import RedisBackend
from anybroker_backend_redis import backend as module
from anybroker_backend_redis.backend import SHARDS
from anybroker_backend_redis.listener import Waiting
from anybroker_broker_redis.link import Link
from tests.brokers.redis.route import Route
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.connection import Connection

    from anybroker_conformance.services import Running

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The connections that those who wait have made."""
    made: list[Connection] = []
    connect = Link.connect

    def counted(link: Link) -> Connection:
        made.append(connect(link))
        return made[-1]

    monkeypatch.setattr(Link, "connect", counted)
    return made


@pytest.fixture
def nodes(cluster: Running) -> Iterator[list[Any]]:
    """Clients of all nodes of the cluster."""
    with ExitStack() as stack:
        yield [stack.enter_context(redis_py.Redis(port=cluster.ports[node])) for node in cluster.nodes]


@pytest.fixture
def ids(cluster: Running) -> Iterator[list[str]]:
    """One id in each shard."""
    with closing(RedisBackend(cluster.url)) as backend:
        found: dict[int, str] = {}
        number = 0
        while len(found) < SHARDS:
            number += 1
            found.setdefault(backend._shard(f"waiting{number}"), f"waiting{number}")
        backend.forget(list(found.values()))
        yield list(found.values())
        backend.forget(list(found.values()))


def test_one_connection_waits_for_all_shards(cluster: Running, ids: list[str], connected: list[Connection]) -> None:
    """It is made once, and not again for each key that its node has not."""
    with closing(RedisBackend(cluster.url)) as backend:
        for id_ in ids:
            assert backend.wait([id_], timeout=0.05) == []
        assert backend.wait(ids, timeout=0.5) == []
        assert len(connected) == 1


def test_all_shards_wake(cluster: Running, ids: list[str], connected: list[Connection], nodes: list[Any]) -> None:
    """Within the declared bound, when another object stores."""
    with closing(RedisBackend(cluster.url)) as backend, closing(RedisBackend(cluster.url)) as other:
        other.fetch(ids)  # has its connections
        late: list[float] = []
        stored: dict[str, float] = {}

        def wait(id_: str) -> None:
            assert backend.wait([id_], timeout=60) == [Result(id_, State.SUCCEEDED, 1, b"body")]
            late.append(time.monotonic() - stored[id_])

        threads = [threading.Thread(target=wait, args=[id_]) for id_ in ids]
        for thread in threads:
            thread.start()
        until(lambda: sum(len(node.pubsub_channels()) for node in nodes) == SHARDS)
        for id_, thread in zip(ids, threads, strict=True):
            stored[id_] = time.monotonic()
            other.store([Result(id_, State.SUCCEEDED, 1, b"body")], ttl=60)
            thread.join(60)
        assert len(late) == SHARDS
        assert statistics.median(late) < backend.capabilities.wake_bound
        assert len(connected) == 1
        until(lambda: not any(node.pubsub_channels() for node in nodes))


def test_what_is_stored_before_the_node_listens_is_found(
    cluster: Running, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster nobody tells it, and the first look was before."""
    monkeypatch.setattr(module, "LOOK_AGAIN", 60.0)
    with closing(RedisBackend(cluster.url)) as backend, closing(RedisBackend(cluster.url)) as other:
        connect = Link.connect

        def store_first(link: Link) -> Connection:
            other.store([Result(ids[5], State.FAILED, 1, b"body")], ttl=60)
            return connect(link)

        monkeypatch.setattr(Link, "connect", store_first)
        assert [result.id for result in backend.wait(ids, timeout=10)] == [ids[5]]


def test_the_reading_is_handed_over_to_one_who_goes_on_waiting(redis: Running) -> None:
    """Two are told at once; the first leaves and calls the second, who has what it waited for and leaves, too."""
    with closing(RedisBackend(redis.url)) as backend:
        backend.forget(["told"])
        listener = backend._listener
        first, second, third = (Waiting([backend._key("result", id_)]) for id_ in ("told", "told", "never"))
        for waiting in (first, second, third):
            listener._subscribe(waiting)
        listener._reader = first
        while not third.listening:
            listener._read(0.1)
        backend.store([Result("told", State.SUCCEEDED, 1, b"body")], ttl=60)
        while not second.found:
            listener._read(0.1)
        assert not third.called.is_set()
        listener._leave(first)
        listener._leave(second)
        assert third.called.is_set()
        listener._leave(third)


def test_who_waits_for_long_looks_less_and_less_often(redis: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands who look each second leave no time to tell them anything; but what nobody told is found."""
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.02)
    monkeypatch.setattr(module, "LOOK_AGAIN_AT_MOST", 0.64, raising=False)
    with redis_py.Redis(port=redis.ports["redis"]) as admin, closing(RedisBackend(redis.url)) as backend:
        backend.forget(["long"])
        admin.config_resetstat()
        assert backend.wait(["long"], timeout=2) == []
        assert admin.info("commandstats")["cmdstat_subscribe"]["calls"] < 20
        found: list[Result] = []
        waiting = threading.Thread(target=lambda: found.extend(backend.wait(["long"], timeout=30)))
        waiting.start()
        until(admin.pubsub_channels)
        admin.set("{anybroker}:result:long", "succeeded 1\nbody")
        waiting.join(10)
        assert found == [Result("long", State.SUCCEEDED, 1, b"body")]
        backend.forget(["long"])


def test_a_connection_that_is_lost_without_a_word_is_made_again(redis: Running, connected: list[Connection]) -> None:
    """As behind a firewall that forgets: those who wait need not look for each of their results until TCP gives up."""
    with closing(Route(redis.ports["redis"])) as route:
        url = f"redis://127.0.0.1:{route.port}/0?timeout=1s"
        with closing(RedisBackend(url)) as backend, closing(RedisBackend(redis.url)) as other:
            other.forget(["lost"])
            assert backend.wait(["lost"], timeout=0.1) == []
            route.lose()
            with pytest.raises(BrokerUnavailable):
                backend.fetch(["lost"])
            found: list[Result] = []
            waiting = threading.Thread(target=lambda: found.extend(backend.wait(["lost"], timeout=60)))
            waiting.start()
            until(lambda: len(connected) == 2)
            other.store([Result("lost", State.SUCCEEDED, 1)], ttl=60)
            waiting.join(60)
            assert found == [Result("lost", State.SUCCEEDED, 1)]


def test_a_user_without_the_channels_is_told_so(redis: Running, connected: list[Connection]) -> None:
    """At once, rather than connecting over and over."""
    port = redis.ports["redis"]
    with redis_py.Redis(port=port) as admin:
        admin.execute_command("ACL", "SETUSER", "deaf", "on", ">s3cret", "+@all", "~*", "resetchannels")
    with closing(RedisBackend(f"redis://deaf:s3cret@127.0.0.1:{port}/0")) as backend:
        for number in range(2):
            with pytest.raises(ConfigurationError, match="channel"):
                backend.wait(["never"], timeout=5)
            assert len(connected) == number + 1


@pytest.mark.parametrize("value", ["", "hello", "done 1\n{}", "succeeded one\n{}"])
def test_a_result_that_another_program_wrote_wrongly(redis: Running, value: str) -> None:
    """Is told as that, as the result of a task is that cannot be read."""
    with redis_py.Redis(port=redis.ports["redis"]) as admin, closing(RedisBackend(redis.url)) as backend:
        admin.set("{anybroker}:result:wrong", value)
        for call in (lambda: backend.fetch(["wrong"]), lambda: backend.wait(["other", "wrong"], timeout=5)):
            with pytest.raises(DecodeError, match="'wrong'"):
                call()
        assert backend.store([Result("wrong", State.SUCCEEDED, 1)], ttl=60) == [True]
        assert backend.fetch(["wrong"]) == [Result("wrong", State.SUCCEEDED, 1)]
        backend.forget(["wrong"])


def test_databases_of_one_server_tell_each_other_nothing(redis: Running) -> None:
    """Their channels are the same; two applications may give their tasks the same ids."""
    server = f"redis://127.0.0.1:{redis.ports['redis']}"
    found: dict[int, Result] = {}

    def wait(number: int, backend: RedisBackend) -> None:
        [found[number]] = backend.wait(["daily"], timeout=30)

    with ExitStack() as stack:
        backends = [stack.enter_context(closing(RedisBackend(f"{server}/{number}"))) for number in range(3)]
        admin = stack.enter_context(redis_py.Redis(port=redis.ports["redis"]))
        for backend in backends:
            backend.forget(["daily"])
        threads = [threading.Thread(target=wait, args=one) for one in enumerate(backends)]
        for thread in threads:
            thread.start()
        until(lambda: sum(number for _, number in admin.pubsub_numsub(*admin.pubsub_channels())) == len(threads))
        for number, backend in reversed(list(enumerate(backends))):
            stored = Result("daily", State.SUCCEEDED, 1, b"%d" % number)
            assert backend.store([stored], ttl=60) == [True]
            threads[number].join(30)
            assert found == {one: Result("daily", State.SUCCEEDED, 1, b"%d" % one) for one in range(number, 3)}
            backend.forget(["daily"])


def test_a_connection_that_ends_in_another_thread_while_it_is_read_is_made_again(
    redis: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py ends it in the thread whose command could not be sent, and takes its socket away from who reads."""
    with closing(RedisBackend(redis.url)) as backend:
        backend.forget(["told"])
        listener, connect = backend._listener, Link.connect
        made: list[Connection] = []

        def connected(link: Link) -> Connection:
            connection = connect(link)
            made.append(connection)
            if len(made) == 1:

                def ended(timeout: float) -> bool:
                    with listener._lock:
                        connection.disconnect()
                        listener._break()
                    backend.store([Result("told", State.SUCCEEDED, 1, b"body")], ttl=60)
                    return bool(select.select([connection._sock], [], [], timeout)[0])  # as redis-py goes on

                monkeypatch.setattr(connection._parser, "can_read", ended)
            return connection

        monkeypatch.setattr(Link, "connect", connected)
        assert [result.id for result in backend.wait(["told"], timeout=10)] == ["told"]
        assert made
        backend.forget(["told"])


@pytest.mark.parametrize("moment", ["send_packed_command", "read_response"])
def test_who_is_interrupted_leaves_no_answer_for_others(
    redis: Running, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Ctrl-C in an interactive session, which goes on: the next answers are not taken for those to what it asked."""
    with closing(RedisBackend(redis.url)) as backend:
        connect = Link.connect
        made: list[Connection] = []

        def connected(link: Link) -> Connection:
            connection = connect(link)
            made.append(connection)
            if len(made) == 1:
                call = getattr(connection, moment)

                def interrupted(*args: Any, **options: Any) -> Any:
                    monkeypatch.undo()
                    if moment == "read_response":
                        call(*args, **options)
                    raise KeyboardInterrupt

                monkeypatch.setattr(connection, moment, interrupted)
            return connection

        monkeypatch.setattr(Link, "connect", connected)
        with pytest.raises(KeyboardInterrupt):
            backend.wait(["never"], timeout=5)
        assert backend._listener._connection is None
        assert not backend._listener._asked
        assert made[0]._sock is None
        assert backend.wait(["never"], timeout=0.1) == []
