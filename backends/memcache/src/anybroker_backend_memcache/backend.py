"""The Memcached result backend."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Self

from anybroker.capabilities import BackendCapabilities, Durability
from anybroker.errors import BrokerUnavailable, MessageTooLarge
from anybroker.validation import check_results
from anybroker_backend_memcache import items
from anybroker_backend_memcache.servers import Servers, Write
from anybroker_backend_memcache.urls import Target, read_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.backend import Result, ResultBackend

_TTL_PRECISION = 3.0
"""Seconds: memcached's clock ticks once a second, see ``items.expiry``."""
_POLL_FLOOR, _POLL_CEILING = 0.001, 0.1
"""Seconds between two looks of one who waits, at first and after a while."""
_TURNS = 1000
"""At one item that others write again and again at the same time."""
_REFUSALS = 3
"""To append to a group that is there: memcached says no more when it has grown to the limit of an item."""
_REMOVED = -1
"""The expiry of what is not to be there any more."""


class MemcacheBackend:
    """Keeps results in the memory of memcached servers; made by :meth:`from_url`, connected when first used.

    A restart of a server, or its lack of memory, may take results, groups and locks away. What is gone is as if it had
    never been: a result is pending, a group has no members, and so its callback is never enqueued, and a lock is free,
    though its holder goes on: so ``claim`` is not declared to be exact.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._servers = Servers(target)
        self._closed = False
        self.capabilities = BackendCapabilities(
            durability=Durability.PROCESS,
            pushed=False,
            exact_claim=False,
            max_body=target.options.max_body,
            ttl_precision=_TTL_PRECISION,
            wake_bound=_POLL_CEILING + 0.05,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memcache://host[:port][,host[:port]...]`` or ``memcache+unix:///path``.

        Options: ``prefix`` of the keys, ``max_body`` in bytes, ``group_ttl``, ``connect_timeout`` and ``timeout``
        (durations), ``tls`` (yes, no), ``tls_ca`` (a file). Raises ``ConfigurationError``.
        """
        return cls(read_url(url))

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states; False where a later attempt or a final state is there already."""
        servers = self._opened()
        check_results(results, self.capabilities)
        answers = [False] * len(results)
        left = list(range(len(results)))
        while left:
            now = {results[index].id: index for index in reversed(left)}  # of one id, one at a time, in their order
            stored = self._store(servers, [results[index] for index in now.values()], items.expiry(ttl))
            for index, answer in zip(now.values(), stored, strict=True):
                answers[index] = answer
            tried = set(now.values())
            left = [index for index in left if index not in tried]
        return answers

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        found = self._find(ids)
        return [found.get(id_) for id_ in ids]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one; nothing after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        pause = _POLL_FLOOR
        while ids:
            final = [result for result in self._find(ids).values() if result.state.final]
            left = deadline - time.monotonic()
            if final or left <= 0:
                return final
            time.sleep(min(pause, left))
            pause = min(2 * pause, _POLL_CEILING)
            if self._closed:
                break
        return []

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results. Unknown ids are no error."""
        self._opened().delete([self._key("result", id_) for id_ in ids])

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member of a group finished; True when all have, until ``seal``.

        Members are appended to the item of their group, which memcached does at one stroke; whoever comes last sees
        them all. One that is appended twice counts once.
        """
        servers = self._opened()
        key, member = self._key("group", group_id), items.member(member_id)
        expiry = items.expiry(self._target.options.group_ttl.total_seconds())
        refused = 0
        for _ in range(_TURNS):
            group = servers.get([key]).get(key)
            if group is None:
                servers.write([Write("add", key, items.opened(member), expiry)])
                continue
            if items.is_sealed(group):
                return False
            finished = items.members(group)
            if member in finished:
                return len(finished) >= size
            [is_appended] = servers.write([Write("append", key, member)])
            refused += not is_appended
            if refused == _REFUSALS:
                raise MessageTooLarge(
                    f"the group {group_id!r}: memcached takes no member beside the {len(finished):,} that have "
                    "finished; start it with a larger item limit, e.g. -I 8m"
                )
        raise BrokerUnavailable(f"the group {group_id!r} vanishes again and again: has memcached enough memory (-m)?")

    def seal(self, group_id: str) -> None:
        """The group's callback has been enqueued: ``join`` answers False from now on."""
        expiry = items.expiry(self._target.options.group_ttl.total_seconds())
        self._opened().write([Write("set", self._key("group", group_id), items.sealed(), expiry)])

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds: a token, or None while somebody holds it."""
        token = secrets.token_hex(16)
        [taken] = self._opened().write([Write("add", self._key("lock", key), token.encode(), items.expiry(ttl))])
        return token if taken else None

    def release(self, key: str, token: str) -> bool:
        """Give the lock back: True if ``token`` still held it."""
        servers = self._opened()
        lock = self._key("lock", key)
        item, version = servers.gets([lock]).get(lock, (None, b""))
        if item != token.encode():
            return False
        [released] = servers.write([Write("cas", lock, b"", _REMOVED, version)])
        return released

    def close(self) -> None:
        """Free the connections. Idempotent."""
        self._closed = True
        self._servers.close()

    def _store(self, servers: Servers, results: Sequence[Result], expiry: int) -> list[bool]:
        """Write results of different ids: those that are new at once, those that replace one over what was read."""
        answers = dict.fromkeys((one.id for one in results), True)
        left = list(results)
        known: dict[str, tuple[bytes, bytes]] = {}
        for _ in range(_TURNS):
            writes = [self._write(one, expiry, known) for one in left]
            stored = servers.write(writes)
            left = [one for one, is_stored in zip(left, stored, strict=True) if not is_stored]
            if not left:
                return list(answers.values())
            known = servers.gets([self._key("result", one.id) for one in left])
            for one in list(left):
                there = known.get(self._key("result", one.id))
                if there is not None and not one.replaces(items.to_result(one.id, there[0])):
                    answers[one.id] = False
                    left.remove(one)
        raise BrokerUnavailable(f"the result {left[0].id!r} is written by others again and again")

    def _write(self, result: Result, expiry: int, known: dict[str, tuple[bytes, bytes]]) -> Write:
        key = self._key("result", result.id)
        if key not in known:
            return Write("add", key, items.to_item(result), expiry)
        return Write("cas", key, items.to_item(result), expiry, known[key][1])

    def _find(self, ids: Sequence[str]) -> dict[str, Result]:
        keys = {self._key("result", id_): id_ for id_ in ids}
        found = self._opened().get(keys)
        return {keys[key]: items.to_result(keys[key], item) for key, item in found.items()}

    def _key(self, kind: str, name: str) -> str:
        return items.key(self._target.options.prefix, kind, name)

    def _opened(self) -> Servers:
        if self._closed:
            raise BrokerUnavailable(f"this result backend of {self._target.address} was closed")
        return self._servers


_: type[ResultBackend] = MemcacheBackend
