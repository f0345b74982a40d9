"""One command to a MongoDB server, as its wire protocol has it: OP_MSG with a BSON document, and one in return."""

from __future__ import annotations

import struct

from anybroker_conformance.services import probes

_OP_MSG = 2013
_HEADER = 16
_BODY = _HEADER + 5
"""Flags and the kind of the section stand between the header and the document."""
_FIXED = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
"""The BSON types of a fixed size: double, object id, boolean, date, null, integers, timestamp, decimal."""

Value = str | int | float | bool | bytes | None


def command(port: int, database: str = "admin", **words: object) -> dict[str, Value]:
    """What a database answers to a command; of nested documents the values are left out."""
    body = struct.pack("<iB", 0, 0) + _document({**words, "$db": database})
    request = struct.pack("<iiii", _HEADER + len(body), 1, 0, _OP_MSG) + body
    with probes.connection(port) as stream:
        stream.write(request)
        stream.flush()
        size = int.from_bytes(probes.exactly(stream, 4), "little")
        answer = probes.exactly(stream, size - 4)
    return _values(answer[_BODY - 4 :])


def _document(values: dict[str, object]) -> bytes:
    items = b"".join(_item(name, value) for name, value in values.items())
    return struct.pack("<i", len(items) + 5) + items + b"\0"


def _item(name: str, value: object) -> bytes:
    key = name.encode() + b"\0"
    match value:
        case int():
            return b"\x10" + key + struct.pack("<i", value)
        case str():
            text = value.encode() + b"\0"
            return b"\x02" + key + struct.pack("<i", len(text)) + text
        case dict():
            return b"\x03" + key + _document(value)
        case list():
            return b"\x04" + key + _document({str(index): item for index, item in enumerate(value)})
    raise TypeError(f"no BSON for {value!r}")


def _values(document: bytes) -> dict[str, Value]:
    found: dict[str, Value] = {}
    at = 4
    while kind := document[at]:
        end = document.index(b"\0", at + 1)
        name, at = document[at + 1 : end].decode(), end + 1
        size = _size(kind, document, at)
        found[name] = _value(kind, document[at : at + size])
        at += size
    return found


def _size(kind: int, document: bytes, at: int) -> int:
    if kind in _FIXED:
        return _FIXED[kind]
    length = int.from_bytes(document[at : at + 4], "little")
    return length + {0x02: 4, 0x05: 5}.get(kind, 0)  # of strings and binaries the length itself does not count


def _value(kind: int, data: bytes) -> Value:
    match kind:
        case 0x01:
            return float(struct.unpack("<d", data)[0])
        case 0x02:
            return data[4:-1].decode()
        case 0x08:
            return data != b"\0"
        case 0x10 | 0x12:
            return int.from_bytes(data, "little", signed=True)
    return None
