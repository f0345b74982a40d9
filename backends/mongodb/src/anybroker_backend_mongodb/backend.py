"""The MongoDB result backend."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import msgspec
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from anybroker.capabilities import BackendCapabilities
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.validation import check_results
from anybroker_backend_mongodb import documents
from anybroker_backend_mongodb.documents import FIELDS, FINISHED, GROUPS, INDEXES, LOCKS, MEMBERS, RESULTS
from anybroker_backend_mongodb.upserts import upsert, upsert_all
from anybroker_broker_mongodb.connection import Connection
from anybroker_broker_mongodb.translation import NOT_IMPLEMENTED
from anybroker_broker_mongodb.urls import MAX_BODY, MaxBody, Prefix, Target, Wake, read_url
from anybroker_broker_mongodb.watch import LEAST_PAUSE, POLL_CEILING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.collection import Collection

    from anybroker.backend import Result, ResultBackend
    from anybroker_broker_mongodb.watch import Watch

_SLACK = 0.05
"""Seconds for a round trip, on top of what is waited for on purpose."""
_ATTEMPTS = 3
"""At one write, when others write the same document at the same time."""


class BackendOptions(msgspec.Struct, frozen=True):
    """Options of the result backend's URL, beside those of pymongo."""

    prefix: Prefix = ""
    """Begins the names of the collections, so that several applications can share a database."""
    max_body: MaxBody = MAX_BODY
    """Bytes."""
    wake: Wake = "auto"
    group_ttl: timedelta = timedelta(days=7)
    """So long after its ``join`` a member counts, and so long after the last ``join`` a sealed group is known."""


class _LastWait(threading.local):
    """What this thread has waited for last: who waits for it in turns looks ever more rarely, as in one long wait."""

    ids: frozenset[str] = frozenset()
    since = 0.0

    def begin(self, ids: Sequence[str]) -> float:
        """Another wait begins; returns since when it has been going on, by the monotonic clock."""
        if not self.ids.issuperset(ids):
            self.since = time.monotonic()
        self.ids = frozenset(ids)
        return self.since


class MongoBackend:
    """Keeps results in collections of MongoDB; made by :meth:`from_url`, connected when first used."""

    def __init__(self, target: Target[BackendOptions]) -> None:
        self._target = target
        self._group_ttl = target.options.group_ttl.total_seconds()
        self._connection = Connection(target, indexes=INDEXES, fields=FIELDS)
        self._last_wait = _LastWait()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``mongodb://[user:password@]host[:port][,host...]/[database][?option=value...]``, or ``mongodb+srv://``.

        Options: ``prefix`` of the collections, ``max_body`` in bytes, ``wake`` (auto, stream, poll), ``group_ttl`` (a
        duration), and those of pymongo. Raises ``ConfigurationError``.
        """
        target = read_url(url, BackendOptions)
        if target.options.group_ttl <= timedelta():
            raise ConfigurationError(f"{target.address}: the option 'group_ttl' must be more than nothing")
        return cls(target)

    @property
    def capabilities(self) -> BackendCapabilities:
        """What it promises; some of it depends on the server, and is less until that has answered.

        Where a failover may roll back what was confirmed, members that joined and locks are forgotten, too.
        """
        return BackendCapabilities(
            durability=self._connection.durability,
            pushed=self._connection.streams,
            exact_join=self._connection.is_final,
            exact_claim=self._connection.is_final,
            max_body=self._target.options.max_body,
            ttl_precision=_SLACK,
            wake_bound=_SLACK if self._connection.streams else POLL_CEILING + _SLACK,
        )

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states; False where a later attempt or a final state is there already."""
        check_results(results, self.capabilities)
        if not results:
            return []
        refused = set(range(len(results)))
        with self._connection.translated():
            for _ in range(_ATTEMPTS):  # two who insert the same id at once: the second time, one of them is there
                tried = sorted(refused)
                refused = self._upsert([results[index] for index in tried], ttl, tried)
                if not refused:
                    break
                self._collection(RESULTS).delete_many(documents.expired([results[index].id for index in refused]))
        self._watch().notify()
        return [index not in refused for index in range(len(results))]

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        found = {result.id: result for result in self._find(ids)} if ids else {}
        return [found.get(id_) for id_ in ids]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one; nothing after ``timeout`` seconds."""
        wanted = list(dict.fromkeys(ids))
        since, pause = self._last_wait.begin(wanted), 0.0
        deadline = time.monotonic() + timeout
        while wanted and not self._connection.closed:
            watch = self._watch()
            seen = watch.version
            try:
                final = self._find(wanted, final=True)
            except BrokerUnavailable:
                if self._is_closed():  # while this call was under way
                    return []
                raise
            left = deadline - time.monotonic()
            if final or left <= 0:
                return final
            watch.wait(seen, left, pause, since=since)
            pause = LEAST_PAUSE
        return []

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results. Unknown ids are no error."""
        with self._connection.translated():
            self._collection(RESULTS).delete_many({"_id": {"$in": list(ids)}})

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member of a group finished; True when all have, until ``seal``.

        The count of joins tells whether the members are worth counting. Every ``join`` adds to it, also one that is
        repeated, and only after its member is recorded: so it is never behind the members whose ``join`` has ended,
        wherever somebody died in between, and the last of them finds all the others there. Where it is ahead, members
        are counted in vain.
        """
        with self._connection.translated():
            members = self._collection(MEMBERS)
            identity = f"{len(group_id)}:{group_id}{member_id}"
            is_new = self._insert_member(group_id, identity)
            group = self._change_group(group_id, documents.joined(self._group_ttl))
            if group["sealed"]:
                if is_new:
                    members.delete_one({"_id": identity})
                return False
            if group["joins"] < size:
                return False
            return members.count_documents({"group": group_id}, limit=max(1, size)) >= size

    def seal(self, group_id: str) -> None:
        """The group's callback has been enqueued: ``join`` answers False from now on."""
        with self._connection.translated():
            self._change_group(group_id, documents.sealed(self._group_ttl))
            self._collection(MEMBERS).delete_many({"group": group_id})

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds: a token, or None while somebody holds it."""
        token = secrets.token_hex(16)
        with self._connection.translated():
            locks = self._collection(LOCKS)
            while not self._inserted(locks, key, token, ttl):
                locks.delete_one(documents.expired([key]))  # unless the server's TTL monitor is quicker
                if locks.find_one(documents.locked(key)) is not None:
                    return None
        return token

    def release(self, key: str, token: str) -> bool:
        """Give the lock back: True if ``token`` still held it."""
        with self._connection.translated():
            return self._collection(LOCKS).delete_one(documents.held(key, token)).deleted_count == 1

    def close(self) -> None:
        """Free the connections, unless others use them too."""
        self._connection.close()

    def _is_closed(self) -> bool:
        return self._connection.closed

    def _inserted(self, locks: Collection[dict[str, Any]], key: str, token: str, ttl: float) -> bool:
        """Whether the lock could be made; not, while there is one, be it expired or not."""
        try:
            upsert(locks, documents.free(key, token), documents.taken(token, ttl))
        except DuplicateKeyError:
            return False
        return True

    def _upsert(self, results: Sequence[Result], ttl: float | None, indexes: Sequence[int]) -> set[int]:
        """Write results that have these indexes; returns those of the ones that were refused."""
        writes = [(documents.storable(one), documents.stored(one, ttl), one.attempt) for one in results]
        return {indexes[place] for place in upsert_all(self._collection(RESULTS), writes)}

    def _insert_member(self, group_id: str, identity: str) -> bool:
        """Record a member; False, it had been there."""
        try:
            return upsert(self._collection(MEMBERS), {"_id": identity}, documents.member(group_id, self._group_ttl))
        except DuplicateKeyError:  # it is recorded by another one at the same moment
            return False

    def _change_group(self, group_id: str, change: list[dict[str, Any]]) -> dict[str, Any]:
        """Change the document of a group, or make it; returns what it is then."""
        groups = self._collection(GROUPS)
        for _ in range(_ATTEMPTS):
            try:
                found = groups.find_one_and_update(
                    {"_id": group_id}, change, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:  # another one has inserted it at the same moment
                continue
            except OperationFailure as error:
                if error.code != NOT_IMPLEMENTED:
                    raise
                groups.update_one({"_id": group_id}, documents.place(), upsert=True)  # see upserts.py
                continue
            if found is not None:
                return found
        raise BrokerUnavailable(f"the group {group_id!r} is inserted and removed again and again")

    def _find(self, ids: Sequence[str], *, final: bool = False) -> list[Result]:
        with self._connection.translated():
            found = self._collection(RESULTS).find(documents.there(ids, final=final))
            return [documents.to_result(one) for one in found]

    def _collection(self, name: str) -> Collection[dict[str, Any]]:
        return self._connection.collection(name)

    def _watch(self) -> Watch:
        return self._connection.watch(RESULTS, FINISHED)


_: type[ResultBackend] = MongoBackend
