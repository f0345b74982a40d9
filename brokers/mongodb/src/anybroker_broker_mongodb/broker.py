"""The MongoDB broker: exact leases on single documents, which needs neither transactions nor a replica set."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from bson import ObjectId
from bson.errors import BSONError
from pymongo import ASCENDING, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from anybroker import capabilities as declare
from anybroker.errors import BrokerUnavailable
from anybroker.validation import check_changes, check_messages
from anybroker_broker_mongodb import commands
from anybroker_broker_mongodb.connection import Connection
from anybroker_broker_mongodb.documents import INDEXES, MAX_LEASE, READY, lease_milliseconds, to_delivery, to_document
from anybroker_broker_mongodb.inspection import COLLECTION, Inspection
from anybroker_broker_mongodb.translation import DUPLICATE_KEY
from anybroker_broker_mongodb.urls import BrokerOptions, Target, read_url
from anybroker_broker_mongodb.watch import LEAST_PAUSE, POLL_CEILING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pymongo.collection import Collection

    from anybroker.broker import Broker, Delivery, Inspect, Message
    from anybroker_broker_mongodb.commands import Lease
    from anybroker_broker_mongodb.watch import Watch

    Messages = Collection[dict[str, Any]]

_PROMOTION_INTERVAL = 0.2
"""Seconds: a busy consumer makes ready what is overdue no more often than that."""
_PRUNE_ABOVE = 4096
"""Leases remembered for ``close`` before those that have run out are forgotten; and as many of anything else."""
_SLACK = 0.05
"""Seconds for a round trip or two, on top of what is waited for on purpose."""
_ARRIVALS: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": "insert"},
                {"operationType": "update", "updateDescription.updatedFields.deliveries": 0},
                {"operationType": "update", "updateDescription.updatedFields.state": "ready"},
            ]
        }
    },
    {"$project": {"_id": 1, "operationType": 1}},
]
"""The changes that those who wait for messages want to hear of: new ones, new versions, and those given up."""


class MongoBroker(Inspection):
    """Keeps messages in a collection of MongoDB; made by :meth:`from_url`, connected when first used."""

    def __init__(self, target: Target[BrokerOptions]) -> None:
        self._target = target
        self._connection = Connection(target, indexes={COLLECTION: INDEXES})
        self._held: dict[Lease, tuple[int, float]] = {}
        """Leases that this object took: by which process, and until when by the monotonic clock."""
        self._unsettled: dict[Lease, ObjectId] = {}
        """Those whose settling failed halfway: the token by which they may be fenced since."""
        self._promoted: dict[tuple[str, ...], float] = {}
        """When these queues were last searched for what is overdue, unless there was more of it."""
        self._idle = True

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``mongodb://[user:password@]host[:port][,host...]/[database][?option=value...]``, or ``mongodb+srv://``.

        Options: ``prefix`` of the collection, ``max_body`` in bytes, ``wake`` (auto, stream, poll), and those of
        pymongo. Raises ``ConfigurationError``.
        """
        return cls(read_url(url, BrokerOptions))

    @property
    def capabilities(self) -> declare.Capabilities:
        """What it promises; some of it depends on the server, and is less until that has answered.

        Where a failover may roll back what was confirmed, a lease, an ack and a new version are taken back, too.
        """
        bound = _SLACK if self._connection.streams else POLL_CEILING + _SLACK
        kept = declare.Guarantee.EXACT if self._connection.is_final else declare.Guarantee.BEST_EFFORT
        return declare.Capabilities(
            durability=self._connection.durability,
            exclusive=kept,
            fencing=kept,
            final=kept,
            update=kept,
            ordering=declare.Ordering.FIFO,
            priorities=(-declare.INT32 - 1, declare.INT32),
            idempotent_enqueue=True,
            inspect=True,
            max_body=self._target.options.max_body,
            max_lease=MAX_LEASE,
            delay_precision=bound + _PROMOTION_INTERVAL,
            expiry_bound=bound + _PROMOTION_INTERVAL,
            transit=commands.SETTLING / 1000 + bound + _PROMOTION_INTERVAL,
            wake_bound=bound,
            wait_slack=_SLACK,
        )

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; an id that is still here is recognised and left as it is."""
        check_messages(messages, self.capabilities)
        if not messages:
            return
        token = ObjectId()
        with self._connection.translated():
            collection = self._messages()
            try:
                collection.insert_many([to_document(one, token) for one in messages], ordered=False)
            except BulkWriteError as error:
                _raise_unless_duplicates(error, messages)
        self._has_sent(messages)

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages, waiting at most ``wait`` seconds for the first."""
        milliseconds = lease_milliseconds(lease)
        queues = list(dict.fromkeys(queues))
        if limit <= 0 or not queues:
            self._connection.session()
            return []
        deadline = time.monotonic() + wait
        idle, pause = self._idle, 0.0
        while True:
            watch = self._watch()
            seen = watch.version
            try:
                until_next = self._until_next(queues) if idle else 0.0
                taken = self._claim(queues, limit, milliseconds) if until_next <= 0 else []
            except BrokerUnavailable:
                if self._connection.closed:  # while this call was under way
                    return []
                raise
            left = deadline - time.monotonic()
            if taken or left <= 0:
                return taken
            if idle:
                watch.wait(seen, min(left, max(until_next, LEAST_PAUSE)), pause)
                pause = LEAST_PAUSE
            idle = True
            if self._connection.closed or time.monotonic() >= deadline:
                return []

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages for good; False where the lease had been lost."""
        if self._connection.closed or not deliveries:
            return [False] * len(deliveries)
        leases = [_lease(one) for one in deliveries]
        seconds = self._let_go(leases)
        with self._connection.translated():
            messages = self._messages()
            if self._is_one_step(leases):
                return [messages.delete_one(commands.held_by(leases)).deleted_count == 1]
            with self._fenced(messages, leases, seconds) as (mine, fence):
                lost: set[Lease] = set()
                fenced = [(id_, fence) for id_, _ in mine]
                if mine and messages.delete_many(commands.held_by(fenced)).deleted_count < len(mine):
                    lost = _still_there(messages, mine)  # the second step came too late: others have them
        return _once_each(leases, mine - lost)

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace leased messages by their new versions; False where the lease had been lost.

        A new version keeps its place, unless its queue is another: then it arrives there as the last.
        """
        check_changes(changes, self.capabilities)
        if self._connection.closed or not changes:
            return [False] * len(changes)
        leases = [_lease(one) for one, _ in changes]
        seconds = self._let_go(leases)
        with self._connection.translated():
            answers = self._replace(changes, leases, seconds)
        self._has_sent([message for _, message in changes])
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Hold leases for ``lease`` seconds from now; False where one had been lost."""
        milliseconds = lease_milliseconds(lease)
        if self._connection.closed or not deliveries:
            return [False] * len(deliveries)
        leases = list(dict.fromkeys(map(_lease, deliveries)))
        asked = time.monotonic()
        with self._connection.translated():
            messages, fences = self._messages(), self._fences(leases)
            either = [*leases, *fences.values()]
            extended = messages.update_many(commands.held_by(either), commands.extend(milliseconds)).matched_count
            there = set(leases) if extended == len(leases) else _still_held(messages, either)
        held = {one for one in leases if one in there or fences.get(one) in there}
        self._hold(held, asked + lease)
        return [_lease(one) in held for one in deliveries]

    def close(self) -> None:
        """Give up the leases that this object holds in this process, and free the connections."""
        if self._connection.closed:
            return
        mine = [lease for lease, (process, _) in list(self._held.items()) if process == os.getpid()]
        self._held.clear()
        try:
            if mine:
                with self._connection.translated():
                    self._messages().update_many(commands.held_by(mine), commands.give_up(ObjectId()))
        finally:
            self._connection.close()

    def _until_next(self, queues: Sequence[str]) -> float:
        """Seconds until something of these queues can be had; none or less, it is there now."""
        with self._connection.translated():
            found = list(self._messages().aggregate(commands.earliest(queues)))
        if not found:
            return float("inf")
        left = found[0].get("left")  # there is none where nothing is due, but ready
        if left is None or found[0]["state"] == READY:  # since then, even if the server's clock was set back
            return 0.0
        return float(left) / 1000

    def _claim(self, queues: Sequence[str], limit: int, milliseconds: int) -> list[Delivery]:
        asked = time.monotonic()
        with self._connection.translated():
            messages = self._messages()
            promoted = self._promote(messages, queues, every=_PROMOTION_INTERVAL)
            taken = _first(messages, queues, limit, milliseconds)
            if not taken and promoted is None and self._promote(messages, queues, every=0):
                taken = _first(messages, queues, limit, milliseconds)
        self._idle = not taken
        self._hold(map(_lease, taken), asked + milliseconds / 1000)
        return taken

    def _promote(self, messages: Messages, queues: Sequence[str], *, every: float) -> int | None:
        """Make ready what is overdue; how many were, or None where that was searched within ``every`` seconds."""
        now, searched = time.monotonic(), tuple(queues)
        if now < self._promoted.get(searched, float("-inf")) + every:
            return None
        overdue = commands.overdue(queues)
        found = messages.find(overdue, {"_id": 1}).sort("due", ASCENDING).limit(commands.PORTION)
        ids = [one["_id"] for one in found]
        if ids:
            messages.update_many({"_id": {"$in": ids}, **overdue}, commands.make_ready())
        if len(self._promoted) > _PRUNE_ABOVE:
            self._promoted.clear()
        self._promoted[searched] = now if len(ids) < commands.PORTION else float("-inf")
        return len(ids)

    def _replace(self, changes: Sequence[tuple[Delivery, Message]], leases: list[Lease], seconds: float) -> list[bool]:
        messages, token = self._messages(), ObjectId()
        if self._is_one_step(leases):
            ((delivery, message),) = changes
            new = commands.replace(delivery.message, message, token)
            return [messages.update_one(commands.held_by(leases), new).matched_count == 1]
        with self._fenced(messages, leases, seconds) as (mine, fence):
            lost: set[Lease] = set()
            writes = [
                UpdateOne({"_id": new.id, "token": fence}, commands.replace(old.message, new, token))
                for (old, new), is_first in zip(changes, _once_each(leases, mine), strict=True)
                if is_first
            ]
            if writes and messages.bulk_write(writes, ordered=False).matched_count < len(mine):
                lost = _still_there(messages, mine, {"token": {"$ne": token}})
        return _once_each(leases, mine - lost)

    def _fences(self, leases: Iterable[Lease]) -> dict[Lease, Lease]:
        """By what those may be held now whose settling failed halfway."""
        return {lease: (lease[0], token) for lease in leases if (token := self._unsettled.get(lease)) is not None}

    def _is_one_step(self, leases: Sequence[Lease]) -> bool:
        return len(leases) == 1 and leases[0] not in self._unsettled

    @contextmanager
    def _fenced(
        self, messages: Messages, leases: Sequence[Lease], seconds: float
    ) -> Iterator[tuple[set[Lease], ObjectId]]:
        """Those of ``leases`` that were held until now, and the token by which nobody but the caller holds them.

        They last for ``seconds``, as far as is known here. If settling them fails halfway, who settles them again goes
        on with those that have been fenced.
        """
        wanted = set(leases)
        earlier = set(self._fences(wanted).values())
        tokens = list({token for _, token in earlier})
        token = tokens[0] if len(tokens) == 1 else ObjectId()
        try:
            number = 0
            if not earlier and seconds * 1000 > commands.SETTLING:
                number = messages.bulk_write(commands.fence_at_once(wanted, token), ordered=False).matched_count
                earlier, tokens = {(id_, token) for id_, _ in wanted}, [token]
            if number < len(wanted):
                held = [*wanted, *earlier]
                number = messages.update_many(commands.held_by(held), commands.fence(token, tokens)).matched_count
            yield _which(messages, wanted, token) if number < len(wanted) else wanted, token
        except Exception:
            self._unsettled.update(dict.fromkeys(wanted, token))
            for lease in list(self._unsettled)[:-_PRUNE_ABOVE]:
                self._unsettled.pop(lease, None)
            raise
        for lease in wanted:
            self._unsettled.pop(lease, None)

    def _has_sent(self, messages: Sequence[Message]) -> None:
        """Look for them at once, also for those whose ``eta`` has passed already."""
        if any(one.eta is not None for one in messages):
            self._promoted.clear()
        self._watch().notify()

    def _hold(self, leases: Iterable[Lease], until: float) -> None:
        if len(self._held) > _PRUNE_ABOVE:
            now = time.monotonic()
            for lease, (_, runs_out) in list(self._held.items()):
                if runs_out < now:
                    self._held.pop(lease, None)
        hold = (os.getpid(), until)
        self._held.update((lease, hold) for lease in leases)

    def _let_go(self, leases: Iterable[Lease]) -> float:
        """Forget leases that are settled; returns for how many seconds they last, if all are known."""
        now = time.monotonic()
        return min(self._held.pop(lease, (0, now))[1] for lease in leases) - now

    def _messages(self) -> Messages:
        return self._connection.collection(COLLECTION)

    def _watch(self) -> Watch:
        return self._connection.watch(COLLECTION, _ARRIVALS)


def _lease(delivery: Delivery) -> Lease:
    return delivery.message.id, cast("ObjectId", delivery.token)


def _first(messages: Messages, queues: Sequence[str], limit: int, milliseconds: int) -> list[Delivery]:
    """Lease the first messages that are ready, in two round trips for each queue."""
    taken: list[Delivery] = []
    for queue in queues:
        try:
            found = list(messages.aggregate(commands.first(queue, limit - len(taken))))
            taken += _taken(messages, found, milliseconds) if found else []
        except (PyMongoError, BSONError):
            if not taken:
                raise
            break  # whoever has not heard of what the earlier queues have brought cannot settle it
        if len(taken) >= limit:
            break
    return taken


def _taken(messages: Messages, found: list[dict[str, Any]], milliseconds: int) -> list[Delivery]:
    """Lease those of ``found`` that nobody else has taken since they were read."""
    token, until = ObjectId(), found[0]["now"] + timedelta(milliseconds=milliseconds)
    number = messages.bulk_write(commands.take(found, token, until), ordered=False).matched_count
    if number < len(found):
        ids = _still_held(messages, [(one["_id"], token) for one in found]) if number else set()
        found = [one for one in found if (one["_id"], token) in ids]
    return [to_delivery(one, token, until) for one in found]


def _still_held(messages: Messages, leases: Sequence[Lease]) -> set[Lease]:
    found = messages.find(commands.held_by(leases), {"token": 1})
    return {(one["_id"], one["token"]) for one in found}


def _which(messages: Messages, leases: set[Lease], token: ObjectId) -> set[Lease]:
    """Those that have been fenced by a token."""
    found = messages.find(commands.held_by((id_, token) for id_, _ in leases), {"fenced": 1})
    return leases & {(one["_id"], one["fenced"]) for one in found}


def _still_there(messages: Messages, leases: set[Lease], condition: dict[str, Any] | None = None) -> set[Lease]:
    """Those whose message is there, and meets a condition."""
    found = messages.find({"_id": {"$in": [id_ for id_, _ in leases]}, **(condition or {})}, {"_id": 1})
    ids = {one["_id"] for one in found}
    return {lease for lease in leases if lease[0] in ids}


def _once_each(leases: Sequence[Lease], settled: set[Lease]) -> list[bool]:
    """An answer for each of a batch: true once for each that was settled, however often it is in the batch."""
    left = set(settled)
    answers = []
    for lease in leases:
        answers.append(lease in left)
        left.discard(lease)
    return answers


def _raise_unless_duplicates(error: BulkWriteError, messages: Sequence[Message]) -> None:
    """Ids that are there already are recognised; of other failures say what is stored all the same."""
    details = error.details
    failures = [one for one in details.get("writeErrors", []) if one.get("code") != DUPLICATE_KEY]
    if failures or details.get("writeConcernErrors"):
        refused = {messages[one["index"]].id for one in failures}
        stored = () if details.get("writeConcernErrors") else [one.id for one in messages if one.id not in refused]
        reason = (failures or details["writeConcernErrors"])[0].get("errmsg")
        raise BrokerUnavailable(f"{len(failures)} messages could not be stored: {reason}", stored=stored) from error


_: type[Broker] = MongoBroker
__: type[Inspect] = MongoBroker
