"""The properties of a message that was received, whoever has sent it.

pika decodes all headers or none. Other clients send values that Python does not have: a time in the year 55840, where
somebody took milliseconds for seconds, or a float that is no number. Such headers are left out here, for the message
is delivered again and again until somebody can read it.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

from pika import data as fields
from pika import spec

_FLAGS = struct.Struct(">H")
_LENGTH = struct.Struct(">L")
_SIZES = {
    **dict.fromkeys(b"V", 0),
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"sUu", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"D", 5),
    **dict.fromkeys(b"LldT", 8),
}
"""Type of a value -> bytes that follow; all other types begin with their length."""


def decode(data: bytes, start: int, end: int) -> spec.BasicProperties:
    """The properties that a frame has from ``start`` to ``end``."""
    properties = spec.BasicProperties()
    try:
        properties.decode(data, start)
    except Exception:  # pika guards no conversion, so that each may raise what it likes
        return _with_readable_headers(data, start, end)
    return properties


def _with_readable_headers(data: bytes, start: int, end: int) -> spec.BasicProperties:
    flags = _FLAGS.unpack_from(data, start)[0]
    table = start + _FLAGS.size
    for flag in (spec.BasicProperties.FLAG_CONTENT_TYPE, spec.BasicProperties.FLAG_CONTENT_ENCODING):
        if flags & flag:
            table += 1 + data[table]
    first = table + _LENGTH.size
    after = first + _LENGTH.unpack_from(data, table)[0]
    others = _FLAGS.pack(flags & ~spec.BasicProperties.FLAG_HEADERS) + data[start + _FLAGS.size : table]
    properties = spec.BasicProperties()
    properties.decode(others + data[after:end])
    properties.headers = _readable(data, first, after)
    return properties


def _readable(data: bytes, position: int, end: int) -> dict[str, Any]:
    """Those of the headers that pika can decode."""
    headers: dict[str, Any] = {}
    while position < end:
        name, position = fields.decode_short_string(data, position)
        with suppress(Exception):
            headers[name] = fields.decode_value(data, position)[0]
        size = _SIZES.get(data[position])
        position += 1 + (_LENGTH.size + _LENGTH.unpack_from(data, position + 1)[0] if size is None else size)
    return headers
