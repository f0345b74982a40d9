"""Properties of messages that others have sent; no server."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from pika import spec

from anybroker_broker_amqp.properties import decode

BEFORE = {"content_type": "text/plain", "content_encoding": "utf-8"}
AFTER = {"delivery_mode": 2, "message_id": "1", "timestamp": 5, "app_id": "shop"}


def string(text: bytes) -> bytes:
    return b"S" + struct.pack(">L", len(text)) + text


READABLE: dict[str, tuple[bytes, Any]] = {
    "text": (string(b"value"), "value"),
    "bytes": (b"x\0\0\0\2ab", b"ab"),
    "nothing": (b"V", None),
    "table": (b"F\0\0\0\4\1at\1", {"a": True}),
    "array": (b"A\0\0\0\4t\1t\0", [True, False]),
    **{
        f"number {kind}": (kind.encode() + struct.pack(f">{form}", 7), 7)
        for kind, form in zip("tbBsUuIiflLdT", "bbBhhHiIfqqdQ", strict=True)
        if kind not in "tT"
    },
    "decimal": (b"D\0\0\0\0\7", 7),
}
UNREADABLE = {
    "milliseconds": b"T" + struct.pack(">Q", 1_700_000_000_000),
    "far": b"T" + struct.pack(">Q", 2**64 - 1),
    "nan": b"d" + struct.pack(">d", math.nan),
    "inf": b"f" + struct.pack(">f", math.inf),
    "deep": b"A\0\0\0\x0ed" + struct.pack(">d", math.inf) + b"A\0\0\0\0",
    "in a table": b"F\0\0\0\x0b\1ad" + struct.pack(">d", math.nan),
}


def frame(headers: dict[str, bytes], *, before: dict[str, str] | None = None) -> tuple[bytes, int, int]:
    """Properties as they are sent, with something before and after them, and where they are."""
    table = b"".join(bytes([len(name)]) + name.encode() + value for name, value in headers.items())
    first = b"".join(spec.BasicProperties(**(before or {})).encode()[1:])
    rest = b"".join(spec.BasicProperties(**AFTER).encode()[1:])
    flags = b"".join(spec.BasicProperties(**(before or {}), **AFTER, headers={}).encode()[:1])
    encoded = flags + first + struct.pack(">L", len(table)) + table + rest
    return b"12345" + encoded + b"\xceanother frame", 5, 5 + len(encoded)


@pytest.mark.parametrize("before", [{}, BEFORE, {"content_encoding": "utf-8"}])
@pytest.mark.parametrize("unreadable", UNREADABLE)
def test_what_python_cannot_have_is_left_out_and_nothing_else(unreadable: str, before: dict[str, str]) -> None:
    encoded = {name: value for name, (value, _) in READABLE.items()}
    properties = decode(*frame({"first": UNREADABLE[unreadable], **encoded, "last": UNREADABLE["nan"]}, before=before))
    assert properties.headers == {name: value for name, (_, value) in READABLE.items()}
    assert {name: getattr(properties, name) for name in {*before, *AFTER}} == {**before, **AFTER}


def test_a_table_that_is_too_deep_is_left_out() -> None:
    deep = b"F\0\0\0\0"
    for _ in range(10_000):
        deep = b"F" + struct.pack(">L", len(deep) + 2) + b"\1a" + deep
    assert decode(*frame({"deep": deep, "text": string(b"value")})).headers == {"text": "value"}
