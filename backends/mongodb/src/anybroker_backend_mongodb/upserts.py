"""Upserts by pipeline, which some servers that are compatible with MongoDB refuse: there, each is made of two steps.

The first inserts what nobody finds as a document without an end, which no read takes for there; the second changes it
by the same filter and pipeline. Who dies in between leaves what nobody reads, until it is written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from anybroker_backend_mongodb.documents import place
from anybroker_broker_mongodb.translation import DUPLICATE_KEY, NOT_IMPLEMENTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.collection import Collection

    from anybroker_backend_mongodb.documents import Json

    Documents = Collection[dict[str, Any]]

_REFUSALS = {DUPLICATE_KEY, NOT_IMPLEMENTED}


def upsert(documents: Documents, which: Json, change: list[Json]) -> bool:
    """Change the document that ``which`` finds, or make it; whether it was made. Raises ``DuplicateKeyError``."""
    try:
        return documents.update_one(which, change, upsert=True).upserted_id is not None
    except OperationFailure as error:
        if error.code != NOT_IMPLEMENTED:
            raise
    while True:
        is_made = documents.update_one(which, place(), upsert=True).upserted_id is not None
        if documents.update_one(which, change).matched_count:  # else who claims the same lock has removed it
            return is_made


def upsert_all(documents: Documents, writes: Sequence[tuple[Json, list[Json], int]]) -> set[int]:
    """The same for results, with the attempt of each; returns the places of those that were refused."""
    updates = [UpdateOne(which, change, upsert=True) for which, change, _ in writes]
    failed = _failures(documents, updates)
    lacking = [index for index, code in failed.items() if code == NOT_IMPLEMENTED]
    if not lacking:
        return set(failed)
    _failures(documents, [UpdateOne(writes[index][0], place(writes[index][2] - 1), upsert=True) for index in lacking])
    again = _failures(documents, [updates[index] for index in lacking])
    return failed.keys() - lacking | {lacking[index] for index in again}


def _failures(documents: Documents, updates: Sequence[UpdateOne]) -> dict[int, int]:
    """Carry out updates; the places of those that failed, with the codes of their errors."""
    try:
        documents.bulk_write(updates, ordered=False)
    except BulkWriteError as error:
        failed = {one["index"]: one["code"] for one in error.details["writeErrors"]}
        if error.details.get("writeConcernErrors") or set(failed.values()) - _REFUSALS:
            raise
        return failed
    return {}
