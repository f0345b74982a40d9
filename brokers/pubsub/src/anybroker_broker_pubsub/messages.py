"""What a message looks like in Pub/Sub: its body is the data, and three attributes tell what is beside it.

``id``, ``eta`` (ISO 8601) and, while it is not due, ``queue``. A message without them, sent by another program, is one
all the same: its id is that of Pub/Sub, and it is due. ``deliveries`` is there when a consumer pulled a message, had no
use for it and published it anew: how often it had been delivered before.

The ordering key is Pub/Sub's own, where no key is an empty one. So the empty key is written ``~``, and any key that
begins with a ``~`` has one more.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anybroker.broker import Message
from anybroker.errors import ConfigurationError
from anybroker_broker_pubsub.connection import PubsubMessage
from anybroker_broker_pubsub.options import MAX_ACK_DEADLINE, MAX_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

ID, ETA, QUEUE, DELIVERIES = "id", "eta", "queue", "deliveries"
_ESCAPE = "~"
_RESERVED = ("goog", "CloudPubSub")
"""Begins attributes that are Google's to set; nobody else may publish the first."""


def pack(message: Message, *, queue: str | None = None) -> Any:
    """Turn a message into one of Pub/Sub. ``queue``: where it is to go when it is due."""
    attributes = {ID: _text(message.id)}
    if message.eta is not None:
        attributes[ETA] = message.eta.isoformat()
    if queue is not None:
        attributes[QUEUE] = _text(queue)
    key = message.ordering_key
    if key is not None:
        key = _text(_ESCAPE + key if not key or key.startswith(_ESCAPE) else key)
    return PubsubMessage(data=message.body, attributes=attributes, ordering_key=key)


def unpack(received: Any, queue: str, *, ordered: bool) -> Message:
    """Turn what was received into a message. ``ordered``: its ordering key counts."""
    attributes = received.attributes
    key = received.ordering_key.removeprefix(_ESCAPE) if ordered and received.ordering_key else None
    id_ = attributes.get(ID, received.message_id)
    return Message(id_, queue, received.data, eta_of(attributes), ordering_key=key)


def eta_of(attributes: Mapping[str, str]) -> datetime | None:
    """When a message is due; None, at once, also where another program has written what is no date."""
    text = attributes.get(ETA)
    if not text:
        return None
    try:
        eta = datetime.fromisoformat(text)
    except ValueError:
        return None
    return eta if eta.tzinfo is not None else eta.replace(tzinfo=UTC)


def delivery_count(received: Any) -> int | None:
    """How often it was delivered, of a ``ReceivedMessage``; None where Pub/Sub does not count."""
    before = received.message.attributes.get(DELIVERIES, "")
    counted: int = received.delivery_attempt
    return counted + (int(before) if before.isdecimal() and before.isascii() else 0) if counted else None


def ordered_count(received: Any) -> int | None:
    """:func:`delivery_count` of a message with an ordering key, which waits for its eta in its queue.

    Without the deliveries by which it may have waited there: whoever pulls it early holds it for ``MAX_ACK_DEADLINE``
    at least, or until it is due. Where there were fewer, this is too low, by as many.
    """
    count, eta = delivery_count(received), eta_of(received.message.attributes)
    if count is None or eta is None:
        return count
    waited: float = (eta - received.message.publish_time.ToDatetime(tzinfo=UTC)).total_seconds()
    return max(1, count - max(0, math.ceil(waited / MAX_ACK_DEADLINE)))


def unseen(received: Any) -> Any:
    """The same message, to be published anew as if it had not been delivered this time; of a ``ReceivedMessage``."""
    again = forwarded(received.message)
    count = delivery_count(received)
    if count is not None and count > 1:
        again.attributes[DELIVERIES] = str(count - 1)
    return again


def forwarded(received: Any, *, queue: str | None = None, ordering_key: str = "") -> Any:
    """The same message, to be published elsewhere. ``queue``: where it is to go when it is due."""
    kept = {name: value for name, value in received.attributes.items() if not name.startswith(_RESERVED)}
    kept.setdefault(ID, received.message_id)
    kept.pop(QUEUE, None)
    if queue is not None:
        kept[QUEUE] = queue
    return PubsubMessage(data=received.data, attributes=kept, ordering_key=ordering_key)


def _text(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"{value!a:.80} cannot be written in UTF-8, which Pub/Sub needs") from None
    if size > MAX_ATTRIBUTE:
        raise ConfigurationError(f"{value!r:.80}… has {size:,} bytes in UTF-8, and Pub/Sub takes {MAX_ATTRIBUTE:,}")
    return value
