"""Messages of the contract as messages of AMQP.

The id is the property ``message_id``, the body is the body. An ``eta`` is kept in the header ``eta``, as text, for it
to come back as it was; an id of more than 255 bytes in the header ``id``. The queue and the priority are those of the
queue of RabbitMQ in which the message lies.
"""

from __future__ import annotations

import secrets
import struct
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pika import frame, spec

from anybroker.broker import Message
from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

AGAIN = "again"
"""The header of a message that RabbitMQ cannot keep waiting for long enough at once."""
_LONGEST_ID = 255
_PERSISTENT = 2
_PLAIN = spec.BasicProperties.FLAG_DELIVERY_MODE | spec.BasicProperties.FLAG_MESSAGE_ID
_HEADER = struct.Struct(">BHLHHQHBB")
_FRAME = struct.Struct(">BHL")
_END = bytes([spec.FRAME_END])


def encode(
    message: Message, *, exchange: str, routing_key: str, channel: int, body_max: int, again: bool = False
) -> bytes:
    """The frames that publish a message. Raises ``ConfigurationError`` for an id that is not valid Unicode."""
    try:
        id_ = message.id.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"ids are valid Unicode, and {message.id!r} is not") from None
    method = _publish(channel, exchange, routing_key)
    body = message.body
    if message.eta is None and len(id_) <= _LONGEST_ID:
        # as frame.Header(...).marshal() would write it, at a tenth of the cost
        size = 14 + 2 + len(id_)
        header = _HEADER.pack(2, channel, size, 60, 0, len(body), _PLAIN, _PERSISTENT, len(id_)) + id_ + _END
    else:
        header = frame.Header(channel, len(body), _properties(message, id_, again=again)).marshal()
    if not body:
        return method + header
    if len(body) <= body_max:
        return b"".join((method, header, _FRAME.pack(3, channel, len(body)), body, _END))
    parts = [method, header]
    for start in range(0, len(body), body_max):
        part = body[start : start + body_max]
        parts += (_FRAME.pack(3, channel, len(part)), part, _END)
    return b"".join(parts)


def decode(properties: Any, body: bytes, queue: str, priority: int) -> Message:
    """The message that was delivered from a queue. One that has no id gets one."""
    headers: Mapping[str, Any] = properties.headers or {}
    id_ = headers.get("id", properties.message_id)
    if not isinstance(id_, str):
        id_ = secrets.token_hex(16)
    return Message(id_, queue, body, _moment(headers.get("eta")), priority)


def delivery_count(properties: Any) -> int:
    """How often a message of a quorum queue was delivered, with this time. Others may have written anything there."""
    before = (properties.headers or {}).get("x-delivery-count")
    return before + 1 if isinstance(before, int) else 1


def _moment(text: Any) -> datetime | None:
    """What a header says. Others may have written anything there: what is no aware moment is ignored."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return None if moment.utcoffset() is None else moment


@lru_cache(maxsize=256)
def _publish(channel: int, exchange: str, routing_key: str) -> bytes:
    method = spec.Basic.Publish(0, exchange, routing_key, mandatory=True)
    marshaled: bytes = frame.Method(channel, method).marshal()
    return marshaled


def _properties(message: Message, id_: bytes, *, again: bool) -> spec.BasicProperties:
    headers: dict[str, Any] = {} if message.eta is None else {"eta": message.eta.isoformat()}
    if again:
        headers[AGAIN] = True
    if len(id_) > _LONGEST_ID:
        return spec.BasicProperties(headers={**headers, "id": message.id}, delivery_mode=_PERSISTENT)
    return spec.BasicProperties(headers=headers, delivery_mode=_PERSISTENT, message_id=message.id)
