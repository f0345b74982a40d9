"""Values as they travel: what can, in which form, and what would change on the way.

What can travel: None, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID, Enum, list, dict,
set, frozenset, tuple, dataclass, NamedTuple, TypedDict, ``msgspec.Struct``, and pydantic models where pydantic is
installed. Without an annotation: plain JSON values.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import msgspec

from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from anybroker.codec import Format


_learning = threading.RLock()
"""Held while msgspec learns of a type, which it keeps in the type itself before it has finished: a thread that decodes
by what another one has half learnt is the end of the process."""
os.register_at_fork(before=_learning.acquire, after_in_parent=_learning.release, after_in_child=_learning.release)


def encode_value(value: object, format: Format) -> msgspec.Raw:
    """A value as it travels. Raises ``TypeError``, ``ValueError`` or ``RecursionError`` for what cannot.

    In JSON a number that is not finite becomes null; see :func:`encode_exactly`.
    """
    return msgspec.Raw(_ENCODERS[format].encode(value))


def encode_exactly(value: object, format: Format) -> msgspec.Raw:
    """The same, for arguments. Raises ``ValueError`` also for numbers that JSON has not."""
    raw = encode_value(value, format)
    if format == "json" and b"null" in bytes(raw):
        _check_finite(value)
    return raw


def decode_value(raw: msgspec.Raw, type: Any, format: Format) -> Any:
    """The inverse of :func:`encode_value`, as a value of ``type``. Raises ``ValueError`` where it does not fit."""
    return decoder(type, format).decode(raw)


def decoder(type: Any, format: Format) -> Any:
    """A decoder for values of one type, to be kept. Raises ``TypeError`` for a type that cannot travel."""
    module = msgspec.json if format == "json" else msgspec.msgpack
    with _learning:
        return module.Decoder(type, dec_hook=_decode_foreign)


def convert(value: object, type: Any) -> Any:
    """A decoded plain value as a value of a ``type`` that was checked. Raises ``ValueError`` where it does not fit."""
    return msgspec.convert(value, type, dec_hook=_decode_foreign, str_keys=True)


def check_type(annotation: object, where: str) -> None:
    """Raises ``ConfigurationError`` for an annotation whose values cannot travel."""
    try:
        decoder(annotation, "json")
        foreign = [part.cls.__name__ for part in _parts(annotation) if isinstance(part, msgspec.inspect.CustomType)]
        problem = f"{foreign[0]} is not a type that can travel" if foreign else ""
    except TypeError as error:
        problem = str(error)
    if problem:
        message = f"{where}: {problem}; use builtins, dataclasses, msgspec.Struct, TypedDict, Enum or pydantic models"
        raise ConfigurationError(message)


class Fidelity(Enum):
    """How sure it is that a value that decodes as a type is the value that was sent."""

    EXACT = 0
    """The decoder sees to it."""
    TEXT = 1
    """A text takes what was bytes, a UUID or a datetime; bytes take any text that happens to be base64."""
    PLAIN = 2
    """Something in it has no type, and becomes what JSON says."""


def fidelity(annotation: object) -> Fidelity:
    """Of a type as a whole."""
    parts = _parts(annotation)
    if any(isinstance(part, msgspec.inspect.AnyType) for part in parts):
        return Fidelity.PLAIN
    texts = (msgspec.inspect.StrType, msgspec.inspect.BytesType)
    return Fidelity.TEXT if any(isinstance(part, texts) for part in parts) else Fidelity.EXACT


def is_same(sent: object, arrived: object, *, plain: bool) -> bool:
    """Whether a value kept its kind; ``plain``: and its very type, because there is no annotation to bring it back."""
    kind = type(arrived)
    if plain and type(sent) is not kind:
        return False
    if kind is str or kind is bytes:
        return isinstance(sent, str if kind is str else bytes | bytearray | memoryview)
    if kind in _SCALARS:
        return not plain or sent == arrived
    if isinstance(arrived, list | tuple):
        pairs = zip(sent, arrived, strict=False) if isinstance(sent, Sequence) else [(None, "")]
        return all(is_same(one, other, plain=plain) for one, other in pairs)
    if isinstance(arrived, dict) and isinstance(sent, Mapping):
        same_keys = sent.keys() == arrived.keys()
        return same_keys and all(is_same(sent[key], value, plain=plain) for key, value in arrived.items())
    return True


_SCALARS = (int, float, bool, type(None))


def _parts(annotation: Any) -> list[msgspec.inspect.Type]:
    """What a type is made of, down to but not into structs and pydantic models."""
    if _is_model(annotation):
        return []
    found: list[msgspec.inspect.Type] = []
    rest: list[Any] = [msgspec.inspect.type_info(annotation)]
    while rest:
        part = rest.pop()
        if isinstance(part, msgspec.inspect.CustomType) and _is_model(part.cls):
            continue
        found.append(part)
        inner = [getattr(part, name, None) for name in ("item_type", "key_type", "value_type")]
        rest += [one for one in inner if isinstance(one, msgspec.inspect.Type)]
        rest += [*getattr(part, "types", ()), *getattr(part, "item_types", ())]
    return found


def _is_model(annotation: object) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def _check_finite(value: object) -> None:
    """Raises ``ValueError`` for a number that msgspec makes null of in JSON."""
    rest: list[object] = [msgspec.to_builtins(value, str_keys=True, enc_hook=_encode_foreign)]
    while rest:
        part = rest.pop()
        if isinstance(part, float) and not math.isfinite(part):
            message = f"JSON has no {part}; the setting codec='msgpack' has"
            raise ValueError(message)
        if isinstance(part, dict):
            rest += part.values()
        elif isinstance(part, list | tuple):
            rest += part


def _encode_foreign(value: object) -> object:
    if _is_model(type(value)):
        return cast("Any", value).model_dump(mode="json", by_alias=True)
    message = f"{type(value).__name__} is not a type that can travel; see the list in the guide, or pass a dataclass"
    raise TypeError(message)


def _decode_foreign(annotation: type, value: object) -> object:
    if _is_model(annotation):  # by way of JSON, whose texts a strict model too takes for datetimes and the like
        return cast("Any", annotation).model_validate_json(msgspec.json.encode(value))
    message = f"{annotation.__name__} is not a type that can travel"
    raise TypeError(message)


_ENCODERS: dict[Format, Any] = {
    "json": msgspec.json.Encoder(enc_hook=_encode_foreign),
    "msgpack": msgspec.msgpack.Encoder(enc_hook=_encode_foreign),
}
