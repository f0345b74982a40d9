"""Results, groups and locks as documents, their indexes, and what each verb asks the server to do.

===========  ==================================================================================================
``results``  ``_id``, ``state``, ``final``, ``attempt``, ``body``, ``expires``
``groups``   ``_id``, ``joins`` (how many there were, with those that were repeated), ``sealed``, ``expires``
``members``  ``_id`` (length of the group's id, both ids), ``group``, ``expires``: those that have finished
``locks``    ``_id`` (the key), ``token``, ``expires``
===========  ==================================================================================================

``expires`` is a date by the clock of the server. A TTL index removes what has expired, within a minute or so; until
then every read leaves it out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bson import Binary
from pymongo import ASCENDING, IndexModel

from anybroker.backend import Result, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

RESULTS = "results"
GROUPS = "groups"
MEMBERS = "members"
LOCKS = "locks"

_EXPIRES = IndexModel([("expires", ASCENDING)], name="expires", expireAfterSeconds=0)
INDEXES = {
    RESULTS: [_EXPIRES],
    GROUPS: [_EXPIRES],
    MEMBERS: [_EXPIRES, IndexModel([("group", ASCENDING)], name="group")],
    LOCKS: [_EXPIRES],
}

FIELDS = {
    RESULTS: {"_id", "state", "final", "attempt", "body", "expires"},
    GROUPS: {"_id", "joins", "sealed", "expires"},
    MEMBERS: {"_id", "group", "expires"},
    LOCKS: {"_id", "token", "expires"},
}
"""All that documents have. One with others instead of some of these is not ours; one with more is a later version's."""

FINISHED: list[Json] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}, "fullDocument.final": True},
                {"operationType": "update", "updateDescription.updatedFields.body": {"$exists": True}},
                {"operationType": "update", "updateDescription.updatedFields.final": True},
            ]
        }
    },
    {"$project": {"_id": 1, "operationType": 1}},
]
"""The changes that those who wait for results want to hear of."""

_FOR_EVER = 100 * 365 * 86400.0
"""Seconds: a longer ttl, or none, is as good as this."""
_HAS_EXPIRED = {"$lte": ["$expires", "$$NOW"]}
_IS_THERE = {"$gt": ["$expires", "$$NOW"]}


def storable(result: Result) -> Json:
    """What a result may be stored over: what an earlier attempt or state has left.

    Where there is something else, an upsert by this filter wants to insert a second document with this id, and fails;
    what has expired is removed before. One filter for both cannot be: MongoDB takes no ``$expr`` in that of an upsert.
    """
    earlier = {"attempt": {"$lt": result.attempt}}
    same = {"attempt": result.attempt, "final": False}
    return {"_id": result.id, "$or": [earlier, same]}


def expired(ids: Sequence[str]) -> Json:
    """Those of some documents that have expired."""
    return {"_id": {"$in": list(ids)}, "$expr": _HAS_EXPIRED}


def stored(result: Result, ttl: float | None) -> list[Json]:
    """Makes a document hold a result."""
    fields: Json = {
        "state": result.state.value,
        "final": result.state.final,
        "attempt": result.attempt,
        "body": Binary(result.body),
    }
    return [{"$set": {**fields, "expires": _in(_FOR_EVER if ttl is None else ttl)}}]


def place(attempt: int | None = None) -> Json:
    """Inserts what nobody finds, for the change that follows: no read takes it for there, and no TTL index for expired.

    Of a result with an ``attempt`` so early that it may be stored over.
    """
    fields: Json = {} if attempt is None else {"attempt": attempt, "final": False}
    return {"$setOnInsert": {**fields, "expires": None}}


def there(ids: Sequence[str], *, final: bool = False) -> Json:
    """The results that have not expired; only those that are final, if so wanted."""
    known: Json = {"_id": {"$in": list(ids)}, "$expr": _IS_THERE}
    return {**known, "final": True} if final else known


def to_result(document: Mapping[str, Any]) -> Result:
    """A result from its document."""
    return Result(document["_id"], State(document["state"]), int(document["attempt"]), bytes(document["body"]))


def member(group_id: str, ttl: float) -> list[Json]:
    """Makes a document the record of a member that has finished."""
    return [{"$set": {"group": {"$literal": group_id}, "expires": _in(ttl)}}]


def joined(ttl: float) -> list[Json]:
    """Makes a group know of one more ``join``."""
    joins = {"$add": [{"$ifNull": ["$joins", 0]}, 1]}
    return [{"$set": {"joins": joins, "sealed": {"$ifNull": ["$sealed", False]}, "expires": _in(ttl)}}]


def sealed(ttl: float) -> list[Json]:
    """Makes a group know that its callback has been enqueued."""
    return [{"$set": {"sealed": True, "expires": _in(ttl)}}]


def free(key: str, token: str) -> Json:
    """No lock, since the token is new: an upsert by this filter fails while there is one of this name."""
    return {"_id": key, "token": token}


def locked(key: str) -> Json:
    """The lock of this name, while anybody holds it."""
    return {"_id": key, "$expr": _IS_THERE}


def held(key: str, token: str) -> Json:
    """The lock of this name, while ``token`` holds it."""
    return {"_id": key, "token": token, "$expr": _IS_THERE}


def taken(token: str, ttl: float) -> list[Json]:
    """Makes a lock held by ``token``."""
    return [{"$set": {"token": token, "expires": _in(ttl)}}]


def _in(seconds: float) -> Json:
    return {"$add": ["$$NOW", math.ceil(min(seconds, _FOR_EVER) * 1000)]}
