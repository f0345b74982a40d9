"""The published test vectors: each decodes, and where it says so encodes, as stated."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.backend import Result, State
from anybroker.codec import Codec, FutureVersion, decode_dead, encode_dead
from anybroker.errors import DecodeError, SignatureError
from anybroker.handle import decode_result
from anybroker.values import decode_value, encode_value
from tests.core.wire.vectors import as_json, body_of, name_of, schema, types, vectors

if TYPE_CHECKING:
    from anybroker.task import Task, TaskResult

SIGNED = vectors("signed")
LETTERS = vectors("dead-letters")
REFUSED = {"undecodable": DecodeError, "signature": SignatureError, "version": FutureVersion}


def described(struct: Task | TaskResult, body: bytes) -> dict[str, Any]:
    """A decoded task or result as plain JSON values, without what is not there or has its default."""
    decode = msgspec.json.decode if body.startswith(b"{") else msgspec.msgpack.decode
    shown = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if field.default is not msgspec.NODEFAULT and value == field.default:
            continue
        value = decode(value) if isinstance(value, msgspec.Raw) else msgspec.to_builtins(value)
        if not (field.name in {"args", "kwargs"} and value is None):
            shown[field.name] = value
    return shown


def stated(vector: dict[str, Any]) -> dict[str, Any]:
    """What a task vector says, but for the fields that this version does not know; moments as they are written here."""
    known = {name: value for name, value in vector["task"].items() if name not in vector.get("unknown", [])}
    moments = {name: datetime.fromisoformat(known[name]) for name in known.keys() & {"sent_at", "expires"}}
    return {**known, **msgspec.to_builtins(moments)}


@pytest.mark.parametrize("vector", vectors("tasks"), ids=name_of)
def test_task(vector: dict[str, Any]) -> None:
    body = body_of(vector)
    task = Codec().decode(body)
    assert {"args": [], "kwargs": {}, **described(task, body)} == {"args": [], "kwargs": {}, **stated(vector)}
    assert Codec().payload_format(body) == vector["format"]
    schema("task").validate(as_json(body))
    if vector["canonical"]:
        assert Codec(vector["format"]).encode(task) == body


@pytest.mark.parametrize("vector", SIGNED["accepted"], ids=name_of)
def test_signed_task(vector: dict[str, Any]) -> None:
    body = body_of(vector)
    codec = Codec("msgpack" if "MessagePack" in vector["name"] else "json", SIGNED["keys"])
    task = codec.decode(body)
    assert described(task, body.partition(b"\n")[2]) == vector["task"]
    assert (codec.encode(task) == body) is vector["canonical"]


@pytest.mark.parametrize("vector", SIGNED["accepted"], ids=name_of)
def test_signature_is_what_the_page_says(vector: dict[str, Any]) -> None:
    header, _, payload = body_of(vector).partition(b"\n")
    version, algorithm, key_id, signature = header.decode().split(".")
    secret = SIGNED["keys"][key_id].encode()
    assert (version, algorithm) == ("ab1", "hs256")
    assert signature == hmac.new(secret, payload, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("vector", SIGNED["refused"], ids=name_of)
def test_badly_signed_task_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        Codec("json", SIGNED["keys"]).decode(body_of(vector))


@pytest.mark.parametrize("vector", vectors("invalid"), ids=name_of)
def test_invalid_body_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as caught:
        Codec().decode(body_of(vector))
    assert type(caught.value) is REFUSED[vector["reason"]]


@pytest.mark.parametrize("vector", vectors("results"), ids=name_of)
def test_result(vector: dict[str, Any]) -> None:
    body = body_of(vector)
    result, format_ = decode_result(Result("x", State.SUCCEEDED, 1, body))
    assert format_ == vector["format"]
    assert described(result, body) == vector["result"]
    schema("result").validate(as_json(body))
    if vector["canonical"]:
        assert getattr(msgspec, format_).encode(result) == body


@pytest.mark.parametrize("vector", LETTERS["accepted"], ids=name_of)
def test_dead_letter(vector: dict[str, Any]) -> None:
    body = body_of(vector)
    letter, dead = decode_dead(body)
    assert dead == bytes.fromhex(vector["dead_body_hex"])
    assert letter.describe() == vector["letter"]
    schema("dead-letter").validate(json.loads(body.partition(b"\n")[0].removeprefix(b"ab1.dead ")))
    if vector["canonical"]:
        assert encode_dead(letter, dead) == body


@pytest.mark.parametrize("vector", LETTERS["refused"], ids=name_of)
def test_what_is_no_dead_letter_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode_dead(body_of(vector))


@pytest.mark.parametrize("vector", vectors("values"), ids=lambda vector: f"{vector['type']} {vector['json']}")
def test_value(vector: dict[str, Any]) -> None:
    kind = types()[vector["type"]]
    value = decode_value(msgspec.Raw(vector["json"].encode()), kind, "json")
    assert decode_value(msgspec.Raw(bytes.fromhex(vector["msgpack_hex"])), kind, "msgpack") == value
    assert bytes(encode_value(value, "json")).decode() == vector["json"]
    assert bytes(encode_value(value, "msgpack")).hex() == vector["msgpack_hex"]
    for spelling in vector.get("also", ()):
        assert decode_value(msgspec.Raw(spelling.encode()), kind, "json") == value


def test_every_listed_type_has_a_vector() -> None:
    assert {vector["type"] for vector in vectors("values")} == types().keys()


def test_values_arrive_as_the_type_that_is_declared() -> None:
    expected = {"date": date, "time": time, "timedelta": timedelta, "decimal": Decimal, "datetime": datetime}
    found = {
        vector["type"]: type(decode_value(msgspec.Raw(vector["json"].encode()), types()[vector["type"]], "json"))
        for vector in vectors("values")
    }
    assert expected.items() <= found.items()
