"""The SQLite result backend: results, groups and claims in the broker's file or in one of their own."""

from __future__ import annotations

import math
import secrets
import time
from typing import TYPE_CHECKING, Self

from anybroker.backend import Result, State
from anybroker.capabilities import BackendCapabilities, Durability
from anybroker.errors import BrokerUnavailable
from anybroker.loading import parse_url, read_options
from anybroker.sqlite import options, registry
from anybroker.sqlite.database import now
from anybroker.sqlite.statements import statement
from anybroker.validation import check_results

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anybroker.backend import ResultBackend
    from anybroker.sqlite.database import Database

_STORE = statement("store")
_FETCH = statement("fetch")
_FETCH_FINAL = statement("fetch_final")
_FORGET = statement("forget")
_JOIN_MEMBER = statement("join_member")
_JOIN_GROUP = statement("join_group")
_DROP_GROUP = statement("drop_group")
_DROP_MEMBERS = statement("drop_members")
_SEAL = statement("seal")
_CLAIM_KEY = statement("claim_key")
_RELEASE_KEY = statement("release_key")
_PURGE_RESULTS = statement("purge_results")
_PURGE_CLAIMS = statement("purge_claims")

_BITE = 8
"""Expired rows that a write removes beside what it writes: more than it adds, so that they cannot pile up."""
_MAX_TTL = 100 * 365 * 86400.0
"""Seconds: a longer ttl is as good as for ever."""


class SqliteBackend:
    """Keeps results in a file that any number of processes of one machine may use.

    ``path``: the file, created when first used; its directory must exist.
    ``synchronous``: with ``full`` every change is on the disk when the call returns; with ``normal`` a power cut may
    undo the most recent ones, and where the broker is in the same file, it then brings back the tasks whose results it
    has undone. The death of every process undoes nothing either way.
    ``busy_timeout``: seconds for which a call waits for other processes to finish writing.
    ``max_body``: bytes.
    ``group_ttl``: seconds after the last ``join`` or ``seal`` after which a group is forgotten.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: options.Synchronous = "normal",
        busy_timeout: float = options.BUSY_TIMEOUT,
        max_body: int = options.MAX_BODY,
        group_ttl: float = options.GROUP_TTL,
    ) -> None:
        self._durable = synchronous == "full"
        self._database = registry.borrow(path, busy_timeout=busy_timeout)
        self._group_ttl = _milliseconds(group_ttl)
        self._closed = False
        self.capabilities = BackendCapabilities(
            durability=Durability.POWER_CUT if self._durable else Durability.SERVER,
            pushed=False,
            max_body=max_body,
            ttl_precision=0.05,
            wake_bound=0.05,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``sqlite:///relative.db`` or ``sqlite:////absolute.db``. Raises ``ConfigurationError``.

        Options: ``synchronous`` (full, normal), ``busy_timeout`` and ``group_ttl`` (durations), ``max_body`` (bytes).
        """
        address = parse_url(url)
        path = options.file_path(address)
        given = read_options(address, options.BackendOptions)
        return cls(
            path,
            synchronous=given.synchronous,
            busy_timeout=given.busy_timeout.total_seconds(),
            max_body=given.max_body,
            group_ttl=given.group_ttl.total_seconds(),
        )

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states; False where a later attempt or a final state is there already."""
        database = self._opened()
        check_results(results, self.capabilities)
        if not results:
            return []
        with database.transaction(durable=self._durable) as connection:
            moment = now(connection)
            expires_at = None if ttl is None else moment + _milliseconds(ttl)
            stored = [
                connection.execute(
                    _STORE,
                    (
                        result.id,
                        result.state.value,
                        result.state.final,
                        result.attempt,
                        expires_at,
                        result.body,
                        moment,
                    ),
                ).rowcount
                == 1
                for result in results
            ]
            connection.execute(_PURGE_RESULTS, {"limit": len(results) + _BITE})
        database.watch.notify()
        return stored

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        rows = self._opened().read_each(_FETCH, ids)
        return [None if row is None else _result(*row) for row in rows]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one; nothing after ``timeout`` seconds."""
        database = self._opened()
        wanted = dict.fromkeys(ids)
        deadline = time.monotonic() + timeout
        while wanted and not self._closed:
            seen = database.watch.version
            rows = database.read_each(_FETCH_FINAL, wanted)
            final = [_result(*row) for row in rows if row is not None]
            left = deadline - time.monotonic()
            if final or left <= 0:
                return final
            database.watch.wait(seen, left)
        return []

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results. Unknown ids are no error."""
        with self._opened().transaction(durable=self._durable) as connection:
            connection.executemany(_FORGET, [(id_,) for id_ in ids])

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member of a group finished; True when all have, until ``seal``."""
        with self._opened().transaction(durable=self._durable) as connection:
            moment = now(connection)
            group = {"group_id": group_id, "now": moment, "expires_at": moment + self._group_ttl}
            if connection.execute(_DROP_GROUP, group).rowcount:
                connection.execute(_DROP_MEMBERS, group)
            added = connection.execute(_JOIN_MEMBER, {**group, "member_id": member_id}).rowcount
            finished, sealed = connection.execute(_JOIN_GROUP, {**group, "added": added}).fetchall()[0]
        return not sealed and finished >= size

    def seal(self, group_id: str) -> None:
        """The group's callback has been enqueued: ``join`` answers False from now on."""
        with self._opened().transaction(durable=self._durable) as connection:
            group = {"group_id": group_id, "expires_at": now(connection) + self._group_ttl}
            connection.execute(_SEAL, group)
            connection.execute(_DROP_MEMBERS, group)

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds: a token, or None while somebody holds it."""
        token = secrets.token_hex(16)
        with self._opened().transaction(durable=self._durable) as connection:
            moment = now(connection)
            values = {"key": key, "token": token, "now": moment, "expires_at": moment + _milliseconds(ttl)}
            taken = connection.execute(_CLAIM_KEY, values).rowcount == 1
            connection.execute(_PURGE_CLAIMS, {"limit": _BITE})
        return token if taken else None

    def release(self, key: str, token: str) -> bool:
        """Give the lock back: True if ``token`` still held it."""
        with self._opened().transaction(durable=self._durable) as connection:
            values = {"key": key, "token": token, "now": now(connection)}
            return connection.execute(_RELEASE_KEY, values).rowcount == 1

    def close(self) -> None:
        """Free the connection, unless others use it too."""
        if not self._closed:
            self._closed = True
            self._database.watch.notify()
            registry.give_back(self._database)

    def _opened(self) -> Database:
        if self._closed:
            raise BrokerUnavailable(f"this result backend of {self._database.path} was closed")
        return self._database


def _result(id_: str, state: str, attempt: int, body: bytes) -> Result:
    return Result(id_, State(state), attempt, body)


def _milliseconds(seconds: float) -> int:
    return math.ceil(min(seconds, _MAX_TTL) * 1000)


_: type[ResultBackend] = SqliteBackend
