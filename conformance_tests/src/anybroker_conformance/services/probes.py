"""The little of each server's protocol that tells whether it works; what fails raises OSError or NotReadyError."""

from __future__ import annotations

import http.client
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anybroker_conformance.services.service import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_SECONDS = 2.0
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # RFC 9113, 3.4: and an empty SETTINGS
_HTTP2_SETTINGS = 4


@contextmanager
def connection(port: int) -> Iterator[BinaryIO]:
    """A connection to a port of this machine, as a file; every wait in it ends with TimeoutError."""
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as opened, opened.makefile("rwb") as stream:
        yield stream  # type: ignore[misc]  # BufferedRWPair has all that is used of a BinaryIO


def exchange(port: int, request: bytes, count: int) -> bytes:
    """The first `count` bytes of the answer to a request."""
    with connection(port) as stream:
        stream.write(request)
        stream.flush()
        return exactly(stream, count)


def line(port: int, request: bytes) -> str:
    """The first line of the answer to a request."""
    with connection(port) as stream:
        stream.write(request)
        stream.flush()
        return stream.readline().decode().rstrip()


def http_get(port: int, path: str) -> None:
    """Expect the answer 200 to a GET request."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        client.request("GET", path)
        status = client.getresponse().status
    except http.client.HTTPException as error:
        raise NotReadyError(f"GET {path}: {error!r}") from error
    finally:
        client.close()
    if status != http.client.OK:
        raise NotReadyError(f"GET {path}: {status}")


def http2(port: int) -> None:
    """Expect the SETTINGS with which a server of HTTP/2, and so of gRPC, begins."""
    header = exchange(port, _HTTP2, 9)
    if header[3] != _HTTP2_SETTINGS:
        raise NotReadyError("the server does not speak HTTP/2")


def amqp_version(port: int) -> str:
    """The version in the Connection.Start that a server of AMQP 0-9-1 sends first."""
    with connection(port) as stream:
        stream.write(b"AMQP\x00\x00\x09\x01")
        stream.flush()
        _, _, size = struct.unpack(">BHI", exactly(stream, 7))
        start = exactly(stream, size)
    key = b"\x07versionS"  # a field of the table of server properties: name, "S" for a long string, length, text
    _, found, rest = start.partition(key)
    if not found:
        raise NotReadyError("the server does not say which version it is")
    return rest[4 : 4 + int.from_bytes(rest[:4])].decode()


def redis(port: int, *words: str) -> str:
    """The reply of a Redis server to a command; the items of an array are joined by newlines."""
    request = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in (text.encode() for text in words))
    with connection(port) as stream:
        stream.write(b"*%d\r\n%b" % (len(words), request))
        stream.flush()
        return _redis_reply(stream)


def redis_info(port: int, section: str) -> dict[str, str]:
    """What INFO says about a section."""
    lines = redis(port, "INFO", section).splitlines()
    return dict(pair.split(":", 1) for pair in lines if ":" in pair)


def _redis_reply(stream: BinaryIO) -> str:
    head = stream.readline()
    kind, text = head[:1], head[1:].decode().rstrip()
    if kind in (b"+", b":"):
        return text
    if kind == b"$":
        size = int(text)
        return "" if size < 0 else exactly(stream, size + 2)[:-2].decode()
    if kind == b"*":
        return "\n".join(_redis_reply(stream) for _ in range(int(text)))
    raise NotReadyError(text or "the server closed the connection")


def exactly(stream: BinaryIO, count: int) -> bytes:
    """The next `count` bytes."""
    data = stream.read(count)
    if len(data) < count:
        raise NotReadyError("the server closed the connection")
    return data
