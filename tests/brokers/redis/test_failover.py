"""Masters die and slots move in the middle of work: it goes on by itself, and nothing that was replicated is lost."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis as redis_py

from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker_backend_redis import RedisBackend
from anybroker_broker_redis import RedisBroker
from anybroker_broker_redis.servers import SENTINEL_TIMEOUT
from anybroker_conformance.faults.server import ServerProcess
from anybroker_conformance.services.redis import SERVER
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anybroker_conformance.services import Running

pytestmark = [pytest.mark.services, pytest.mark.slow]

AFTER = 100
"""Messages that are sent and done after the change."""
LEASE = 2.0
PATIENCE = 60.0


class Traffic:
    """A producer and a consumer that go on whatever happens, and what they were told."""

    def __init__(self, url: str) -> None:
        self.broker = RedisBroker(url)
        self.backend = RedisBackend(url)
        self.stored: list[str] = []
        self.done: set[str] = set()
        self.failures = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._produce, self._consume)]
        for thread in self._threads:
            thread.start()

    def progress(self, number: int = AFTER) -> None:
        """Wait until so many more have been stored and done."""
        stored, done = len(self.stored) + number, len(self.done) + number
        until(
            lambda: len(self.stored) >= stored and len(self.done) >= done,
            PATIENCE,
            why=lambda: f"{len(self.stored)} stored, {len(self.done)} done, and no more",
        )

    def finish(self) -> None:
        """End it; what was stored is done, with its result."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while set(self.stored) - self.done:
            assert time.monotonic() < deadline, f"{len(set(self.stored) - self.done)} of {len(self.stored)} were lost"
            self._patiently(self._work)
        assert all(self.backend.fetch(self.stored))
        self.broker.close()
        self.backend.close()

    def _produce(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            id_ = f"m{number}"
            self._patiently(lambda: self.broker.enqueue([Message(id_, "q", b"x" * 100)]))  # noqa: B023  called at once
            self.stored.append(id_)
            time.sleep(0.002)

    def _consume(self) -> None:
        while not self._stop.is_set():
            self._patiently(self._work)

    def _work(self) -> None:
        taken = self.broker.acquire(["q"], limit=20, wait=0.2, lease=LEASE)
        ids = [one.message.id for one in taken]
        self.backend.store([Result(id_, State.SUCCEEDED, 1) for id_ in ids], ttl=600)
        self.done.update(ids)  # an ack that raises may have happened
        self.broker.ack(taken)

    def _patiently(self, call: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                call()
            except BrokerUnavailable:
                self.failures += 1
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return


def test_sentinels_replace_a_killed_master(sentinel: Running) -> None:
    """With ``replicas=1`` nothing that was acknowledged is lost."""
    traffic = Traffic(f"{sentinel.url}&replicas=1&timeout=1s&prefix=failover")
    try:
        traffic.progress()
        master = next(node for node in ("master", "replica") if _role(sentinel.ports[node]) == "master")
        sentinel.kill(master)
        other = "replica" if master == "master" else "master"
        until(lambda: _role(sentinel.ports[other]) == "master")
        sentinel.start()
        traffic.progress()
        assert traffic.failures
    finally:
        traffic.finish()


def test_a_cluster_replaces_a_killed_master(cluster: Running) -> None:
    """The one that has the queues; with ``replicas=1`` nothing that was acknowledged is lost."""
    traffic = Traffic(f"{cluster.url}?replicas=1&timeout=1s&prefix=failover")
    try:
        traffic.progress()
        node = _owner(cluster, "{failover}:queues")
        cluster.kill(node)
        until(lambda: _owner(cluster, "{failover}:queues", without=node) != node)
        cluster.start()
        traffic.progress()
        assert traffic.failures
    finally:
        traffic.finish()


def test_a_slot_moves_to_another_node(cluster: Running) -> None:
    """Key by key, while messages are sent and done."""
    traffic = Traffic(f"{cluster.url}?timeout=1s&prefix=moving")
    try:
        traffic.progress()
        _move(cluster, "{moving}:queues")
        traffic.progress()
    finally:
        traffic.finish()


def test_a_call_goes_on_when_its_keys_have_been_on_the_move_for_long(cluster: Running) -> None:
    """While some of its keys are here and some there, it waits; then it goes where its script is not known."""
    broker = RedisBroker(f"{cluster.url}?timeout=30s&prefix=halfway")
    broker.enqueue([Message(f"{number}", "q", b"") for number in range(2)])
    broker.stats("q")
    held = broker.acquire(["q"], limit=1, wait=0, lease=60)
    answers: list[bool] = []
    call = threading.Thread(target=lambda: answers.extend(broker.ack(held)))
    moved: list[bytes] = []

    def first_key_is_there(port: int) -> None:
        if not moved:
            with redis_py.Redis(port=port) as target:
                target.script_flush()
            call.start()
            time.sleep(1.0)  # fifty times that the call is told to come again
        moved.append(b"")

    _move(cluster, "{halfway}:queues", first_key_is_there)
    call.join(PATIENCE)
    assert answers == [True]
    broker.close()


@pytest.mark.parametrize("endpoint", ["ip", "unknown-endpoint"])
def test_a_call_goes_on_when_all_of_its_keys_have_moved_and_the_slot_has_not(cluster: Running, endpoint: str) -> None:
    """The old node sends it to the new one, which has not all of its keys, and so does not know whether they are there.

    Also where a node does not know its own host, and names no more than a port.
    """
    with ExitStack() as stack:
        for node in cluster.nodes:
            client = stack.enter_context(redis_py.Redis(port=cluster.ports[node]))
            stack.callback(client.config_set, "cluster-preferred-endpoint-type", "ip")
            client.config_set("cluster-preferred-endpoint-type", endpoint)
        broker = stack.enter_context(closing(RedisBroker(f"{cluster.url}?timeout=30s&prefix=nearly")))
        broker.enqueue([Message(f"{number}", "q", b"") for number in range(2)])
        held = broker.acquire(["q"], limit=1, wait=0, lease=60)
        answers: list[bool] = []
        call = threading.Thread(target=lambda: answers.extend(broker.ack(held)))

        def all_keys_are_there() -> None:
            call.start()
            time.sleep(1.0)  # longer than sixteen redirections take

        _move(cluster, "{nearly}:queues", before_the_slot=all_keys_are_there)
        call.join(PATIENCE)
        assert answers == [True]
        assert broker.purge("q") == 1


def _move(
    cluster: Running,
    key: str,
    moved: Callable[[int], None] = lambda _: time.sleep(0.05),
    before_the_slot: Callable[[], None] = lambda: None,
) -> None:
    """What ``redis-cli --cluster reshard`` does: https://redis.io/docs/latest/commands/cluster-setslot/.

    ``moved`` is called after each key, with the port of the node that has it now, ``before_the_slot`` after the last.
    """
    source_node = _owner(cluster, key)
    source = redis_py.Redis(port=cluster.ports[source_node])
    slot = source.execute_command("CLUSTER", "KEYSLOT", key)
    masters = [node for node in cluster.nodes if node != source_node and _role(cluster.ports[node]) == "master"]
    target = redis_py.Redis(port=cluster.ports[masters[0]])
    source_id, target_id = (client.execute_command("CLUSTER", "MYID").decode() for client in (source, target))
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.execute_command("MIGRATE", "127.0.0.1", cluster.ports[masters[0]], "", 0, 5000, "KEYS", *keys)
        moved(cluster.ports[masters[0]])
    before_the_slot()
    for client in (target, source):
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def _owner(cluster: Running, key: str, *, without: str = "") -> str:
    """The node that is the master of a key, as another node than ``without`` sees it."""
    asked = next(node for node in cluster.nodes if node != without)
    with redis_py.Redis(port=cluster.ports[asked]) as client:
        slot = client.execute_command("CLUSTER", "KEYSLOT", key)
        for first, last, master, *_ in _slots(client):
            if first <= slot <= last:
                return next(node for node in cluster.nodes if cluster.ports[node] == master)
    raise AssertionError(f"nobody has slot {slot}")


def _slots(client: Any) -> list[tuple[int, int, int]]:
    found = client.execute_command("CLUSTER", "SLOTS")
    if isinstance(found, dict):  # redis-py has made a mapping of it
        return [(first, last, entry["primary"][1]) for (first, last), entry in found.items()]
    return [(first, last, master[1]) for first, last, master, *_ in found]


def _role(port: int) -> str:
    with redis_py.Redis(port=port) as client:
        return str(client.info("replication")["role"])


@contextmanager
def gone() -> Iterator[str]:
    """A host that takes no connection and refuses none."""
    with socket.socket() as silent, ExitStack() as stack:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(3):  # the queue of those who want to connect is full
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def test_a_sentinel_that_is_gone_without_a_word_costs_a_second(sentinel: Running) -> None:
    """``timeout`` is for the master."""
    with gone() as host:
        url = sentinel.url.replace("redis+sentinel://", f"redis+sentinel://{host},")
        with closing(RedisBroker(f"{url}&timeout=30s")) as broker:
            started = time.monotonic()
            broker.queues()
            assert SENTINEL_TIMEOUT * 0.9 < time.monotonic() - started < 4


def test_a_node_that_is_gone_without_a_word_is_waited_for_once(cluster: Running) -> None:
    """And not once for each of the sixteen slots of the results."""
    with gone() as host:
        url = f"redis+cluster://{host},127.0.0.1:{cluster.ports['1']}?timeout=3s"
        with closing(RedisBackend(url)) as backend:
            started = time.monotonic()
            assert backend.fetch([f"r{number}" for number in range(200)]) == [None] * 200
            assert 2.7 < time.monotonic() - started < 10


def test_a_password_that_no_node_of_a_cluster_takes(cluster: Running) -> None:
    """Is the mistake that it is at a single server; nobody waits for it to pass."""
    url = cluster.url.replace("redis+cluster://", "redis+cluster://nobody:s3cret@")
    with closing(RedisBroker(url)) as broker, pytest.raises(ConfigurationError, match="user and password") as caught:
        broker.queues()
    assert "s3cret" not in str(caught.value)


def test_a_cluster_without_slots_is_one_that_is_not_there_yet(tmp_path: Path) -> None:
    """As it is while it is made."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    options = ("--cluster-enabled", "yes", "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path))
    server = ServerProcess([str(SERVER.path()), "--port", str(port), *options], port=port)
    server.start()
    try:
        url = f"redis+cluster://127.0.0.1:{port}"
        with closing(RedisBroker(url)) as broker, closing(RedisBackend(url)) as backend:
            for call in (broker.queues, lambda: backend.wait(["1"], timeout=1)):
                with pytest.raises(BrokerUnavailable, match="slots"):
                    call()
    finally:
        server.stop()


def test_the_url_names_one_host_of_each(sentinel: Running, cluster: Running) -> None:
    """The rest is found by itself."""
    for url in (sentinel.url, cluster.url):
        hosts = urlsplit(url).netloc
        broker = RedisBroker(url.replace(hosts, hosts.split(",")[0]))
        broker.enqueue([Message("1", "one-host", b"")])
        assert broker.purge("one-host") == 1
        broker.close()
