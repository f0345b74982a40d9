"""How a message lies in Redis: ``meta``, a line break, the body."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from anybroker.broker import Message
from anybroker_broker_redis.errors import not_unicode

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
PLACE = 36
"""Bytes before the payload of what is stored: place and since when, which the scripts write."""
MEMBER = 22
"""Bytes before the id of a member: its place."""
PLAIN = ord("\n")
"""The first byte of a payload that says nothing beside its body."""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says beside its body; as JSON, or nothing at all if there is nothing to say."""

    priority: int = 0
    eta: int | None = None
    """Microseconds since 1970."""
    key: str | None = None
    """The ordering key."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Meta).decode


def payload(message: Message) -> bytes:
    """What the scripts take of a message, beside its id and queue."""
    if message.priority == 0 and message.eta is None and message.ordering_key is None:
        return b"\n" + message.body
    eta = None if message.eta is None else (message.eta - EPOCH) // MICROSECOND
    try:
        return _encode(Meta(message.priority, eta, message.ordering_key)) + b"\n" + message.body
    except UnicodeEncodeError as error:
        raise not_unicode(error) from error


def message(id: str, queue: str, stored: bytes) -> Message:
    """The message of what is stored.

    Where another program has written what cannot be read, all of it is the body: a message that could not be delivered
    would keep back those that are leased with it, again and again.
    """
    try:
        if stored[PLACE] == PLAIN:
            return Message(id, queue, stored[PLACE + 1 :])
        end = stored.index(b"\n", PLACE)
        meta = _decode(stored[PLACE:end])
        eta = None if meta.eta is None else EPOCH + meta.eta * MICROSECOND
    except (ValueError, OverflowError, IndexError):
        return Message(id, queue, stored[PLACE:] or stored)
    return Message(id, queue, stored[end + 1 :], eta, meta.priority, meta.key)
