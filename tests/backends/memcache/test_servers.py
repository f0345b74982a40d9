"""Several memcached servers, one of which goes and returns; sockets; what a server refuses."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import pytest
from pymemcache.client.base import Client

from anybroker.backend import Result, State
from anybroker.errors import BrokerUnavailable, MessageTooLarge
from anybroker_backend_memcache import MemcacheBackend
from anybroker_conformance.faults.fork import in_child
from anybroker_conformance.faults.proxy import TO_CLIENT, Proxy
from anybroker_conformance.faults.server import ServerProcess
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.services, pytest.mark.slow]


def program() -> list[str]:
    """The command of a memcached, which does not run as root."""
    assert service("memcached").running.url  # the door knows how to install it
    found = shutil.which("memcached")
    assert found, "memcached is not on the PATH"
    return [found, *(["-u", "nobody"] if os.getuid() == 0 else [])]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def pair() -> Iterator[list[ServerProcess]]:
    ports = [free_port(), free_port()]
    servers = [ServerProcess([*program(), "-l", "127.0.0.1", "-p", str(port)], port=port) for port in ports]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.kill()


def connect(servers: list[ServerProcess], options: str = "") -> MemcacheBackend:
    hosts = ",".join(f"127.0.0.1:{server.address[1]}" for server in servers)
    return MemcacheBackend.from_url(f"memcache://{hosts}?timeout=2s{options}")


def results(number: int) -> list[Result]:
    return [Result(f"r{index}", State.SUCCEEDED, 1, b"%d" % index) for index in range(number)]


def test_keys_are_spread_over_both(pair: list[ServerProcess]) -> None:
    with closing(connect(pair)) as both, closing(connect(pair[:1])) as first, closing(connect(pair[1:])) as second:
        stored = results(200)
        assert both.store(stored, ttl=60) == [True] * 200
        ids = [one.id for one in stored]
        assert both.fetch(ids) == stored
        here, there = ({one.id for one in backend.fetch(ids) if one} for backend in (first, second))
        assert here | there == set(ids)
        assert not here & there
        assert min(len(here), len(there)) > 50


def test_a_server_that_is_gone_takes_its_keys_along_and_no_others(pair: list[ServerProcess]) -> None:
    with closing(connect(pair)) as both, closing(connect(pair[:1])) as first:
        ids = [one.id for one in results(100)]
        both.store(results(100), ttl=60)
        on_first = [one.id for one in first.fetch(ids) if one]
        on_second = [id_ for id_ in ids if id_ not in on_first]
        pair[1].kill()
        for _ in range(5):  # the same answer, however often it is asked: keys do not move to the server that is left
            assert all(both.fetch(on_first))
            with pytest.raises(BrokerUnavailable):
                both.fetch(on_second)
        pair[1].start()
        assert _answered(both, on_second) == [None] * len(on_second), "what was in its memory is pending again"
        assert all(both.fetch(on_first))


def test_joins_claims_and_waits_while_a_server_goes_and_returns(pair: list[ServerProcess]) -> None:
    """Calls raise ``BrokerUnavailable`` or answer; none hangs, no lock has two holders."""
    done = threading.Event()
    wrong: list[str] = []
    calls = {"join": 0, "claim": 0, "wait": 0, "unavailable": 0}

    def work(verb: str, number: int) -> None:
        with closing(connect(pair)) as backend:
            turn = 0
            while not done.is_set():
                turn += 1
                try:
                    _one_call(backend, verb, f"{number}.{turn}", wrong)
                    calls[verb] += 1
                except BrokerUnavailable:
                    calls["unavailable"] += 1
                    done.wait(0.01)

    threads = [threading.Thread(target=work, args=(verb, n)) for n, verb in enumerate(("join", "claim", "wait") * 2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        _until(calls, 20)
        pair[1].kill()
        while not calls["unavailable"]:
            done.wait(0.01)
        pair[1].start()
        calls["unavailable"] = 0
    _until(calls, 20)
    done.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a call hangs"
    assert not wrong


def _one_call(backend: MemcacheBackend, verb: str, name: str, wrong: list[str]) -> None:
    match verb:
        case "join":
            backend.join(name, "a", size=2)
            if not backend.join(name, "b", size=2) and not backend.join(name, "a", size=2):
                # the server went between the two: both are repeated, as after any crash, and the group is whole
                backend.join(name, "b", size=2)
        case "claim":
            token = backend.claim(name, ttl=60)
            if token is not None and backend.claim(name, ttl=60) is not None and backend.release(name, token):
                wrong.append(f"two holders of {name}")
        case _:
            backend.wait([name], timeout=0.02)


def _until(calls: dict[str, int], more: int) -> None:
    """Wait until each kind of call has been answered so often since now."""
    goals = {verb: number + more for verb, number in calls.items() if verb != "unavailable"}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if all(calls[verb] >= goal for verb, goal in goals.items()):
            return
        time.sleep(0.01)
    raise AssertionError(f"not answered any more: {calls}, wanted {goals}")


def _answered(backend: MemcacheBackend, ids: list[str]) -> list[Result | None]:
    for _ in range(20):
        try:
            return backend.fetch(ids)
        except BrokerUnavailable:
            continue
    raise AssertionError("a server that has returned is not reached")


def test_a_socket_of_the_file_system() -> None:
    with TemporaryDirectory(prefix="mc") as folder:
        path = Path(folder) / "socket"
        Path(folder).chmod(0o777)
        command = [*program(), "-s", str(path), "-a", "0777"]
        with subprocess.Popen(command) as server:
            try:
                deadline = time.monotonic() + 30
                while not path.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                with closing(MemcacheBackend.from_url(f"memcache+unix://{path}")) as backend:
                    assert backend.store(results(3), ttl=60) == [True] * 3
                    assert backend.fetch(["r0", "r9"]) == [results(1)[0], None]
            finally:
                server.kill()


def test_an_item_over_the_limit_of_the_server_names_its_option(pair: list[ServerProcess]) -> None:
    with closing(connect(pair[:1], "&max_body=5000000")) as backend:
        with pytest.raises(MessageTooLarge, match="-I 8m"):
            backend.store([Result("large", State.SUCCEEDED, 1, bytes(2_000_000))], ttl=60)
        assert backend.store(results(1), ttl=60) == [True], "the connection works on"


def test_a_group_over_the_limit_of_the_server_names_its_option(pair: list[ServerProcess]) -> None:
    """At once, and not as something that a repetition mends. The members that were recorded are still there."""
    with closing(connect(pair[:1])) as backend, closing(Client(pair[0].address, default_noreply=False)) as client:
        backend.join("g", "first", size=100_000)
        group = backend._key("group", "g")
        while client.append(group, bytes(16 * 4096)):
            pass
        while client.append(group, bytes(16)):
            pass
        with pytest.raises(MessageTooLarge, match="-I 8m"):
            backend.join("g", "one too many", size=100_000)
        assert backend.join("g", "first", size=1) is True


def test_a_group_that_vanished_is_no_hang(pair: list[ServerProcess]) -> None:
    """After a restart the group begins anew: it is not complete, and whoever repeats all its joins completes it."""
    with closing(connect(pair[:1])) as backend:
        assert backend.join("g", "a", size=2) is False
        pair[0].kill()
        pair[0].start()
        assert backend.join("g", "b", size=2) is False
        assert backend.wait(["callback"], timeout=0.05) == []
        assert backend.join("g", "a", size=2) is True


CALLS: dict[str, Callable[[MemcacheBackend], object]] = {
    "store": lambda backend: backend.store(results(3), ttl=60),
    "fetch": lambda backend: backend.fetch(["r0"]),
    "wait": lambda backend: backend.wait(["r0"], timeout=0),
    "forget": lambda backend: backend.forget(["r0"]),
    "join": lambda backend: backend.join("g", "a", size=2),
    "seal": lambda backend: backend.seal("g"),
    "claim": lambda backend: backend.claim("lock", ttl=60),
    "release": lambda backend: backend.release("lock", "token"),
}


@pytest.mark.parametrize("verb", CALLS)
def test_the_first_call_after_a_restart_is_answered(pair: list[ServerProcess], verb: str) -> None:
    """On each of the connections that were open."""
    with closing(connect(pair[:1])) as backend:
        together = threading.Barrier(4)

        def use() -> None:
            together.wait()
            for _ in range(20):
                backend.fetch(["x"])

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pair[0].kill()
        pair[0].start()
        for _ in range(6):
            CALLS[verb](backend)


@pytest.mark.parametrize("verb", ["fetch", "wait", "forget", "release"])
def test_what_may_be_repeated_is_repeated_when_the_connection_breaks(pair: list[ServerProcess], verb: str) -> None:
    """As when a host is gone without a farewell, and its connections are reset when they are used."""
    with Proxy(*pair[0].address) as proxy:
        url = f"memcache://{proxy.host}:{proxy.port}?timeout=20s"
        with closing(MemcacheBackend.from_url(url)) as backend:
            CALLS[verb](backend)
            proxy.mark()
            proxy.cut(TO_CLIENT, 0, reset=True)
            CALLS[verb](backend)
            assert proxy.fired


def test_connections_as_old_as_one_that_broke_are_not_used(pair: list[ServerProcess]) -> None:
    with closing(connect(pair[:1])) as backend:
        servers = backend._servers
        [name] = servers._by_name
        with servers._pool(name) as pool:
            with servers._client(name, pool) as one, servers._client(name, pool) as other:
                one.version()
                other.version()
            with pytest.raises(ConnectionError), servers._client(name, pool):
                raise ConnectionError("as if it had broken")
            with servers._client(name, pool) as left:
                assert left in {one, other}
                assert left.sock is None, "to be connected anew"


class Recorded:
    """A socket, and how much is sent at once."""

    def __init__(self, sock: Any) -> None:
        self.sizes: list[int] = []
        self._sock = sock

    def sendall(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self._sock.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_a_large_batch_is_sent_in_portions(pair: list[ServerProcess]) -> None:
    """So that the time-out is for a portion, not for all that a slow link has to carry."""
    with closing(connect(pair[:1])) as backend:
        servers = backend._servers
        [name] = servers._by_name
        with servers._pool(name) as pool, servers._client(name, pool) as client:
            client.version()
            recorded = Recorded(client.sock)
            client.sock = cast("socket.socket", recorded)
        stored = [Result(f"r{index}", State.SUCCEEDED, 1, bytes(600_000)) for index in range(20)]
        assert backend.store(stored, ttl=60) == [True] * 20
        assert backend.fetch([one.id for one in stored]) == stored
        unknown = [f"{index:0200}" for index in range(10_000)]
        assert backend.fetch(unknown) == [None] * 10_000
        backend.forget(unknown)
        assert max(recorded.sizes) <= 1.1 * 1024**2
        assert sum(recorded.sizes) > 16_000_000


def test_keepalive_finds_a_host_that_is_gone(pair: list[ServerProcess]) -> None:
    with closing(connect(pair[:1])) as backend:
        servers = backend._servers
        [name] = servers._by_name
        with servers._pool(name) as pool, servers._client(name, pool) as client:
            client.version()
            assert client.sock
            assert client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_the_child_of_a_fork_has_begun_anew_before_its_threads_begin(pair: list[ServerProcess]) -> None:
    """Else two of them begin at once, and one goes on with the lock or the connections that the other has made."""
    with closing(connect(pair[:1])) as backend:
        backend.store(results(1), ttl=60)
        servers = backend._servers

        def state() -> list[bool]:
            fresh = not servers._pools and not servers._lock.locked()
            return [fresh, backend.fetch(["r0"]) == results(1)]

        with servers._lock:
            assert in_child(state) == [True, True]
        assert backend.fetch(["r0"]) == results(1)


def test_a_lock_is_claimed_once_while_there_is_memory(pair: list[ServerProcess]) -> None:
    """``exact_claim`` is not declared, for a memcached that is full evicts locks; until then it is so all the same."""
    with closing(connect(pair[:1])) as backend:
        assert not backend.capabilities.exact_claim
        tokens: list[str | None] = []
        together = threading.Barrier(8)

        def claim() -> None:
            for turn in range(50):
                together.wait()
                tokens.append(backend.claim(f"lock{turn}", ttl=60))

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(token is not None for token in tokens) == 50


def test_every_address_of_a_host_is_tried(pair: list[ServerProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    """As with localhost, where it is ::1 first and memcached listens on 127.0.0.1 alone."""
    port = pair[0].address[1]
    addresses = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    with closing(MemcacheBackend.from_url(f"memcache://two.addresses:{port}")) as backend:
        assert backend.store(results(1), ttl=60) == [True]
        assert backend.fetch(["r0"]) == results(1)


def test_a_server_that_evicts_nothing_keeps_locks_when_it_is_full() -> None:
    """As the documentation says of ``-M``."""
    server = ServerProcess([*program(), "-l", "127.0.0.1", "-m", "4", "-M", "-p", str(port := free_port())], port=port)
    server.start()
    try:
        with closing(connect([server])) as backend:
            token = backend.claim("lock", ttl=60)
            assert token
            many = [Result(f"r{number}", State.SUCCEEDED, 1, bytes(200_000)) for number in range(200)]
            with pytest.raises(BrokerUnavailable, match="out of memory"):
                backend.store(many, ttl=60)
            assert backend.claim("lock", ttl=60) is None
            assert backend.release("lock", token)
    finally:
        server.kill()


def test_a_server_with_too_many_connections_is_unavailable() -> None:
    """It says so in a way in which it refuses unknown commands, too; but a repetition mends it."""
    server = ServerProcess([*program(), "-l", "127.0.0.1", "-c", "40", "-p", str(port := free_port())], port=port)
    server.start()
    try:
        with closing(connect([server])) as backend:
            taken = [socket.create_connection(server.address) for _ in range(80)]
            try:
                for _ in range(10):
                    with pytest.raises(BrokerUnavailable):
                        backend.fetch(["x"])
            finally:
                for sock in taken:
                    sock.close()
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with suppress(BrokerUnavailable):
                    assert backend.fetch(["x"]) == [None]
                    return
            raise AssertionError("it is never reached again")
    finally:
        server.kill()
