from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from anybroker_conformance.services import mongo_wire, probes
from anybroker_conformance.services.service import NotReadyError

Answer = Callable[[bytes], int]


@pytest.fixture
def server() -> Iterator[Answer]:
    """Make a server that gives the same answer to whoever connects; returns its port."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(listener: socket.socket, answer: bytes) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(answer)

    def start(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, answer)))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"+PONG\r\n", "PONG"),
        (b":7\r\n", "7"),
        (b"$4\r\na\r\nb\r\n", "a\r\nb"),
        (b"$-1\r\n", ""),
        (b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n", "127.0.0.1\n6379"),
    ],
)
def test_redis_replies(server: Answer, answer: bytes, reply: str) -> None:
    assert probes.redis(server(answer), "PING") == reply


@pytest.mark.parametrize("answer", [b"-LOADING Redis is loading the dataset in memory\r\n", b"", b"$4\r\nab"])
def test_a_redis_that_is_not_ready(server: Answer, answer: bytes) -> None:
    with pytest.raises(NotReadyError):
        probes.redis(server(answer), "PING")


def test_redis_info_is_read_by_name(server: Answer) -> None:
    assert probes.redis_info(server(b"$26\r\n# Replication\r\nrole:master\r\n"), "replication") == {"role": "master"}


def test_the_version_of_an_amqp_server(server: Answer) -> None:
    arguments = struct.pack(">HHBB", 10, 10, 0, 9) + b"\x00\x00\x00\x15\x07versionS\x00\x00\x00\x063.10.8"
    frame = struct.pack(">BHI", 1, 0, len(arguments)) + arguments + b"\xce"
    assert probes.amqp_version(server(frame)) == "3.10.8"


def test_a_server_that_refuses_amqp_is_not_ready(server: Answer) -> None:
    with pytest.raises(NotReadyError):
        probes.amqp_version(server(b"AMQP\x00\x00\x09\x01"))


def test_http_answers(server: Answer) -> None:
    probes.http_get(server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "/")
    for answer in (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"what?\r\n\r\n"):
        with pytest.raises(NotReadyError):
            probes.http_get(server(answer), "/")


def test_http2_begins_with_settings(server: Answer) -> None:
    probes.http2(server(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
    with pytest.raises(NotReadyError):
        probes.http2(server(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def test_the_answer_of_a_mongodb_server(server: Answer) -> None:
    nested = b"\x03inner\x00" + struct.pack("<i", 5) + b"\x00"
    values = (
        nested
        + b"\x08isWritablePrimary\x00\x01"
        + b"\x09now\x00" + bytes(8)
        + b"\x02version\x00\x06\x00\x00\x008.0.1\x00"
        + b"\x10code\x00" + struct.pack("<i", -59)
        + b"\x01ok\x00" + struct.pack("<d", 1.0)
    )  # fmt: skip
    document = struct.pack("<i", len(values) + 5) + values + b"\x00"
    body = struct.pack("<iB", 0, 0) + document
    message = struct.pack("<iiii", 16 + len(body), 1, 1, 2013) + body
    assert mongo_wire.command(server(message), hello=1) == {
        "inner": None,
        "isWritablePrimary": True,
        "now": None,
        "version": "8.0.1",
        "code": -59,
        "ok": 1.0,
    }
