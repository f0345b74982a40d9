"""What a message looks like in SQS: text as it is, everything else in base64, and one attribute with what is beside it.

A message without the attribute, sent by another program, is one all the same: its id is that of SQS.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from anybroker.broker import Message
from anybroker.errors import MessageTooLarge
from anybroker_broker_sqs.names import utf8
from anybroker_broker_sqs.options import MAX_DELAY

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTRIBUTE = "anybroker"
RESERVE = 4096
"""Bytes of a message that are left to the attribute."""
_OVERHEAD = len(ATTRIBUTE) + len("String")
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SQS does not take (SendMessage), and a carriage return, which XML would change."""
_GROUP = re.compile(r"[!-}][!-~]{0,127}")
"""What a MessageGroupId may be, but for those of our own, which begin with ~."""
_EMPTY = "="
"""Stands for an empty body in base64: SQS takes no empty message."""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attribute ``anybroker``, as JSON."""

    id: str | None = None
    """None: the id that SQS gave."""
    eta: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    key: str | None = None
    """The ordering key."""
    encoding: Literal["base64"] | None = None
    """Of the body; None: the text in UTF-8."""
    deliveries: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How often it was delivered before a consumer that received it unseen sent it anew."""


class Sendable(msgspec.Struct, frozen=True):
    """A message as an entry of SendMessageBatch."""

    message: Message
    entry: dict[str, Any]
    """Without its ``Id``."""
    size: int
    """Bytes, as SQS counts them."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Meta).decode


def largest_body(message_size: int) -> int:
    """Bytes of the largest body that fits whatever it contains."""
    return (message_size - RESERVE) * 3 // 4


def pack(
    message: Message, *, now: datetime, fifo: bool, limit: int, replaces: str | None = None, deliveries: int = 0
) -> Sendable:
    """Turn a message into an entry. Raises ``MessageTooLarge``, and ``ConfigurationError`` for invalid Unicode.

    ``replaces``: the id in SQS of the version before it; ``deliveries``: of this version, in earlier entries.
    """
    for name in (message.id, message.queue, message.ordering_key or ""):
        utf8(name)
    text, encoding = _text(message.body)
    eta = _utc(message.eta) if message.eta is not None else None
    meta = _FORBIDDEN.sub(
        lambda char: f"\\u{ord(char[0]):04x}",
        _encode(Meta(message.id, eta, message.ordering_key, encoding, deliveries)).decode(),
    )
    size = (len(text) if encoding else len(message.body)) + len(meta.encode()) + _OVERHEAD
    if size > limit:
        raise MessageTooLarge(
            f"message {message.id!r:.100}: {size:,} bytes in SQS, and a message there has at most {limit:,}"
        )
    entry: dict[str, Any] = {
        "MessageBody": text,
        "MessageAttributes": {ATTRIBUTE: {"DataType": "String", "StringValue": meta}},
    }
    if fifo:
        entry["MessageGroupId"] = group(message.ordering_key)
        entry["MessageDeduplicationId"] = _deduplication_id(replaces, meta, text)
    elif eta is not None and (delay := (eta - now).total_seconds()) > 0:
        entry["DelaySeconds"] = min(MAX_DELAY, whole(delay))
    return Sendable(message, entry, size)


def unpack(raw: Mapping[str, Any], queue: str, *, fifo: bool) -> tuple[Message, int]:
    """Turn what was received into a message, and how often it was delivered in earlier entries.

    An attribute that is not ours, or not right, is ignored; so is a key in a standard queue, which keeps no order and
    would take no new version with one.
    """
    text = raw["Body"]
    value = raw.get("MessageAttributes", {}).get(ATTRIBUTE, {}).get("StringValue")
    meta = _NONE
    if value is not None:
        with suppress(msgspec.DecodeError):
            meta = _decode(value)
    body = text.encode("utf-8", "surrogatepass")
    if meta.encoding is not None:
        with suppress(ValueError):  # else it is the text that somebody else has sent
            body = b"" if text == _EMPTY else base64.b64decode(text, validate=True)
    key = None
    if fifo:
        key = meta.key if value is not None else raw.get("Attributes", {}).get("MessageGroupId")
    return Message(meta.id or raw["MessageId"], queue, body, meta.eta, 0, key), meta.deliveries


def group(key: str | None) -> str:
    """The MessageGroupId of an ordering key; without one, the message is a group of its own."""
    if key is None:
        return f"~{secrets.token_hex(16)}"
    return key if _GROUP.fullmatch(key) else f"~{hashlib.sha256(key.encode()).hexdigest()}"


def whole(seconds: float) -> int:
    """Seconds as SQS counts them: a part of one is a whole one."""
    return -int(-seconds // 1)


def _utc(moment: datetime) -> datetime:
    """The same moment in UTC, unless that would be before the first year or after the last."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment


def _deduplication_id(replaces: str | None, meta: str, text: str) -> str:
    """What a FIFO queue takes once in five minutes: this enqueue, or this new version of that message.

    The id of a message alone would not do: it is free again after its ack, and the queue would lose the next one.
    """
    if replaces is None:
        return secrets.token_hex(16)
    return hashlib.sha256(f"{replaces}\0{meta}\0{text}".encode()).hexdigest()


def _text(body: bytes) -> tuple[str, Literal["base64"] | None]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if text and not _FORBIDDEN.search(text):
        return text, None
    return base64.b64encode(body).decode() or _EMPTY, "base64"


_NONE = Meta()
