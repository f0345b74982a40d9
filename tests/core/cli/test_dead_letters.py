"""``anybroker.dead_letters``: nothing is lost, nothing runs in circles."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker import App, Retry, current_context, dead_letters
from anybroker.broker import Broker, Delivery, Message
from anybroker.codec import encode_dead
from anybroker.errors import BrokerUnavailable
from anybroker.task import DeadLetter
from anybroker.worker import Worker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEY = "a secret of enough characters"


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[App]:
    app = App("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/dead.db")
    yield app
    app.close()


@pytest.fixture
def kill(app: App) -> Callable[..., Message]:
    """Put a dead letter into the queue ``mail.dead``; returns the message that died."""

    def kill(id: str, *, body: bytes | None = None, cut: int | None = None, **fields: Any) -> Message:
        task = {"v": 1, "id": id, "task": "send", "args": [id], "attempt": 4, "retries": 3, "crashes": 1} | fields
        message = Message(id, "mail", json.dumps(task).encode() if body is None else body)
        letter = DeadLetter(
            v=1, reason="failed", queue="mail", died_at=datetime.now(UTC), attempt=4, priority=5, ordering_key="k",
            truncated_from=cut,
        )  # fmt: skip
        app.broker.enqueue([Message(id, "mail.dead", encode_dead(letter, message.body))])
        return message

    return kill


def waiting(app: App, queue: str) -> list[str]:
    return [message.id for message in app.inspect().peek(queue, limit=1000)]


def test_list_reads_letters_and_leases_none(app: App, kill: Callable[..., Message]) -> None:
    kill("a")
    kill("b", body=b"nonsense")
    app.broker.enqueue([Message("c", "mail.dead", b"no letter")])
    first, second = dead_letters.list(app, "mail")
    assert (first.id, first.dead.reason, first.task and first.task.task) == ("a", "failed", "send")
    assert (second.id, second.task, second.body) == ("b", None, b"nonsense")
    assert app.inspect().stats("mail.dead").ready == 3


def test_retry_starts_the_count_of_retries_anew(app: App, kill: Callable[..., Message]) -> None:
    kill("a", deferrals=2, later="kept", expires="2020-01-01T00:00:00Z", error={"type": "E", "message": "m"})
    assert dead_letters.retry(app, "mail", ["a"]) == ("a",)
    [message] = app.inspect().peek("mail")
    assert (message.priority, message.ordering_key, message.eta) == (5, "k", None)
    task = app.codec.decode(message.body)
    assert (task.attempt, task.retries, task.crashes, task.deferrals, task.expires) == (5, 0, 0, 0, None)
    assert task.error is not None
    assert json.loads(message.body)["later"] == "kept"
    assert waiting(app, "mail.dead") == []


def test_retry_keeps_an_expiry_that_is_to_come(app: App, kill: Callable[..., Message]) -> None:
    expires = datetime.now(UTC) + timedelta(hours=1)
    kill("a", expires=expires.isoformat())
    dead_letters.retry(app, "mail")
    assert app.codec.decode(app.inspect().peek("mail")[0].body).expires == expires


def test_retry_of_some_leaves_the_others_ready(app: App, kill: Callable[..., Message]) -> None:
    for number in range(250):
        kill(f"m{number}")
    before = {message.id: message.body for message in app.inspect().peek("mail.dead", limit=1000)}
    assert dead_letters.retry(app, "mail", ["m3", "m240", "nobody"]) == ("m3", "m240")
    after = {message.id: message.body for message in app.inspect().peek("mail.dead", limit=1000)}
    assert after == {name: body for name, body in before.items() if name not in ("m3", "m240")}
    assert app.inspect().stats("mail.dead").ready == 248


def test_retry_stops_looking_when_it_has_all(app: App, kill: Callable[..., Message]) -> None:
    for number in range(150):
        kill(f"m{number}")
    moved: list[int] = []
    assert dead_letters.retry(app, "mail", ["m0"], moved=moved.append) == ("m0",)
    assert moved == [1]


def test_undecodable_goes_back_byte_for_byte(app: App, kill: Callable[..., Message]) -> None:
    message = kill("a", body=b"\x00not a task\n")
    dead_letters.retry(app, "mail")
    assert app.inspect().peek("mail")[0].body == message.body


def test_tampered_body_goes_back_byte_for_byte(app: App, kill: Callable[..., Message]) -> None:
    message = kill("a")  # unsigned
    signing = App(broker=app.broker, signing_keys={"k": KEY}, results_url="none")
    dead_letters.retry(signing, "mail")
    assert app.inspect().peek("mail")[0].body == message.body


def test_what_cannot_be_revived_stays(app: App, kill: Callable[..., Message]) -> None:
    kill("cut", cut=10**9)
    app.broker.enqueue([Message("stray", "mail.dead", b"no letter")])
    assert dead_letters.retry(app, "mail") == ()
    assert sorted(waiting(app, "mail.dead")) == ["cut", "stray"]
    assert app.inspect().stats("mail.dead").ready == 2


def test_body_that_would_grow_too_large_goes_without_its_error() -> None:
    app = App("memory://?max_body=3000")
    args = "x" * 1700
    body = json.dumps({"v": 1, "id": "a", "task": "send", "args": [args]}, separators=(",", ":")).encode()
    error = {"type": "E", "message": "m" * 200, "traceback": "t" * 800}
    letter = {"v": 1, "reason": "failed", "queue": "mail", "died_at": "2030-01-01T00:00:00Z", "error": error}
    app.broker.enqueue([Message("a", "mail.dead", b"ab1.dead %s\n%s" % (json.dumps(letter).encode(), body))])
    assert dead_letters.retry(app, "mail") == ("a",)
    task = app.codec.decode(app.inspect().peek("mail")[0].body)
    assert (task.error, task.attempt) == (None, 2)


@pytest.mark.slow
def test_letter_that_dies_again_at_once_is_not_put_back_for_ever(app: App) -> None:
    runs = []

    @app.task(name="send", queue="mail", retry=Retry(max=0))
    def send() -> None:
        runs.append(current_context().attempt)
        raise ValueError

    send.send()
    with Worker(app, queues="mail", concurrency=1):
        until(lambda: waiting(app, "mail.dead"), why="a dead letter")
        for _ in range(3):
            assert len(dead_letters.retry(app, "mail")) == 1
            until(lambda: waiting(app, "mail.dead"), why="its return")
    assert runs == [1, 2, 3, 4]


class Failing:
    """A broker whose connection is lost at the n-th ``update``, before or after it was done."""

    def __init__(self, broker: Broker, *, after: bool) -> None:
        self._broker = broker
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        if self._after:
            self._broker.update(changes)
        raise BrokerUnavailable("gone")


@pytest.mark.parametrize("after", [False, True])
def test_loss_of_the_broker_in_the_middle_loses_no_letter(
    app: App, kill: Callable[..., Message], *, after: bool
) -> None:
    ids = {f"m{number}" for number in range(5)}
    for name in ids:
        kill(name)
    broker, app.broker = app.broker, Failing(app.broker, after=after)
    with pytest.raises(BrokerUnavailable):
        dead_letters.retry(app, "mail")
    app.broker = broker
    assert set(waiting(app, "mail")) | set(waiting(app, "mail.dead")) == ids


def test_purge_of_some_and_of_all(app: App, kill: Callable[..., Message]) -> None:
    for name in "abc":
        kill(name)
    assert dead_letters.purge(app, "mail", ["b", "nobody"]) == 1
    assert waiting(app, "mail.dead") == ["a", "c"]
    assert dead_letters.purge(app, "mail") == 2
    assert waiting(app, "mail.dead") == []


@pytest.fixture
def blind(app: App) -> App:
    """The same broker, as one that cannot look into its queues."""
    capabilities = msgspec.structs.replace(app.broker.capabilities, inspect=False)

    class Blind:
        def __getattr__(self, name: str) -> Any:
            return capabilities if name == "capabilities" else getattr(app.broker, name)

    return App(broker=Blind(), results_url="none")


def test_without_looking_into_queues__list(app: App, blind: App, kill: Callable[..., Message]) -> None:
    for number in range(250):
        kill(f"m{number}")
    app.broker.enqueue([Message("stray", "mail.dead", b"no letter")])
    assert {letter.id for letter in dead_letters.list(blind, "mail", limit=1000)} == {f"m{n}" for n in range(250)}
    assert [letter.id for letter in dead_letters.list(blind, "mail", limit=2)] == ["m0", "m1"]
    stats = app.inspect().stats("mail.dead")
    assert (stats.ready, stats.leased) == (251, 0)
    assert waiting(app, "mail.dead")[:2] == ["m0", "m1"]


def test_without_looking_into_queues__find(app: App, blind: App, kill: Callable[..., Message]) -> None:
    for number in range(120):
        kill(f"m{number}")
    for asked in (app, blind):
        found = dead_letters.find(asked, "mail", "m110")
        assert found is not None
        assert json.loads(found.body)["args"] == ["m110"]
        assert dead_letters.find(asked, "mail", "nobody") is None
    assert app.inspect().stats("mail.dead").ready == 120


def test_without_looking_into_queues__purge(app: App, blind: App, kill: Callable[..., Message]) -> None:
    for number in range(250):
        kill(f"m{number}")
    assert dead_letters.purge(blind, "mail", ["m3", "m240", "nobody"]) == 2
    assert app.inspect().stats("mail.dead").ready == 248
    assert not {"m3", "m240"} & set(waiting(app, "mail.dead"))
    assert dead_letters.purge(blind, "mail") == 248
    assert waiting(app, "mail.dead") == []
