"""The filters and updates of each verb: what the server is asked to do, and to what.

Every settle and extend names the document and the token of its lease, so that a lost one changes nothing (law 5).
Moments are the server's (``$$NOW``, ``$currentDate``), never those of the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo import UpdateMany

from anybroker_broker_mongodb.documents import DELAYED, LEASED, READY, STATES, version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from bson import ObjectId

    from anybroker.broker import Message

    Lease = tuple[str, ObjectId]
    """The id of a message, and the token by which it is held, which it may share with others."""

Json = dict[str, Any]

SETTLING = 15_000
"""Milliseconds for which a message that is being settled stays leased at least: time for the second of two steps.

More than a command takes that ends by a time-out, after which the server may still carry it out."""

PORTION = 1000
"""Messages that are made ready by one command; of a huge backlog no command does everything."""

_PASSED = {"$lte": ["$due", "$$NOW"]}


def earliest(queues: Sequence[str]) -> list[Json]:
    """The message of these queues that is due first, ready ones before all, as the milliseconds that are ``left``.

    One seek in the index ``due`` for each queue and state.
    """
    return [
        {"$match": {"queue": _one_of(queues), "state": {"$in": STATES}}},
        {"$sort": {"due": 1}},
        {"$limit": 1},
        {"$project": {"state": 1, "left": {"$subtract": ["$due", "$$NOW"]}}},
    ]


def overdue(queues: Sequence[str]) -> Json:
    """The messages whose lease has run out or whose eta has come; read from the index ``due``."""
    return {"queue": _one_of(queues), "state": {"$in": [LEASED, DELAYED]}, "$expr": _PASSED}


def make_ready() -> Json:
    """Makes a message deliverable. Its token stays: a lease that ran out counts until another one begins."""
    return {"$set": {"state": READY}}


def first(queue: str, limit: int) -> list[Json]:
    """The first ready messages of a queue, read from the index ``line``, and what time it is."""
    return [
        {"$match": {"queue": queue, "state": READY}},
        {"$sort": {"priority": -1, "seq": 1}},
        {"$limit": limit},
        {"$addFields": {"now": "$$NOW"}},
    ]


def take(documents: Sequence[Json], token: ObjectId, until: datetime) -> list[UpdateMany]:
    """Begins a lease of those of ``documents`` that are as they were read: of the same version, and leased by nobody.

    One update for each token that was read: one filter with all of them would be compared with each document. And no
    pipeline, which would have the server compute each document anew.
    """
    begin = {"$set": {"state": LEASED, "token": token, "due": until}, "$inc": {"deliveries": 1}}
    read = by_token((one["_id"], one["token"]) for one in documents)
    return [UpdateMany({**held, "state": READY}, begin) for held in read]


def held_by(leases: Iterable[Lease]) -> Json:
    """The messages that are held by these leases."""
    leases = list(leases)
    held = by_token(leases)
    return held[0] if len(held) == 1 else {"_id": {"$in": [id_ for id_, _ in leases]}, "$or": held}


def by_token(leases: Iterable[Lease]) -> list[Json]:
    """The messages that are held by each token of these leases."""
    ids: dict[ObjectId, list[str]] = {}
    for id_, token in leases:
        ids.setdefault(token, []).append(id_)
    return [{"_id": _one_of(some), "token": token} for token, some in ids.items()]


def fence(token: ObjectId, earlier: Sequence[ObjectId] = ()) -> list[Json]:
    """Takes a lease from its holder and gives it to the one who settles: the first of two steps to settle a batch.

    One command tells how many of a batch it has changed, but not which. Whoever has fenced a message can look at
    leisure which ones these are, by the token that was fenced, and nobody else can settle it or get it meanwhile.
    What the ``earlier`` tokens hold was fenced before, and keeps the token that was fenced then.
    """
    due = {"$max": ["$due", {"$add": ["$$NOW", SETTLING]}]}
    fenced = {"$cond": [{"$in": ["$token", list(earlier)]}, "$fenced", "$token"]} if earlier else "$token"
    return [{"$set": {"fenced": fenced}}, {"$set": {"state": LEASED, "token": token, "due": due}}]


def fence_at_once(leases: Iterable[Lease], token: ObjectId) -> list[UpdateMany]:
    """The same where there is time enough until the leases end: only those that are so are fenced.

    Nothing is computed then, and no index changes.
    """
    enough = {"$expr": {"$gt": ["$due", {"$add": ["$$NOW", SETTLING]}]}}
    return [
        UpdateMany({**held, **enough}, {"$set": {"token": token, "fenced": held["token"]}}) for held in by_token(leases)
    ]


def extend(milliseconds: int) -> list[Json]:
    """Holds a lease that much longer from now."""
    return [{"$set": {"state": LEASED, "due": {"$add": ["$$NOW", milliseconds]}}}]


def replace(old: Message, new: Message, token: ObjectId) -> Json:
    """Makes a message its new version and ends the lease. In another queue it arrives as the last."""
    changed: Json = {"$set": version(new, token), "$unset": {"fenced": ""}}
    current: Json = {}
    if new.eta is None:
        del changed["$set"]["due"]
        current["due"] = {"$type": "date"}
        changed["$unset"]["eta"] = ""
    if new.queue != old.queue:
        current["seq"] = {"$type": "timestamp"}
    if current:
        changed["$currentDate"] = current
    return changed


def give_up(token: ObjectId) -> Json:
    """Ends a lease; others get the message at once."""
    return {"$set": {"state": READY, "token": token}, "$currentDate": {"due": {"$type": "date"}}}


def not_leased(queue: str) -> Json:
    """The messages of a queue that nobody holds."""
    return {"queue": queue, "$or": [{"state": {"$ne": LEASED}}, {"$expr": _PASSED}]}


def count(queue: str) -> list[Json]:
    """How many messages of a queue are in which state now, with and without ``due``, and the first of each."""
    is_ready = {"$or": [{"$eq": ["$state", READY]}, _PASSED]}
    return [
        {"$match": {"queue": queue, "state": {"$in": STATES}}},
        {
            "$group": {
                "_id": {"state": {"$cond": [is_ready, READY, "$state"]}, "dated": {"$gt": ["$due", None]}},
                "number": {"$sum": 1},
                "due": {"$min": "$due"},
                "seq": {"$min": "$seq"},
                "now": {"$max": "$$NOW"},
            }
        },
    ]


def _one_of(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else {"$in": list(values)}
