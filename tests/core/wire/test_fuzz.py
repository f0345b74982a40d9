"""No bytes make the codec raise anything but DecodeError, and none stop a worker: they die with a reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anybroker import App
from anybroker.broker import Delivery, Message
from anybroker.codec import Codec, Format, FutureVersion, decode_dead
from anybroker.errors import DecodeError, SignatureError
from anybroker.task import Task
from anybroker.worker.execution import Outcome
from anybroker.worker.pipeline import Pipeline
from tests.core.wire.strategies import PLAIN, tasks
from tests.core.wire.vectors import body_of, vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.testing import Testing

pytestmark = pytest.mark.slow


KEYS = {"k": "a secret of many characters"}
# With and without signing keys; in the long form together 10,000 bodies for the codec and as many for the worker.
FEW_AND_MANY = pytest.mark.parametrize(
    "cases", [300, pytest.param(5_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
NAMES = st.sampled_from(["echo", "nobody knows it"])
FIELDS = st.sampled_from([field.encode_name for field in msgspec.structs.fields(Task)])


@st.composite
def valid(draw: st.DrawFn) -> bytes:
    """A task in either format, most often one that can run."""
    format_: Format = draw(st.sampled_from(["json", "msgpack"]))
    chosen = (
        tasks(format_) if draw(st.booleans()) else tasks(format_, task=draw(NAMES), step=0, expires=None, crashes=0)
    )
    return Codec(format_, KEYS if draw(st.booleans()) else None).encode(draw(chosen))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid body of which some bytes are changed, removed, repeated or replaced by others."""
    body = bytearray(draw(valid()))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 8)))
        body[start:end] = draw(st.binary(max_size=8) | st.just(bytes(body[start:end]) * 2))
    return bytes(body)


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """An object with the right names and the wrong values."""
    fields: dict[str, Any] = {"v": 1, "id": "x", "task": draw(NAMES)}
    fields |= draw(st.dictionaries(FIELDS | st.text(max_size=5), PLAIN, max_size=6))
    body: bytes = getattr(msgspec, draw(st.sampled_from(["json", "msgpack"]))).encode(fields)
    return body


DEPTHS = st.sampled_from([1, 10, 200, 900, 1_100, 5_000, 40_000])
HUGE = st.sampled_from(
    [b"9" * 4_400, b"-" + b"9" * 5_000, b"1e999", b"-1e-999", b"0." + b"1" * 5_000, b"1e" + b"9" * 400]
)
EXTREME = st.one_of(
    DEPTHS.map(lambda depth: b'{"v":1,"id":"x","task":"echo","args":' + b"[" * depth + b"]" * depth + b"}"),
    DEPTHS.map(lambda depth: b'{"v":1,"id":"x","task":"echo","other":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"),
    DEPTHS.map(lambda depth: b"\x84\xa1v\x01\xa2id\xa1x\xa4task\xa4echo\xa4args" + b"\x91" * depth + b"\x01"),
    DEPTHS.map(lambda depth: b"[" * depth),
    HUGE.map(lambda number: b'{"v":1,"id":"x","task":"echo","args":[%s]}' % number),
    HUGE.map(lambda number: b'{"v":%s,"id":"x","task":"echo"}' % number),
    HUGE.map(lambda number: b'{"v":1,"id":"x","task":"echo","timeout":%s,"attempt":%s}' % (number, number)),
    st.binary(min_size=1, max_size=6).map(lambda data: b'{"v":1,"id":"x","task":"echo","args":["%s"]}' % data),
    st.binary(min_size=4, max_size=4).map(lambda size: b"\xdf" + size + b"\xa1v\x01"),
    st.binary(min_size=5, max_size=9).map(lambda data: b"\x84\xa1v\x01\xa2id\xa1x\xa4task\xa4echo\xa4args\x91" + data),
    st.sampled_from(
        [b"ab1.", b"ab1.hs256.", b"ab1.hs256.k.\n", b"ab1.dead \n", b"ab1.dead {}\n{}", b"\n", b"{", b"\xff\xfe{"]
    ),
)
PUBLISHED = st.sampled_from([body_of(vector) for name in ("invalid", "tasks") for vector in vectors(name)])
BODIES = st.one_of(st.binary(max_size=60), valid(), mutated(), odd(), EXTREME, PUBLISHED)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Thousands of dead letters are what is wanted here."""
    with caplog.at_level(logging.CRITICAL, logger="anybroker"):
        yield


@FEW_AND_MANY
@pytest.mark.parametrize("keys", [None, KEYS], ids=["unsigned", "signed"])
def test_any_bytes_are_a_task_or_a_decode_error(cases: int, keys: dict[str, str] | None) -> None:
    codec = Codec("json", keys)

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))
    @given(BODIES)
    def check(body: bytes) -> None:
        try:
            task = codec.decode(body)
            again = codec.rewrite(body, msgspec.structs.replace(task, crashes=1, error=None))
        except DecodeError:
            return
        assert codec.decode(again).id == task.id

    check()


def expected_reason(app: App, body: bytes) -> str | None:
    """Why a body has to die; None where it may run, be put off, or fail by what it says."""
    try:
        app.codec.decode(body)
    except FutureVersion:
        return "version"
    except SignatureError:
        return "signature"
    except DecodeError:
        return "undecodable"
    return None


def unwritable(app: App, body: bytes) -> list[str]:
    """Why a body may die that decodes, and cannot be written anew."""
    try:
        app.codec.rewrite(body, msgspec.structs.replace(app.codec.decode(body), crashes=1, error=None))
    except DecodeError:
        return ["undecodable"]
    return []


def run_between_good_ones(app: App, t: Testing, bodies: list[bytes], ran: list[int]) -> None:
    """Enqueue the bodies with good tasks before, between and after them, and run them all."""
    good = app.signature("good task", (1,), {})
    for number, body in enumerate([b"", *bodies]):
        if number:
            t.broker.enqueue([Message(f"bad-{number}", "default", body)])
        good.send()
    before = len(ran)
    t.run()
    assert len(ran) - before == len(bodies) + 1


def outcomes(t: Testing) -> dict[str, str]:
    """Reason by message id, of all dead letters."""
    ids = [message.id for message in t.broker.peek("default.dead", limit=1_000)]
    return dict(zip(ids, [letter.reason for letter in t.dead()], strict=True))


@FEW_AND_MANY
@pytest.mark.parametrize("keys", [{}, KEYS], ids=["unsigned", "signed"])
def test_a_worker_outlives_any_bytes(cases: int, keys: dict[str, str]) -> None:
    app = App("memory://", signing_keys=keys)
    ran: list[int] = []
    app.task(name="good task")(ran.append)

    @app.task(name="echo")
    def echo(value: Any = None, *rest: Any, **named: Any) -> Any:
        return [value, rest, named]

    @settings(max_examples=cases // 10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(BODIES, min_size=10, max_size=10))
    def check(bodies: list[bytes]) -> None:
        with app.testing() as t:
            run_between_good_ones(app, t, bodies, ran)
            found = outcomes(t)
        for number, body in enumerate(bodies, start=1):
            reason = expected_reason(app, body)
            if reason is not None:
                assert found[f"bad-{number}"] == reason
            else:
                assert found.get(f"bad-{number}") in {
                    None,
                    "arguments",
                    "failed",
                    "crashed",
                    "unregistered",
                    *unwritable(app, body),
                }

    check()


@pytest.mark.parametrize(
    "body", [b'{"v":1,"id":"x","task":"?","\x80":1}', b"\x84\xa1v\x01\xa2id\xa1x\xa4task\xa1?\xa1\x80\x01"]
)
def test_an_unknown_name_that_is_not_utf_8_is_undecodable_at_the_latest_when_it_is_rewritten(body: bytes) -> None:
    app = App("memory://")
    with app.testing() as t:
        t.broker.enqueue([Message("x", "default", body)])
        t.run()
        assert [letter.reason for letter in t.dead()] == ["undecodable"]


@pytest.mark.parametrize("vector", vectors("invalid"), ids=lambda vector: vector["name"])
def test_published_invalid_bodies_die_for_the_published_reason(vector: dict[str, Any]) -> None:
    app = App("memory://")
    with app.testing() as t:
        t.broker.enqueue([Message("x", "default", body_of(vector))])
        t.run()
        assert [letter.reason for letter in t.dead()] == [vector["reason"]]
        (message,) = t.broker.peek("default.dead")
        assert message.body.partition(b"\n")[2] == body_of(vector)


def test_a_body_that_is_longer_than_the_broker_takes_dies_as_oversized() -> None:
    app = App("memory://")
    limit = app.broker.capabilities.max_body
    body = b'{"v":1,"id":"x","task":"t","args":["%s"]}' % (b"x" * limit)
    outcome = Pipeline(app).admit(Delivery(Message("x", "default", body), 1, 1, app.clock.now()))
    assert isinstance(outcome, Outcome)
    assert outcome.version is not None
    letter, beginning = decode_dead(outcome.version.body)
    assert (letter.reason, letter.truncated_from) == ("oversized", len(body))
    assert len(outcome.version.body) == limit
    assert body.startswith(beginning)
