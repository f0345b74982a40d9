"""Each fault of the network happens, at the byte where it was ordered."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker_conformance.faults.proxy import TO_CLIENT, TO_SERVER, Chunk, Proxy
from anybroker_conformance.faults.route import NoRoute, route, upstream
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

BIG = bytes(range(256)) * 20_000


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.heard: list[bytearray] = []
        self.ends: list[str] = []
        self.mute = False
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.heard.append(bytearray())
            threading.Thread(target=self.talk, args=[sock, self.heard[-1]], daemon=True).start()

    def talk(self, sock: socket.socket, heard: bytearray) -> None:
        with sock:
            try:
                while piece := sock.recv(65536):
                    heard += piece
                    if not self.mute:
                        sock.sendall(piece)
                self.ends.append("end")
            except ConnectionError:
                self.ends.append("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


def connect(proxy: Proxy) -> closing[socket.socket]:
    return closing(socket.create_connection((proxy.host, proxy.port), timeout=10))


def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or what came before the end."""
    received = b""
    while len(received) < size and (piece := sock.recv(65536)):
        received += piece
    return received


def test_it_is_transparent_and_counts(proxy: Proxy) -> None:
    with connect(proxy) as sock:
        for text in (b"one", b"three"):
            sock.sendall(text)
            assert receive(sock, len(text)) == text
        assert proxy.chunks == [
            Chunk(TO_SERVER, 3),
            Chunk(TO_CLIENT, 3),
            Chunk(TO_SERVER, 8),
            Chunk(TO_CLIENT, 8),
        ]
        assert proxy.connections == 1
        proxy.mark()
        assert (proxy.count(TO_SERVER), proxy.chunks, proxy.fired) == (0, [], False)
    until(lambda: proxy.connections == 0)


def test_it_passes_more_than_fits_in_between(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as sock:
        sender = threading.Thread(target=sock.sendall, args=[BIG])
        sender.start()
        assert receive(sock, len(BIG)) == BIG
        sender.join(10)
    assert bytes(echo.heard[0]) == BIG
    assert proxy.count(TO_SERVER) == proxy.count(TO_CLIENT) == len(BIG)


def test_many_connections_pass(proxy: Proxy) -> None:
    def talk() -> None:
        for _ in range(20):
            with connect(proxy) as sock:
                sock.sendall(b"hello")
                answers.append(receive(sock, 5))

    answers: list[bytes] = []
    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [b"hello"] * 160
    assert proxy.count(TO_SERVER) == 800


@pytest.mark.parametrize("after", [0, 1, 4, 5])
def test_cut_in_the_request(proxy: Proxy, echo: Echo, after: int) -> None:
    echo.mute = True
    with connect(proxy) as sock:
        proxy.cut(TO_SERVER, after)
        assert not proxy.fired
        sock.sendall(b"hello")
        assert receive(sock, 1) == b""
        until(lambda: proxy.fired)
    until(lambda: echo.ends)
    assert bytes(echo.heard[0]) == b"hello"[:after]
    with connect(proxy) as sock:  # a fault happens once
        echo.mute = False
        sock.sendall(b"again")
        assert receive(sock, 5) == b"again"


@pytest.mark.parametrize("after", [0, 1, 4, 5])
def test_cut_in_the_reply(proxy: Proxy, echo: Echo, after: int) -> None:
    with connect(proxy) as sock:
        proxy.cut(TO_CLIENT, after)
        sock.sendall(b"hello")
        assert receive(sock, 5) == b"hello"[:after]
        if after == 5:
            assert receive(sock, 1) == b""
        assert proxy.fired
    assert bytes(echo.heard[0]) == b"hello", "the server has heard it all"


def test_cut_counts_from_the_order_on(proxy: Proxy) -> None:
    with connect(proxy) as sock:
        sock.sendall(b"hello")
        receive(sock, 5)
        proxy.cut(TO_SERVER, 7)
        sock.sendall(b"hello")
        assert receive(sock, 5) == b"hello"
        assert not proxy.fired
        sock.sendall(b"hello")
        receive(sock, 5)
        until(lambda: proxy.fired)
        assert proxy.count(TO_SERVER) == 7


def test_reset(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as sock:
        sock.sendall(b"hello")
        receive(sock, 5)
        proxy.cut_now(reset=True)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert proxy.fired
    until(lambda: echo.ends)
    assert echo.ends == ["reset"]


def test_a_cut_of_nothing_does_not_fire(proxy: Proxy) -> None:
    proxy.cut_now()
    assert not proxy.fired


def test_refused(proxy: Proxy) -> None:
    with connect(proxy) as sock:
        proxy.refuse()
        assert sock.recv(1) == b""
    assert proxy.fired
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.accept()
    with connect(proxy) as sock:
        sock.sendall(b"hello")
        assert receive(sock, 5) == b"hello"


def test_stalled(proxy: Proxy) -> None:
    with connect(proxy) as sock:
        sock.sendall(b"hello")
        receive(sock, 5)
        proxy.stall()
        assert not proxy.fired
        sock.sendall(b"slow")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        until(lambda: proxy.fired)
        with connect(proxy) as other:  # taken, and as silent
            other.sendall(b"slow too")
            other.settimeout(0.2)
            with pytest.raises(TimeoutError):
                other.recv(1)
            proxy.flow()
            other.settimeout(10)
            assert receive(other, 8) == b"slow too"
        sock.settimeout(10)
        assert receive(sock, 4) == b"slow"


def test_a_server_that_is_away_refuses_through_the_proxy_too(proxy: Proxy, echo: Echo) -> None:
    echo.listener.shutdown(socket.SHUT_RDWR)
    echo.listener.close()
    with pytest.raises(ConnectionResetError), connect(proxy) as sock:  # as soon as it connects, or when it reads
        sock.recv(1)


def test_close_ends_everything_and_can_be_repeated(echo: Echo) -> None:
    proxy = Proxy("127.0.0.1", echo.port)
    with connect(proxy) as sock:
        sock.sendall(b"hello")
        receive(sock, 5)
        proxy.close()
        proxy.close()
        assert sock.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


@pytest.mark.parametrize(
    ("url", "server", "routed"),
    [
        ("redis://localhost", ("localhost", 6379), "redis://127.0.0.1:7"),
        ("redis://me:se%2Fcret@db:1234/3?x=1", ("db", 1234), "redis://me:se%2Fcret@127.0.0.1:7/3?x=1"),
        ("amqp://guest:guest@[::1]:5673/%2F", ("::1", 5673), "amqp://guest:guest@127.0.0.1:7/%2F"),
        ("rediss://localhost:1", ("localhost", 1), "rediss://127.0.0.1:7"),
        ("tcp://h:1?a=b", ("h", 1), "tcp://127.0.0.1:7?a=b"),
        (
            "sqs://x/?a=1&endpoint=http://127.0.0.1:9324/p&b=2",
            ("127.0.0.1", 9324),
            "sqs://x/?a=1&endpoint=http://127.0.0.1:7/p&b=2",
        ),
        ("sqs://x/?endpoint=http%3A%2F%2Fh%3A93", ("h", 93), "sqs://x/?endpoint=http://127.0.0.1:7"),
        ("pubsub://p/?endpoint=h:8085", ("h", 8085), "pubsub://p/?endpoint=127.0.0.1:7"),
    ],
)
def test_the_url_that_goes_through(url: str, server: tuple[str, int], routed: str) -> None:
    assert upstream(url) == server
    assert route(url, "127.0.0.1", 7) == routed


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "no URL"),
        ("sqlite:////tmp/x.db", "no host"),
        ("memory://name", "no port"),
        ("redis+cluster://a:1,b:2", "several hosts"),
        ("rediss://db:1", "certificate"),
        ("sqs://x/?endpoint=https://h", "certificate"),
        ("nonsense", "scheme"),
    ],
)
def test_the_reason_why_none_does(url: str | None, why: str) -> None:
    with pytest.raises(NoRoute, match=why):
        upstream(url)
