r"""Tasks to bodies and back: JSON or MessagePack, signed or not.

A body starts with one of three things, so that every reader knows what it has without being told:

- ``{``: a task in JSON; a MessagePack map: a task in MessagePack;
- ``ab1.hs256.<key id>.<hex>\n``: the HMAC-SHA256 of what follows the line break, a task in either format;
- ``ab1.dead <JSON>\n``: a :class:`~anybroker.task.DeadLetter`; what follows the line break is the dead body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from anybroker.errors import ConfigurationError, DecodeError, SignatureError
from anybroker.task import WIRE_VERSION, DeadLetter, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

Format = Literal["json", "msgpack"]

_SIGNED = b"ab1.hs256."
_DEAD = b"ab1.dead "
_JSON_MAP = ord("{")
_KEY_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_MIN_SECRET = 16

_json_encoder = msgspec.json.Encoder()
_json_decoder = msgspec.json.Decoder(Task)
_msgpack_encoder = msgspec.msgpack.Encoder()
_msgpack_decoder = msgspec.msgpack.Decoder(Task)
_letter_decoder = msgspec.json.Decoder(DeadLetter)
_FIELDS = {field.encode_name for field in msgspec.structs.fields(Task)}


class FutureVersion(DecodeError):
    """A task of a version of the wire format that this program does not know yet."""


class Codec:
    """Encodes in one format and decodes both; signs with the first key and verifies with any."""

    def __init__(self, format: Format = "json", signing_keys: Mapping[str, str] | None = None) -> None:
        """``signing_keys`` maps key ids to secrets; without it nothing is signed and signatures are refused.

        Raises ``ConfigurationError`` for a key id that cannot be written in a header and for a short secret.
        """
        self.format: Format = format
        keys = dict(signing_keys or {})
        for key_id, secret in keys.items():
            if not key_id or not set(key_id) <= _KEY_ID:
                message = f"signing key id {key_id!r}: use letters, digits, '_' and '-'"
                raise ConfigurationError(message)
            if len(secret) < _MIN_SECRET:
                message = f"the secret of signing key {key_id!r} is shorter than {_MIN_SECRET} characters"
                raise ConfigurationError(message)
        self._keys = {key_id: secret.encode() for key_id, secret in keys.items()}
        self._signer = next(iter(self._keys), None)
        self._encoder = _json_encoder if format == "json" else _msgpack_encoder

    def __repr__(self) -> str:
        """Never shows a secret."""
        return f"Codec({self.format!r}, signing_keys={list(self._keys)})"

    @property
    def overhead(self) -> int:
        """Bytes that a signature adds to a body."""
        return len(self._sign(b"")) if self._signer else 0

    def encode(self, task: Task) -> bytes:
        """The body for a task."""
        payload = self._encoder.encode(task)
        return self._sign(payload) if self._signer else payload

    def decode(self, body: bytes) -> Task:
        """The task in a body of either format.

        Raises ``SignatureError`` when the signature is missing or wrong, ``DecodeError`` when the body is not a task.
        """
        payload = self._verified(body) if self._signer or body.startswith(_SIGNED) else body
        try:
            decoder = format_decoder(payload)
            if decoder is _json_decoder and not payload.isascii():
                payload.decode()  # also the names of fields that are not ours, which have to survive a rewrite
            task = decoder.decode(payload)
        except DecodeError:
            raise
        except (ValueError, RecursionError, OverflowError) as error:
            if (version := _version(payload)) > WIRE_VERSION:
                raise _future(version) from error
            message = f"not a task: {error}"
            raise DecodeError(message) from error
        if task.v != WIRE_VERSION:
            if task.v > WIRE_VERSION:
                raise _future(task.v)
            message = f"not a task: version {task.v}"
            raise DecodeError(message)
        return task

    def rewrite(self, body: bytes, task: Task) -> bytes:
        """The body for a new version of the task that ``body`` held, in the format of ``body``.

        Fields of ``body`` that this version does not know are kept. Raises ``DecodeError`` where one has no readable
        name.
        """
        payload = self._verified(body) if self._signer else body
        is_json = payload[0] == _JSON_MAP
        module = msgspec.json if is_json else msgspec.msgpack
        was = format_decoder(payload).decode(payload)
        try:
            before = module.decode(payload, type=dict[str, msgspec.Raw])
        except ValueError as error:
            message = f"not a task: {error}"
            raise DecodeError(message) from error
        kept = {  # all that did not change stays byte for byte, and so does what only other versions know
            name: raw
            for name, raw in before.items()
            if name not in _FIELDS or getattr(task, name) == getattr(was, name)
        }
        changed = module.decode(module.encode(task), type=dict[str, msgspec.Raw])
        payload = module.encode({**changed, **kept})
        return self._sign(payload) if self._signer else payload

    def payload_format(self, body: bytes) -> Format:
        """The format in which the task of a decodable body is written."""
        payload = body.partition(b"\n")[2] if body.startswith(_SIGNED) else body
        return "json" if payload[0] == _JSON_MAP else "msgpack"

    def _sign(self, payload: bytes) -> bytes:
        key_id = self._signer or ""
        return b"%s%s.%s\n%s" % (_SIGNED, key_id.encode(), _mac(self._keys[key_id], payload), payload)

    def _verified(self, body: bytes) -> bytes:
        if not self._signer:
            message = "signed, but no signing keys are configured here"
            raise SignatureError(message)
        head, line_break, payload = body.partition(b"\n")
        if not head.startswith(_SIGNED) or not line_break:
            message = "not signed, but signing keys are configured"
            raise SignatureError(message)
        key_id, _, mac = head.removeprefix(_SIGNED).rpartition(b".")
        secret = self._keys.get(key_id.decode("ascii", "replace"))
        if secret is None:
            message = "signed with an unknown key"
            raise SignatureError(message)
        from hmac import compare_digest

        if not compare_digest(mac, _mac(secret, payload)):
            message = "the signature does not fit the body: it was altered, or signed with another secret"
            raise SignatureError(message)
        return payload


def format_decoder(payload: bytes) -> msgspec.json.Decoder[Task] | msgspec.msgpack.Decoder[Task]:
    """The decoder for the format in which a payload is written; raises ``DecodeError`` for an empty one."""
    if not payload:
        message = "not a task: empty"
        raise DecodeError(message)
    return _json_decoder if payload[0] == _JSON_MAP else _msgpack_decoder


def encode_dead(letter: DeadLetter, body: bytes) -> bytes:
    """The body of a message in a dead-letter queue: why it died, then its own body byte for byte."""
    return b"%s%s\n%s" % (_DEAD, _json_encoder.encode(letter), body)


def decode_dead(body: bytes) -> tuple[DeadLetter, bytes]:
    """The inverse of :func:`encode_dead`. Raises ``DecodeError`` for anything else."""
    head, line_break, original = body.partition(b"\n")
    if not head.startswith(_DEAD) or not line_break:
        message = "not a dead letter"
        raise DecodeError(message)
    try:
        letter = _letter_decoder.decode(head.removeprefix(_DEAD))
    except (ValueError, RecursionError) as error:
        message = f"not a dead letter: {error}"
        raise DecodeError(message) from error
    return letter, original


def _mac(secret: bytes, payload: bytes) -> bytes:
    import hmac  # with OpenSSL behind it, it takes longer to load than all the rest of this module

    return hmac.digest(secret, payload, "sha256").hex().encode()


def _version(payload: bytes) -> int:
    """The version that a payload claims, 0 where it claims none."""
    decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
    try:
        return decode(payload, type=_Versioned).v
    except (ValueError, RecursionError, OverflowError):
        return 0


def _future(version: int) -> FutureVersion:
    return FutureVersion(f"wire format version {version}; this program knows {WIRE_VERSION}: upgrade it")


class _Versioned(msgspec.Struct):
    v: int
