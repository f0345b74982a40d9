"""The memory result backend: every law in full, for one process and as long as it lives."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Self

import msgspec

from anybroker.capabilities import BackendCapabilities, Durability
from anybroker.clock import Clock, SystemClock
from anybroker.errors import BrokerUnavailable
from anybroker.memory.expiring import Expiring
from anybroker.memory.guard import Guarded
from anybroker.memory.names import MAX_BODY, Names, read_memory_url
from anybroker.validation import check_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.backend import Result, ResultBackend

GROUP_TTL = 7 * 86400.0
"""Seconds that a group of which nothing is heard is remembered."""

_system_clock = SystemClock()


class Group(msgspec.Struct, eq=False):
    """Who of a group has finished."""

    members: set[str] = msgspec.field(default_factory=set)
    sealed: bool = False


class Store(Guarded):
    """What the backends of one ``memory://name`` share."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.results: Expiring[Result] = Expiring()
        self.groups: Expiring[Group] = Expiring()
        self.claims: Expiring[str] = Expiring()
        self.tokens = count(1)


_names: Names[Store] = Names()


class MemoryBackend:
    """Keeps results in the memory of this process.

    Each object has results of its own, but those of one ``name`` share theirs within the process. The child of a
    fork has its own copy. ``clock`` judges every ttl; a name keeps the clock of its first user.
    """

    def __init__(self, *, name: str = "", clock: Clock = _system_clock, max_body: int = MAX_BODY) -> None:
        self._store = _names.share(name, Store(clock))
        self._closed = False
        self.capabilities = BackendCapabilities(
            durability=Durability.PROCESS,
            shared=False,
            pushed=True,
            max_body=max_body,
            ttl_precision=0.05,
            wake_bound=0.05,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memory://`` or ``memory://name``, with ``?max_body=`` in bytes. Raises ``ConfigurationError``."""
        name, options = read_memory_url(url)
        return cls(name=name, max_body=options.max_body)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BrokerUnavailable("this memory backend was closed")

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states; False where a later attempt or a final state is there already."""
        check_results(results, self.capabilities)
        store = self._store
        with store.changed:
            self._refuse_if_closed()
            now = store.clock.time()
            end = now + (float("inf") if ttl is None else ttl)
            answers = [_store_one(store.results, result, end, now) for result in results]
            store.changed.notify_all()
        return answers

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        store = self._store
        with store.changed:
            self._refuse_if_closed()
            now = store.clock.time()
            return [store.results.get(id_, now) for id_ in ids]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one."""
        store = self._store
        clock = store.clock
        with store.changed:
            self._refuse_if_closed()
            now = clock.time()
            while True:
                final = _final(store.results, ids, now)
                if final or timeout <= 0 or not ids or self._closed:
                    return final
                clock.wait(store.changed, timeout)
                before, now = now, clock.time()
                timeout -= max(0.0, now - before)  # a system clock may be set back, and that must not prolong the wait

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results."""
        with self._store.changed:
            self._refuse_if_closed()
            for id_ in ids:
                self._store.results.drop(id_)

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member finished; True when all have, until the group is sealed."""
        store = self._store
        with store.changed:
            now = store.clock.time()
            group = store.groups.get(group_id, now) or Group()
            if not group.sealed:
                group.members.add(member_id)
            store.groups.put(group_id, group, now + GROUP_TTL, now)
            return not group.sealed and len(group.members) >= size

    def seal(self, group_id: str) -> None:
        """Let ``join`` answer False from now on. Who the members were is forgotten."""
        store = self._store
        with store.changed:
            now = store.clock.time()
            store.groups.put(group_id, Group(sealed=True), now + GROUP_TTL, now)

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds, or None while somebody holds it."""
        store = self._store
        with store.changed:
            now = store.clock.time()
            if store.claims.get(key, now) is not None:
                return None
            token = str(next(store.tokens))
            store.claims.put(key, token, now + ttl, now)
            return token

    def release(self, key: str, token: str) -> bool:
        """Give the lock back; False if ``token`` no longer held it."""
        store = self._store
        with store.changed:
            if store.claims.get(key, store.clock.time()) != token:
                return False
            store.claims.drop(key)
            return True

    def close(self) -> None:
        """Let those who wait here return. The results stay for others of the same name."""
        with self._store.changed:
            self._closed = True
            self._store.changed.notify_all()


def _store_one(results: Expiring[Result], result: Result, end: float, now: float) -> bool:
    stored = results.get(result.id, now)
    if stored is not None and not result.replaces(stored):
        return False
    results.put(result.id, result, end, now)
    return True


def _final(results: Expiring[Result], ids: Sequence[str], now: float) -> list[Result]:
    found = (results.get(id_, now) for id_ in ids)
    return [result for result in found if result is not None and result.state.final]


_: type[ResultBackend] = MemoryBackend
