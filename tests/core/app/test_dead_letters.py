"""Messages that are no tasks, or not ours, or from the future: to the dead-letter queue, and the worker goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import Retry
from anybroker.broker import Message
from anybroker.codec import decode_dead
from anybroker.events import Dead
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from anybroker.testing import Testing

OLD = "an old secret of some length"
NEW = "a new secret of some length"


def task_body(**fields: object) -> bytes:
    return json.dumps({"v": 1, "id": "bad", "task": "add", "args": [1, 2], **fields}).encode()


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "undecodable"),
    "garbage": (b"\xff\xfe\x00garbage", "undecodable"),
    "text": (b"hello", "undecodable"),
    "broken JSON": (task_body()[:-1], "undecodable"),
    "another JSON": (b"[1, 2, 3]", "undecodable"),
    "a field is missing": (b'{"v":1,"id":"bad"}', "undecodable"),
    "a field has the wrong type": (task_body(attempt="one"), "undecodable"),
    "deep": (b'{"v":1,"id":"bad","task":"add","args":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "undecodable"),
    "a dead letter": (b"ab1.dead {}\n", "undecodable"),
    "the future": (task_body(v=2), "version"),
    "the far future": (b'{"v":99,"id":"bad","everything":"else"}', "version"),
    "the past": (task_body(v=0), "undecodable"),
    "signed": (b"ab1.hs256.k.00\n" + task_body(), "signature"),
    "too few arguments": (task_body(args=[1]), "arguments"),
    "too many arguments": (task_body(args=[1, 2, 3]), "arguments"),
    "wrong arguments": (task_body(args=["one", "two"]), "arguments"),
    "wrong keyword": (task_body(args=[1], kwargs={"c": 2}), "arguments"),
    "arguments that are none": (task_body(args=7), "arguments"),
    "a naive time": (task_body(expires="2030-01-01T00:00:00"), "undecodable"),
    "a huge number": (task_body(attempt=2**70), "undecodable"),
    "a negative number": (task_body(deferrals=-(10**9)), "undecodable"),
}


def declare_add(app: App) -> Any:
    @app.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    return add


@pytest.mark.parametrize("name", BAD)
def test_it_is_dead_lettered_with_its_reason_byte_for_byte(app: App, t: Testing, name: str) -> None:
    body, reason = BAD[name]
    add = declare_add(app)
    t.broker.enqueue([Message("bad", "default", body, priority=2, ordering_key="k")])
    after = add.options(ordering_key="k").send(1, 2)
    t.run()
    (message,) = t.broker.peek("default.dead")
    letter, kept = decode_dead(message.body)
    assert (letter.reason, letter.queue, letter.ordering_key, letter.priority) == (reason, "default", "k", 2)
    assert kept == body
    assert letter.error is not None
    assert letter.error.message
    assert [event.reason for event in t.events if isinstance(event, Dead)] == [reason]
    assert after.get() == 3, "what waited behind it runs"


def test_the_worker_goes_on_after_all_of_them(make_app: Callable[..., App], each_url: str) -> None:
    app = make_app(each_url)
    add = declare_add(app)
    handles = []
    for number, (body, _) in enumerate(BAD.values()):
        app.broker.enqueue([Message(f"bad{number}", "default", body)])
        handles.append(add.send(number, 1))
    with app.worker(concurrency=2) as worker:
        assert [handle.get(timeout=10) for handle in handles] == [number + 1 for number in range(len(BAD))]
        until(lambda: worker.stats().idle)
    assert app.inspect().stats("default").total == 0
    assert app.inspect().stats("default.dead").total == len(BAD)


def test_an_oversized_message_of_another_program(make_app: Callable[..., App]) -> None:
    """It fits the broker alone, but not together with why it is dead: its end gives way, and that is said."""
    app = make_app("memory://?max_body=4000")
    add = declare_add(app)
    app.broker.enqueue([Message("large", "default", b"x" * 4000)])
    with app.worker(concurrency=1):
        assert add.send(1, 2).get(timeout=5) == 3
        until(lambda: app.inspect().stats("default.dead").total)
    (message,) = app.inspect().peek("default.dead")
    letter, body = decode_dead(message.body)
    assert letter.reason in {"oversized", "undecodable"}
    assert letter.truncated_from == 4000
    assert 3000 < len(body) < 4000
    assert len(message.body) <= 4000


@pytest.mark.parametrize("codec", ["json", "msgpack"])
class TestSigned:
    def test_what_is_unsigned_tampered_or_signed_by_a_stranger_is_refused(
        self, make_app: Callable[..., App], codec: str
    ) -> None:
        app = make_app(signing_keys={"k": NEW}, codec=codec)
        stranger = make_app(signing_keys={"k": OLD}, codec=codec)
        unsigned = make_app(codec=codec)
        add = declare_add(app)
        for other in (stranger, unsigned):
            other.broker.close()
            other.broker = app.broker
            other.send_by_name("add", [1, 2])
        good = app.message(add.s(1, 2), app.clock.now()).body
        app.broker.enqueue([Message("tampered", "default", good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])])
        with app.worker(concurrency=1):
            assert add.send(2, 2).get(timeout=5) == 4
            until(lambda: app.inspect().stats("default.dead").total == 3)
        letters = [decode_dead(message.body)[0] for message in app.inspect().peek("default.dead")]
        assert [letter.reason for letter in letters] == ["signature"] * 3
        assert not any(secret in repr(letters) for secret in (OLD, NEW))

    def test_keys_are_rotated_without_losing_a_task(self, make_app: Callable[..., App], codec: str) -> None:
        before = make_app(signing_keys={"old": OLD}, codec=codec)
        after = make_app(signing_keys={"new": NEW, "old": OLD}, codec=codec)
        last = make_app(signing_keys={"new": NEW}, codec=codec)
        add = declare_add(after)
        with after.testing() as t:
            queued = before.message(declare_add(before).s(1, 2), t.now)
            t.broker.enqueue([queued])
            handle = add.send(3, 4)
            newest = t.broker.peek("default")[1]
            assert newest.body.startswith(b"ab1.hs256.new.")
            t.run()
            assert after.handle(queued.id, task="add").get() == 3
            assert handle.get() == 7
            assert last.codec.decode(newest.body).id == handle.id
            assert t.dead() == []

    def test_a_retry_and_a_checkpoint_are_signed_with_the_first_key(
        self, make_app: Callable[..., App], codec: str
    ) -> None:
        app = make_app(signing_keys={"new": NEW, "old": OLD}, codec=codec)
        old = make_app(signing_keys={"old": OLD}, codec=codec)

        def step(x: int) -> int:
            if x == 2:
                raise ValueError
            return x + 1

        job = app.job("job", retry=Retry(max=1, after=60)).step(step).step(step)
        with app.testing() as t:
            t.broker.enqueue([old.message(job.s(1), t.now)])
            t.run()
            (waiting,) = t.broker.peek("default")
            assert waiting.body.startswith(b"ab1.hs256.new.")
            task = app.codec.decode(waiting.body)
            assert (task.step, task.retries) == (1, 1)
