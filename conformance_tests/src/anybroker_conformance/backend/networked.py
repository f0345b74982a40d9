"""A networked result backend that keeps every law: a small server around an SQLite file, and its adapter.

For the tests of the faults themselves. ``python -m anybroker_conformance.backend.networked PORT FILE`` is the server.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Self

import msgspec

from anybroker import errors
from anybroker.backend import Result
from anybroker.capabilities import BackendCapabilities, Durability
from anybroker.errors import AnybrokerError, BrokerUnavailable, MessageTooLarge
from anybroker.loading import parse_url
from anybroker.sqlite import SqliteBackend
from anybroker_conformance.faults.reference.listening import serve_each
from anybroker_conformance.faults.reference.process import ReferenceServer
from anybroker_conformance.faults.reference.wire import receive, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.backend import ResultBackend

REPLY = 10.0
"""Seconds for a reply, beyond what the call itself waits for."""
TURN = 0.2
"""Seconds after which a waiting server looks whether its client is still there."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call."""

    verb: str
    results: list[Result] = []
    names: list[str] = []
    """Ids; a group and its member; a key and its token."""
    ttl: float | None = None
    timeout: float = 0.0
    size: int = 0


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it."""

    bools: list[bool] = []
    results: list[Result | None] = []
    token: str | None = None
    error: str | None = None
    """Name of the exception."""
    text: str = ""


_REQUESTS = msgspec.json.Decoder(Request)
_REPLIES = msgspec.json.Decoder(Reply)


class TcpBackend:
    """The adapter: connections when they are needed, none of them shared by two calls or by two processes."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: deque[socket.socket] = deque()
        self._process = os.getpid()
        self._closed = False
        self.capabilities = BackendCapabilities(
            durability=Durability.SERVER, pushed=True, max_body=1 << 20, ttl_precision=0.05, wake_bound=0.1
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``tcp://host:port``."""
        [(host, port)] = parse_url(url).hosts
        return cls(host, port or 0)

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """See ``ResultBackend.store``."""
        for result in results:
            if len(result.body) > self.capabilities.max_body:
                raise MessageTooLarge(f"result {result.id!r}: {len(result.body):,} bytes")
        return self._call(Request("store", results=list(results), ttl=ttl)).bools if results else []

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """See ``ResultBackend.fetch``."""
        return self._call(Request("fetch", names=list(ids))).results

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """See ``ResultBackend.wait``."""
        found = self._call(Request("wait", names=list(ids), timeout=timeout)).results if ids else []
        return [one for one in found if one is not None]

    def forget(self, ids: Sequence[str]) -> None:
        """See ``ResultBackend.forget``."""
        self._call(Request("forget", names=list(ids)))

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """See ``ResultBackend.join``."""
        return self._call(Request("join", names=[group_id, member_id], size=size)).bools[0]

    def seal(self, group_id: str) -> None:
        """See ``ResultBackend.seal``."""
        self._call(Request("seal", names=[group_id]))

    def claim(self, key: str, *, ttl: float) -> str | None:
        """See ``ResultBackend.claim``."""
        return self._call(Request("claim", names=[key], ttl=ttl)).token

    def release(self, key: str, token: str) -> bool:
        """See ``ResultBackend.release``."""
        return self._call(Request("release", names=[key, token])).bools[0]

    def close(self) -> None:
        """End its connections."""
        self._closed = True
        self._end_connections()

    def _call(self, request: Request) -> Reply:
        if self._is_closed():
            raise BrokerUnavailable("this backend was closed")
        sock = None
        try:
            sock = self._connection()
            sock.settimeout(REPLY + request.timeout)
            send(sock, request)
            reply = receive(sock, _REPLIES)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._end_connections()
            raise BrokerUnavailable(f"tcp://{self._address[0]}:{self._address[1]}: {error}") from error
        self._idle.append(sock)
        if self._is_closed():  # meanwhile
            self._end_connections()
        if reply.error is not None:
            raise getattr(errors, reply.error, BrokerUnavailable)(reply.text)
        return reply

    def _is_closed(self) -> bool:
        return self._closed

    def _connection(self) -> socket.socket:
        if self._process != os.getpid():  # the child of a fork has inherited the connections of its parent
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            sock = socket.create_connection(self._address, timeout=REPLY)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock

    def _end_connections(self) -> None:
        while self._idle and self._process == os.getpid():
            try:
                self._idle.pop().close()
            except IndexError:
                return  # another thread took the last one


class BackendServer(ReferenceServer):
    """A server for :class:`TcpBackend`. Not started yet."""

    module = "anybroker_conformance.backend.networked"


def _answer(backend: SqliteBackend, request: Request, sock: socket.socket) -> Reply:  # noqa: PLR0911 (one per verb)
    names = request.names
    match request.verb:
        case "store":
            return Reply(bools=backend.store(request.results, ttl=request.ttl))
        case "fetch":
            return Reply(results=backend.fetch(names))
        case "wait":
            return Reply(results=_wait(backend, request, sock))
        case "forget":
            backend.forget(names)
        case "join":
            return Reply(bools=[backend.join(names[0], names[1], size=request.size)])
        case "seal":
            backend.seal(names[0])
        case "claim":
            return Reply(token=backend.claim(names[0], ttl=request.ttl or 0.0))
        case "release":
            return Reply(bools=[backend.release(names[0], names[1])])
    return Reply()


def _wait(backend: SqliteBackend, request: Request, sock: socket.socket) -> list[Result | None]:
    """Wait in short pieces: nobody waits for a client that has gone."""
    deadline = time.monotonic() + request.timeout
    while True:
        left = max(0.0, deadline - time.monotonic())
        found = backend.wait(request.names, timeout=min(left, TURN))
        if found or left <= TURN:
            return [*found]
        if select.select([sock], [], [], 0)[0]:
            raise ConnectionError("the client has gone")


def _serve(sock: socket.socket, backend: SqliteBackend) -> None:
    with sock:
        while True:
            try:
                request = receive(sock, _REQUESTS)
                try:
                    reply = _answer(backend, request, sock)
                except AnybrokerError as error:
                    reply = Reply(error=type(error).__name__, text=str(error))
                send(sock, reply)
            except OSError:
                return


def main(port: int, path: str) -> None:
    """Serve until killed."""
    backend = SqliteBackend(path, synchronous="normal")
    serve_each(port, lambda sock: _serve(sock, backend))


_: type[ResultBackend] = TcpBackend

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
