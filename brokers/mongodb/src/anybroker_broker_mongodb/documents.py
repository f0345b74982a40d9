"""Messages as documents: one collection for all queues, a document for each message, and the indexes over them.

==============  ========================================================================================
``_id``         the id of the message, which makes an enqueue that is repeated harmless
``queue``       its queue
``body``        binary
``priority``    a number
``seq``         a timestamp that the server sets, later than every one before: the place in the line
``eta``         text, as ISO 8601, to the microsecond and with its offset; absent without one
``state``       ``ready``, ``leased`` or ``delayed``
``due``         a date: leased or delayed until, ready since; null when it was ready from the beginning
``token``       of the newest lease; drawn anew whenever a lease begins or ends
``fenced``      the token that a batch is being settled by; there from the first of its two steps to the second
``deliveries``  of this version
==============  ========================================================================================

A message that was leased or delayed until a moment that has passed is as good as ready; ``acquire`` makes it so.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bson import Binary, ObjectId, Timestamp
from pymongo import ASCENDING, DESCENDING, IndexModel

from anybroker.broker import Delivery, Message
from anybroker.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

Document = dict[str, Any]

READY = "ready"
LEASED = "leased"
DELAYED = "delayed"
STATES = [READY, LEASED, DELAYED]

MAX_LEASE = 365 * 86400.0
"""Seconds."""

INDEXES = [
    IndexModel([("queue", ASCENDING), ("state", ASCENDING), ("priority", DESCENDING), ("seq", ASCENDING)], name="line"),
    IndexModel([("queue", ASCENDING), ("state", ASCENDING), ("due", ASCENDING), ("seq", ASCENDING)], name="due"),
]
"""``line``: the first of the ready ones, in order. ``due``: those that are to become ready, and when; with ``seq`` it
has all that is counted, so that nobody reads millions of documents for their number."""

_FIRST = Timestamp(0, 0)
"""An empty timestamp in an insert is replaced by the server's, unique and increasing (MongoDB, BSON types)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_document(message: Message, token: ObjectId) -> Document:
    """A new message as it is inserted."""
    return {"_id": message.id, **version(message, token), "seq": _FIRST}


def version(message: Message, token: ObjectId) -> Document:
    """What a new version of a message sets, whether it is inserted or replaces another one.

    One with an ``eta`` is delayed, also if that has passed: what time it is, the server knows alone.
    """
    fields: Document = {
        "queue": message.queue,
        "priority": message.priority,
        "state": READY if message.eta is None else DELAYED,
        "due": None if message.eta is None else _due(message.eta),
        "token": token,
        "deliveries": 0,
        "body": Binary(message.body),
    }
    if message.eta is not None:
        fields["eta"] = message.eta.isoformat()
    return fields


def to_message(document: Mapping[str, Any]) -> Message:
    """A message from its document."""
    eta = document.get("eta")
    return Message(
        document["_id"],
        document["queue"],
        bytes(document["body"]),
        None if eta is None else datetime.fromisoformat(eta),
        int(document["priority"]),
    )


def to_delivery(document: Mapping[str, Any], token: ObjectId, until: datetime) -> Delivery:
    """What is delivered: the document as it was found, just before it was leased with this token."""
    return Delivery(to_message(document), token, document["deliveries"] + 1, until)


def lease_milliseconds(lease: float) -> int:
    """A lease given in seconds. Raises ``Unsupported`` when it is negative or longer than ``MAX_LEASE``."""
    if not 0 <= lease <= MAX_LEASE:
        raise Unsupported(f"a lease of {lease} seconds; this broker takes 0 to {MAX_LEASE:.0f}")
    return math.ceil(lease * 1000)


def _due(eta: datetime) -> datetime:
    """The millisecond, which is as fine as a date of MongoDB, in which a message is due; never early (law 8)."""
    return _EPOCH - ((_EPOCH - eta) // _MILLISECOND) * _MILLISECOND
