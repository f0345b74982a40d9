"""Everything that is written can be read again, is what the schemas say, and survives being written anew."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anybroker.codec import Codec, Format, decode_dead, encode_dead
from anybroker.errors import SignatureError
from anybroker.task import DeadLetter, Task, TaskErrorInfo
from tests.core.wire.strategies import COUNTS, ERRORS, MOMENTS, PLAIN, TEXT, tasks
from tests.core.wire.vectors import as_json, schema

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.slow


KEYS = {"new": "a secret of many characters", "old": "another secret of many characters"}
FORMATS: st.SearchStrategy[Format] = st.sampled_from(["json", "msgpack"])
TASKS = FORMATS.flatmap(lambda format_: st.tuples(st.just(format_), tasks(format_)))
KNOWN = {field.encode_name for field in msgspec.structs.fields(Task)}
UNKNOWN = st.dictionaries(TEXT.filter(lambda name: name not in KNOWN), PLAIN, min_size=1, max_size=4)
REASONS = ["failed", "crashed", "unregistered", "arguments", "undecodable", "signature", "version", "oversized"]


@given(TASKS)
def test_a_task_comes_back_equal(given: tuple[Format, Task]) -> None:
    format_, task = given
    codec = Codec(format_)
    body = codec.encode(task)
    assert codec.decode(body) == task
    assert codec.payload_format(body) == format_


@given(TASKS)
def test_what_is_written_is_what_the_schema_says(given: tuple[Format, Task]) -> None:
    format_, task = given
    schema("task").validate(as_json(Codec(format_).encode(task)))


@given(TASKS, st.sampled_from([{"new": KEYS["new"]}, {"old": KEYS["old"]}, KEYS]))
def test_a_signed_task_comes_back_equal(given: tuple[Format, Task], keys: Mapping[str, str]) -> None:
    format_, task = given
    signer = Codec(format_, keys)
    body = signer.encode(task)
    assert len(body) == signer.overhead + len(Codec(format_).encode(task))
    assert Codec("json", KEYS).decode(body) == task
    assert signer.payload_format(body) == format_


@given(TASKS, st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_breaks_the_signature(given: tuple[Format, Task], place: int, change: int) -> None:
    format_, task = given
    codec = Codec(format_, KEYS)
    body = bytearray(codec.encode(task))
    body[place % len(body)] ^= change
    with pytest.raises(SignatureError):
        codec.decode(bytes(body))


@given(FORMATS, UNKNOWN, st.data())
def test_unknown_fields_survive_byte_for_byte(format_: Format, unknown: dict[str, Any], data: st.DataObject) -> None:
    module = getattr(msgspec, format_)
    codec = Codec(format_)
    known = module.decode(codec.encode(data.draw(tasks(format_))), type=dict[str, msgspec.Raw])
    body = module.encode({**unknown, **known})
    task = codec.decode(body)
    again = codec.rewrite(body, msgspec.structs.replace(task, attempt=7, retries=3, error=None, step=1))
    kept = module.decode(again, type=dict[str, msgspec.Raw])
    assert {name: bytes(kept[name]) for name in unknown} == {name: module.encode(unknown[name]) for name in unknown}
    assert codec.decode(again) == msgspec.structs.replace(task, attempt=7, retries=3, error=None, step=1)
    schema("task").validate(as_json(again))


NUMBERS = b'{"big":123456789012345678901234567890,"float":1.10,"exponent":1E+2,"zero":-0,"nested":[{"n":0.1e1}, 2 ]}'


@pytest.mark.parametrize("keys", [{}, KEYS])
def test_numbers_that_python_would_write_otherwise_survive(keys: Mapping[str, str]) -> None:
    codec = Codec("msgpack", keys)
    plain = b'{"v":1,"id":"a","task":"t","args":%s,"links":%s}' % (b"[" + NUMBERS + b"]", NUMBERS)
    body = codec._sign(plain) if keys else plain
    again = codec.rewrite(body, msgspec.structs.replace(codec.decode(body), attempt=2))
    fields = msgspec.json.decode(again.partition(b"\n")[2] if keys else again, type=dict[str, msgspec.Raw])
    assert bytes(fields["links"]) == NUMBERS
    assert bytes(fields["args"]) == b"[" + NUMBERS + b"]"
    assert bytes(fields["attempt"]) == b"2"


RETRY = b'{"max":3,"after":{"kind":"fixed","base":1.50,"steps":[1, 2]},"budget":"day"}'


def test_what_did_not_change_survives_with_the_unknown_fields_in_it() -> None:
    body = b'{"v":1,"id":"a","task":"t","expires":"2030-01-01T00:00:00.1234567+02:00","retry":%s}' % RETRY
    again = Codec().rewrite(body, msgspec.structs.replace(Codec().decode(body), attempt=2, retries=1))
    fields = msgspec.json.decode(again, type=dict[str, msgspec.Raw])
    assert bytes(fields["retry"]) == RETRY
    assert bytes(fields["expires"]) == b'"2030-01-01T00:00:00.1234567+02:00"'


def test_a_field_that_is_reset_disappears() -> None:
    body = b'{"v":1,"id":"a","task":"t","error":{"type":"E","message":"m"},"crashes":2}'
    again = Codec().rewrite(body, msgspec.structs.replace(Codec().decode(body), error=None, crashes=0))
    assert json.loads(again) == {"v": 1, "id": "a", "task": "t"}


def test_a_rewritten_task_is_signed_with_the_first_key_and_keeps_its_format() -> None:
    task = Task(v=1, id="a", task="t")
    body = Codec("msgpack", {"old": KEYS["old"]}).encode(task)
    codec = Codec("json", KEYS)
    again = codec.rewrite(body, msgspec.structs.replace(task, attempt=2))
    assert again.startswith(b"ab1.hs256.new.")
    assert codec.payload_format(again) == "msgpack"
    assert codec.decode(again).attempt == 2


@given(
    st.builds(
        DeadLetter,
        v=st.just(1),
        reason=st.sampled_from(REASONS),
        queue=st.text(min_size=1, max_size=80),
        died_at=MOMENTS,
        error=st.none() | ERRORS,
        attempt=st.none() | st.integers(1, 2**31 - 1),
        ordering_key=st.none() | st.text(),
        priority=st.integers(-(2**31), 2**31),
        truncated_from=st.none() | COUNTS.filter(bool),
    ),
    st.binary(max_size=100),
)
def test_a_dead_letter_comes_back_equal_with_the_body_byte_for_byte(letter: DeadLetter, body: bytes) -> None:
    dead = encode_dead(letter, body)
    assert decode_dead(dead) == (letter, body)
    schema("dead-letter").validate(json.loads(dead.partition(b"\n")[0].removeprefix(b"ab1.dead ")))


def test_a_codec_shows_no_secret() -> None:
    assert KEYS["new"] not in repr(Codec("json", KEYS))


def test_moments_are_written_in_utc_as_the_page_shows_them() -> None:
    task = Task(v=1, id="a", task="t", sent_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
    assert Codec().encode(task) == b'{"v":1,"id":"a","task":"t","sent_at":"2026-01-02T03:04:05.678901Z"}'


def test_an_error_is_written_as_the_page_shows_it() -> None:
    task = Task(v=1, id="a", task="t", error=TaskErrorInfo(type="E", message="m"))
    assert Codec().encode(task) == b'{"v":1,"id":"a","task":"t","error":{"type":"E","message":"m"}}'
