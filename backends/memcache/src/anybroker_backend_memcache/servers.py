"""The memcached servers, each with a pool of connections, and which of them has a key.

Keys are spread as pymemcache's ``HashClient`` spreads them, by rendezvous hashing. But where that gives the keys of a
server that is gone to the others, here they stay with it, and calls for them raise ``BrokerUnavailable``: a lock that
moved to another server while its holder lives would have two holders, and a second one when it moves back.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheServerError, MemcacheUnexpectedCloseError

from anybroker.errors import BrokerUnavailable
from anybroker_backend_memcache.translation import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from anybroker_backend_memcache.urls import Server, Target

    SentT = TypeVar("SentT", str, bytes)
    FoundT = TypeVar("FoundT")

STORED = b"STORED"
_REFUSAL = b"ERROR "
"""Begins what memcached says before it closes a new connection: ``ERROR Too many open connections``."""
_PORTION = 1024 * 1024
"""Bytes of commands that are sent before their answers are read: the time-out is for so much, however large a batch."""
_IDLE = 60
"""Seconds after which a connection that nobody uses is not used any more."""
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds, seconds and their number: what the system asks on an idle connection, where it can be told."""


class Write(NamedTuple):
    """One command that stores something."""

    verb: str
    """``set``, ``add`` (only what is not there), ``append``, or ``cas`` (only over what was read)."""
    key: str
    item: bytes
    expiry: int = 0
    version: bytes = b""
    """For ``cas``: which one was read."""

    def __bytes__(self) -> bytes:
        """As memcached reads it (protocol.txt, *Storage commands*)."""
        head = f"{self.verb} {self.key} 0 {self.expiry} {len(self.item)}".encode()
        return b"".join((head, b" " + self.version if self.version else b"", b"\r\n", self.item, b"\r\n"))


class _Client(Client):
    """Tries every address of a host, of which pymemcache tries one; and sends several commands at once."""

    connected = float("-inf")
    """When, by the monotonic clock."""

    def _connect(self) -> None:
        self.connected = time.monotonic()
        if not isinstance(self.server, tuple):
            super()._connect()
            return
        self.close()
        sock = socket.create_connection(self.server, self.connect_timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            if self.tls_context:
                sock = self.tls_context.wrap_socket(sock, server_hostname=self.server[0])
            sock.settimeout(self.timeout)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def leave_if_stale(self, broken: float) -> None:
        """Connect anew when next used, if the server has closed the connection, or was made before one broke then.

        Memcached says nothing unasked: an idle connection from which something can be read is at its end.
        """
        if self.sock is not None:
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            if self.connected <= broken or poll.poll(0):
                self.close()

    def write(self, writes: Sequence[Write]) -> list[bytes]:
        """Store; returns what memcached says to each: ``STORED``, ``NOT_STORED``, ``EXISTS`` or ``NOT_FOUND``."""
        answers: list[bytes] = []
        for some in _portions([bytes(one) for one in writes]):
            answers += self._misc_cmd(some, b"write", noreply=False)
        return answers

    def _raise_errors(self, line: bytes, name: bytes) -> None:
        """As pymemcache does, which takes what a server says that is full for an unknown command."""
        if line.startswith(_REFUSAL):
            raise MemcacheServerError(line.removeprefix(_REFUSAL))
        super()._raise_errors(line, name)


class Servers:
    """Thread-safe. Used after a fork, it connects anew."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._by_name = {_name(server): server for server in target.servers}
        self._ring: Any = RendezvousHash(list(self._by_name))  # type: ignore[no-untyped-call]  # it has no annotations
        self._lock = threading.Lock()
        self._calls = 0
        self._closed = False
        self._pools: dict[str, PooledClient] = {}
        self._broken: dict[str, float] = {}
        """When a connection to a server broke for the last time, by the monotonic clock."""
        self._inherited: list[dict[str, PooledClient]] = []
        """The parent's, after a fork: kept, for the sockets are the parent's too."""
        _all.add(self)

    def get(self, keys: Iterable[str]) -> dict[str, bytes]:
        """What is stored under those of the keys that are there, by one round trip for each server."""
        return self._found(keys, _Client.get_many)

    def gets(self, keys: Iterable[str]) -> dict[str, tuple[bytes, bytes]]:
        """The same, each with the version that ``cas`` wants."""
        return self._found(keys, _Client.gets_many)

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """Store, by one round trip for each server; whether each was stored."""
        stored: dict[str, bool] = {}
        by_key = {one.key: one for one in writes}
        for name, keys in self._spread(by_key).items():
            with self._pool(name) as pool, self._client(name, pool) as client:
                answers = client.write([by_key[key] for key in keys])
            stored |= {key: answer == STORED for key, answer in zip(keys, answers, strict=True)}
        return [stored[one.key] for one in writes]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove what is there, by one round trip for each server."""
        for name, some in self._spread(keys).items():
            self._repeatable(name, some, lambda client, keys: client.delete_many(keys, noreply=False))

    def close(self) -> None:
        """Close the connections of this process, as soon as no call uses them."""
        with self._lock:
            self._closed = True
            self._close_unused()

    def _spread(self, keys: Iterable[str]) -> dict[str, list[str]]:
        if len(self._by_name) == 1:
            return {next(iter(self._by_name)): found} if (found := list(dict.fromkeys(keys))) else {}
        spread: dict[str, list[str]] = {}
        for key in dict.fromkeys(keys):
            spread.setdefault(self._ring.get_node(key), []).append(key)
        return spread

    def _found(self, keys: Iterable[str], ask: Callable[[_Client, list[str]], dict[Any, FoundT]]) -> dict[str, FoundT]:
        found: dict[str, FoundT] = {}
        for name, some in self._spread(keys).items():
            for answer in self._repeatable(name, some, ask):
                found |= answer
        return found

    def _repeatable(self, name: str, keys: list[str], ask: Callable[[_Client, list[str]], FoundT]) -> list[FoundT]:
        """What a server says to commands that may be sent twice: they are, if the connection breaks."""
        with self._pool(name) as pool:
            try:
                with self._client(name, pool) as client:
                    return [ask(client, some) for some in _portions(keys)]
            except (ConnectionError, MemcacheUnexpectedCloseError):
                with self._client(name, pool) as client:
                    return [ask(client, some) for some in _portions(keys)]

    @contextmanager
    def _client(self, name: str, pool: PooledClient) -> Iterator[_Client]:
        """A connection for one call. After one broke, those that are as old are not used any more."""
        with pool.client_pool.get_and_release(destroy_on_fail=True) as any_client:
            client = cast("_Client", any_client)
            client.leave_if_stale(self._broken.get(name, float("-inf")))
            try:
                yield client
            except (OSError, MemcacheUnexpectedCloseError):
                self._broken[name] = time.monotonic()
                raise

    @contextmanager
    def _pool(self, name: str) -> Iterator[PooledClient]:
        """The connections to a server, for one call. The last call closes them, if the object was closed meanwhile.

        A pool of pymemcache must not be closed while it is used: connections that are being made would stay open.
        """
        with self._lock:
            if self._closed:
                raise BrokerUnavailable(f"memcached at {name}: this object was closed")
            self._calls += 1
            pool = self._pools.get(name) or self._pools.setdefault(name, self._new_pool(name))
        try:
            with translated(self._by_name[name]):
                yield pool
        finally:
            with self._lock:
                self._calls -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._calls:
            for pool in self._pools.values():
                pool.close()
            self._pools = {}

    def begin_anew(self) -> None:
        """In a child that was forked. The lock may have been held by a thread that does not exist here."""
        self._inherited.append(self._pools)
        self._lock = threading.Lock()
        self._calls = 0
        self._pools = {}

    def _new_pool(self, name: str) -> Any:
        options = self._target.options
        pool = PooledClient(
            self._by_name[name],
            connect_timeout=options.connect_timeout.total_seconds(),
            timeout=options.timeout.total_seconds(),
            no_delay=not isinstance(self._by_name[name], str),
            tls_context=self._target.tls,
            default_noreply=False,
            pool_idle_timeout=_IDLE,
        )
        pool.client_class = _Client
        return pool


_all: weakref.WeakSet[Servers] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for servers in list(_all):
        servers.begin_anew()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _portions(commands: Sequence[SentT]) -> Iterator[list[SentT]]:
    """Parts of a batch, each as large as what is sent at once; one that is larger stands alone."""
    portion: list[SentT] = []
    size = 0
    for command in commands:
        if portion and size + len(command) > _PORTION:
            yield portion
            portion, size = [], 0
        portion.append(command)
        size += len(command)
    if portion:
        yield portion


def _name(server: Server) -> str:
    """As ``HashClient`` calls it, so that a key is where that client looks for it."""
    return server if isinstance(server, str) else f"{server[0]}:{server[1]}"
