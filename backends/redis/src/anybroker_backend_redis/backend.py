"""The Redis result backend: a key for each result, told to those who wait for it."""

from __future__ import annotations

import math
import os
import secrets
import time
from binascii import crc_hqx
from typing import TYPE_CHECKING, Any, Self

import msgspec

from anybroker.backend import Result, State
from anybroker.capabilities import BackendCapabilities, Durability
from anybroker.errors import BrokerUnavailable, DecodeError
from anybroker.validation import check_results
from anybroker_backend_redis.listener import Channels, Listener
from anybroker_broker_redis import durability
from anybroker_broker_redis.errors import not_unicode
from anybroker_broker_redis.link import Link
from anybroker_broker_redis.options import database, read_url
from anybroker_broker_redis.scripts import script
from anybroker_broker_redis.servers import nodes, servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anybroker.backend import ResultBackend

_STORE = script("store", behind=("keys",), package="anybroker_backend_redis")
_JOIN = script("join", behind=("keys",), package="anybroker_backend_redis")
_RELEASE = script("release", behind=("keys",), package="anybroker_backend_redis")

SHARDS = 16
"""Hash tags over which the keys are spread in a cluster."""
AT_ONCE = 500
"""Results that one command stores or fetches: others wait meanwhile."""
TOLD = 64 * 1024
"""Bytes of the largest value that is told to those who wait; a larger one they fetch."""
LOOK_AGAIN = 1.0
"""Seconds after which one who waits looks again in any case: what is told may be lost, e.g. in a failover."""
LOOK_AGAIN_AT_MOST = 8.0
"""Each look is twice as long after the one before, up to this: thousands may wait at once."""
_MAX_TTL = 100 * 365 * 86400.0
"""Seconds: a longer ttl is as good as for ever."""
_FINAL = tuple(state.value.encode() for state in State if state.final)
_STATES = {state.value.encode(): state for state in State}


class RedisBackend:
    """Keeps results in Redis, single, behind Sentinel, or in a cluster. Made by :meth:`from_url`."""

    def __init__(self, url: str) -> None:
        address, options = read_url(url)
        tags = [options.prefix]
        if address.scheme == "redis+cluster":
            tags = [f"{options.prefix}:{number}" for number in range(SHARDS)]
        self._tags = [f"{{{tag}}}:".encode() for tag in tags]
        self._nodes = nodes(address)
        self._links = [Link(servers(address, options, tag, self._nodes), options, address) for tag in self._tags]
        number = database(address, options)
        self._channels = Channels(f"{number}:".encode() if number else b"", len(self._tags[0]))
        self._listening = msgspec.structs.replace(options, protocol=3)
        self._address = address
        self._listener = self._new_listener()
        self._process = os.getpid()
        self._group_ttl = _milliseconds(options.group_ttl.total_seconds())
        self._durability = options.durability
        self._ask_again = 0.0
        """When to ask the server for it at the earliest; seconds of ``time.monotonic``."""
        self._closed = False
        self._declared = BackendCapabilities(
            durability=options.durability or Durability.PROCESS,
            pushed=True,
            max_body=options.max_body,
            ttl_precision=0.05,
            wake_bound=0.05,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Not connected yet. Raises ``ConfigurationError``. The forms and options: docs/brokers/redis.md."""
        return cls(url)

    @property
    def capabilities(self) -> BackendCapabilities:
        """Every law in full strength, with the durability that the server's own persistence gives.

        Asks the server for it, once; while that is away, it counts as none.
        """
        if self._durability is None and not self._closed and time.monotonic() >= self._ask_again:
            try:
                self._durability = durability.ask(self._links[0])
            except BrokerUnavailable:
                self._ask_again = time.monotonic() + durability.ASK_AGAIN
                return self._declared
            self._declared = msgspec.structs.replace(self._declared, durability=self._durability)
        return self._declared

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states; False where a later attempt or a final state is there already."""
        check_results(results, self._declared)
        answers = [False] * len(results)
        milliseconds = 0 if ttl is None else _milliseconds(ttl)
        for link, positions, keys in self._batches("result", [result.id for result in results]):
            arguments: list[Any] = [milliseconds, TOLD]
            for at, key in zip(positions, keys, strict=True):
                result = results[at]
                final = "1" if result.state.final else "0"
                arguments += (self._channels.of(key), result.attempt, final, _value(result))
            for at, reply in zip(positions, link.call(_STORE, keys, arguments, writes=True), strict=True):
                answers[at] = reply == 1
        return answers

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        found: list[Result | None] = [None] * len(ids)
        for link, positions, keys in self._batches("result", ids):
            values = [link.send("GET", keys[0])] if len(keys) == 1 else link.send("MGET", *keys)
            for at, value in zip(positions, values, strict=True):
                found[at] = None if value is None else _result(ids[at], value)
        return found

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one; nothing after ``timeout`` seconds."""
        wanted = list(dict.fromkeys(ids))
        deadline = time.monotonic() + timeout
        looked = False
        pause = LOOK_AGAIN
        while wanted:
            try:
                final = [result for result in self.fetch(wanted) if result is not None and result.state.final]
                looked = True
                left = deadline - time.monotonic()
                if final or left <= 0:
                    return final
                names = {self._key("result", id_): id_ for id_ in wanted}
                told = self._ears().wait(list(names), min(left, pause))
            except BrokerUnavailable:
                if looked and self._is_closed():  # while this call waited
                    return []
                raise
            if told and all(told.values()):
                return [_result(names[key], value) for key, value in told.items()]
            if not told and left <= pause and time.monotonic() >= deadline:
                return []
            pause = min(2 * pause, LOOK_AGAIN_AT_MOST)
        return []

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results. Unknown ids are no error."""
        for link, _, keys in self._batches("result", ids):
            link.send("UNLINK", *keys, writes=True)

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member of a group finished; True when all have, until ``seal``."""
        link, key = self._place("group", group_id)
        return bool(link.call(_JOIN, [key], (member_id, size, self._group_ttl), writes=True))

    def seal(self, group_id: str) -> None:
        """The group's callback has been enqueued: ``join`` answers False from now on. The members are forgotten."""
        link, key = self._place("group", group_id)
        link.send("SET", key, "sealed", "PX", self._group_ttl, writes=True)

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds: a token, or None while somebody holds it."""
        token = secrets.token_hex(16)
        link, name = self._place("claim", key)
        taken = link.send("SET", name, token, "NX", "PX", _milliseconds(ttl), writes=True)
        return token if taken is not None else None

    def release(self, key: str, token: str) -> bool:
        """Give the lock back: True if ``token`` still held it."""
        link, name = self._place("claim", key)
        return bool(link.call(_RELEASE, [name], (token,), writes=True))

    def close(self) -> None:
        """End the connections; those who wait return."""
        if self._closed:
            return
        self._closed = True
        if self._process == os.getpid():
            self._listener.close()
        for link in self._links:
            link.close()

    def _is_closed(self) -> bool:
        return self._closed

    def _ears(self) -> Listener:
        if self._process != os.getpid():  # the child of a fork has inherited the connection of its parent
            self._listener, self._process = self._new_listener(), os.getpid()
        return self._listener

    def _new_listener(self) -> Listener:
        link = Link(servers(self._address, self._listening, self._tags[0], self._nodes), self._listening, self._address)
        return Listener(link, self._channels, _is_final, self._has_final if len(self._tags) > 1 else None)

    def _has_final(self, keys: Sequence[bytes]) -> bool:
        found = self.fetch([key.partition(b"}:result:")[2].decode() for key in keys])
        return any(result is not None and result.state.final for result in found)

    def _place(self, kind: str, name: str) -> tuple[Link, bytes]:
        """Where something is, and its key."""
        if self._closed:
            raise BrokerUnavailable(f"this result backend of {self._address} was closed")
        return self._links[self._shard(name)], self._key(kind, name)

    def _batches(self, kind: str, names: Sequence[str]) -> Iterator[tuple[Link, list[int], list[bytes]]]:
        """The positions of names, and their keys, by where they are and no more at once than one command takes."""
        groups: dict[int, tuple[list[int], list[bytes]]] = {}
        for at, name in enumerate(names):
            positions, keys = groups.setdefault(self._shard(name), ([], []))
            positions.append(at)
            keys.append(self._place(kind, name)[1])
        for shard, (positions, keys) in groups.items():
            for start in range(0, len(keys), AT_ONCE):
                end = start + AT_ONCE
                yield self._links[shard], positions[start:end], keys[start:end]

    def _shard(self, name: str) -> int:
        try:
            return crc_hqx(name.encode(), 0) % SHARDS if len(self._tags) > 1 else 0
        except UnicodeEncodeError as error:
            raise not_unicode(error) from error

    def _key(self, kind: str, name: str) -> bytes:
        try:
            return self._tags[self._shard(name)] + kind.encode() + b":" + name.encode()
        except UnicodeEncodeError as error:
            raise not_unicode(error) from error


def _value(result: Result) -> bytes:
    return f"{result.state.value} {result.attempt}\n".encode() + result.body


def _result(id_: str, value: bytes) -> Result:
    head, _, body = value.partition(b"\n")
    state, _, attempt = head.partition(b" ")
    try:
        return Result(id_, _STATES[state], int(attempt), body)
    except (KeyError, ValueError) as error:
        raise DecodeError(f"under the key of the result {id_!r} there is something else") from error


def _is_final(value: bytes) -> bool:
    return value.startswith(_FINAL)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(min(seconds, _MAX_TTL) * 1000))


_: type[ResultBackend] = RedisBackend
