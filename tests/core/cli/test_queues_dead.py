"""``anybroker queues``, ``peek`` and ``dead``, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App
from anybroker.broker import Message
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

    from tests.core.cli.conftest import Invoke


URL = "sqlite:///tasks.db"


@pytest.fixture
def app(invoke: Invoke) -> Iterator[App]:  # noqa: ARG001  it changes the directory
    """Another app on the broker that the commands look into."""
    app = App(URL)
    yield app
    app.close()


@pytest.fixture
def anybroker(invoke: Invoke) -> Invoke:
    """Run a command on that broker."""

    def anybroker(*arguments: str, exit_code: int = 0, **options: Any) -> Result:
        return invoke(*arguments, "--url", URL, exit_code=exit_code, **options)

    return anybroker


@pytest.fixture
def dead(app: App) -> list[str]:
    """Three dead letters of the queue ``mail``, by id."""

    @app.task(name="send_mail", queue="mail")
    def send_mail(name: str) -> None:
        raise ValueError(f"no such user: {name}")

    with app.testing() as t:
        ids = [send_mail.options(headers={"trace": "t1"}).send(name).id for name in ("ada", "bob", "eve")]
        t.run()
        letters = t.broker.peek("mail.dead")
    app.broker.enqueue(letters)
    return ids


def test_queues_counts_what_waits_and_what_is_dead(app: App, anybroker: Invoke, dead: list[str]) -> None:
    app.send_by_name("x", queue="a")
    app.send_by_name("x", queue="a", delay=60)
    app.send_by_name("x", queue="b")
    app.broker.acquire(["b"], limit=1, wait=0, lease=60)
    rows = json.loads(anybroker("queues", "--json").stdout)
    counts = {row["queue"]: (row["ready"], row["leased"], row["delayed"], row["dead"]) for row in rows}
    assert counts == {"a": (1, 0, 1, 0), "b": (0, 1, 0, 0), "mail": (0, 0, 0, len(dead))}
    header, *lines = anybroker("queues").stdout.splitlines()
    assert header.split() == ["QUEUE", "READY", "LEASED", "DELAYED", "OLDEST", "DEAD"]
    assert [line.split()[0] for line in lines] == ["a", "b", "mail"]


def test_queues_counts_the_letters_of_a_long_name_once(app: App, anybroker: Invoke) -> None:
    for name in ("q", "q" * 80):
        app.send_by_name("x", queue=name)
        app.send_by_name("x", queue=app.dead_queue(name))
    rows = json.loads(anybroker("queues", "--json").stdout)
    assert [(row["queue"], row["ready"], row["dead"]) for row in rows] == [("q", 1, 1), ("q" * 80, 1, 1)]


def test_peek_shows_what_cannot_be_decoded_as_such(app: App, anybroker: Invoke) -> None:
    app.send_by_name("x", [1, "two"], {"three": 3.0}, headers={"k": "v"}, queue="q")
    app.broker.enqueue([Message("odd", "q", b"\xff")])
    task, odd = json.loads(anybroker("peek", "q", "--json").stdout)
    assert (task["task"], task["args"], task["kwargs"], task["attempt"]) == ("x", [1, "two"], {"three": 3.0}, 1)
    assert (odd["id"], odd["bytes"]) == ("odd", 1)
    assert odd["problem"].startswith("not a task")
    shown = anybroker("peek", "q").stdout
    assert '1, "two", three=3.0' in shown
    assert "(undecodable)" in shown
    assert len(anybroker("peek", "q", "--limit", "1").stdout.splitlines()) == 2


def test_peek_reads_messagepack_and_dead_letters_too(anybroker: Invoke, dead: list[str]) -> None:
    packed = App(URL, codec="msgpack")
    packed.send_by_name("x", [1], {"b": [True]}, queue="q")
    packed.close()
    [task] = json.loads(anybroker("peek", "q", "--json").stdout)
    assert (task["args"], task["kwargs"]) == ([1], {"b": [True]})
    letters = json.loads(anybroker("peek", "mail.dead", "--json").stdout)
    assert [(row["id"], row["args"]) for row in letters] == list(zip(dead, (["ada"], ["bob"], ["eve"]), strict=True))


BODIES = {
    b'{"v": 1, "id": "1", "task": "x", "args": [1], "kwargs": []}': "1",
    b'{"v": 1, "id": "1", "task": "x", "args": null, "kwargs": null}': "",
    b'{"v": 1, "id": "1", "task": "x", "args": 5, "kwargs": "six"}': '5, "six"',
    b"\x83\xa1v\x01\xa2id\xa11\xa4task\xa1x": "",
    b"\x84\xa1v\x01\xa2id\xa11\xa4task\xa1x\xa4args\x91\xd4\x05\x01": "(no JSON)",
}


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_arguments_as_other_programs_may_write_them(app: App, anybroker: Invoke, body: bytes) -> None:
    @app.task(name="x", queue="mail")
    def fail(first: int) -> None:
        raise ValueError(first)

    app.broker.enqueue([Message("1", "mail", body)])
    [row] = json.loads(anybroker("peek", "mail", "--json").stdout)
    assert row["task"] == "x"
    assert BODIES[body] in anybroker("peek", "mail").stdout
    with app.worker(queues="mail", concurrency=1):
        until(lambda: app.inspect().stats("mail.dead").total == 1)
    assert BODIES[body] in anybroker("dead", "show", "mail", "1").stdout


def test_dead_list_of_one_queue_and_of_all(anybroker: Invoke, dead: list[str]) -> None:
    for arguments in ((), ("mail",), ("mail.dead",)):
        rows = json.loads(anybroker("dead", "list", *arguments, "--json").stdout)
        assert [row["id"] for row in rows] == dead
        assert {row["reason"] for row in rows} == {"failed"}
    shown = anybroker("dead", "list").stdout
    assert "ValueError: no such user: ada" in shown
    assert anybroker("dead", "list", "other").stdout.count("\n") == 1


def test_dead_show_has_arguments_headers_and_traceback(anybroker: Invoke, dead: list[str]) -> None:
    shown = anybroker("dead", "show", "mail", dead[1]).stdout
    for text in ('"bob"', "trace", "ValueError: no such user: bob", "Traceback (most recent call last)"):
        assert text in shown
    row = json.loads(anybroker("dead", "show", "mail", dead[1], "--json").stdout)
    assert (row["args"], row["headers"], row["attempt"]) == (["bob"], {"trace": "t1"}, 1)
    assert "no dead letter" in anybroker("dead", "show", "mail", "nobody", exit_code=1).stderr


def test_dead_retry_of_some_and_of_all(app: App, anybroker: Invoke, dead: list[str]) -> None:
    assert json.loads(anybroker("dead", "retry", "mail", dead[1], "--json").stdout) == {"retried": [dead[1]]}
    assert [message.id for message in app.inspect().peek("mail")] == [dead[1]]
    assert anybroker("dead", "retry", "mail", "--all").stdout == "2 back in mail\n"
    assert sorted(message.id for message in app.inspect().peek("mail")) == sorted(dead)
    assert "nobody" in anybroker("dead", "retry", "mail", "nobody", exit_code=1).stderr


def test_dead_purge_of_some_and_of_all(app: App, anybroker: Invoke, dead: list[str]) -> None:
    assert json.loads(anybroker("dead", "purge", "mail", dead[0], "--yes", "--json").stdout) == {"removed": 1}
    assert anybroker("dead", "purge", "mail", dead[0], "--yes", exit_code=1).stdout == "0 removed\n"
    assert anybroker("dead", "purge", "mail", "--all", "--yes").stdout == "2 removed\n"
    assert app.inspect().queues() == []


def test_dead_purge_asks_on_a_terminal(
    app: App, anybroker: Invoke, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker.cli.dead.stdin_is_terminal", lambda: True)
    assert (
        "remove all 3 dead letters of mail"
        in anybroker("dead", "purge", "mail", "--all", input="n\n", exit_code=1).output
    )
    assert app.inspect().stats("mail.dead").ready == len(dead)
    assert "3 removed" in anybroker("dead", "purge", "mail", "--all", input="y\n").stdout


@pytest.mark.parametrize("command", ["retry", "purge"])
@pytest.mark.parametrize("which", [(), ("some", "--all")])
def test_which_letters_has_to_be_said(anybroker: Invoke, command: str, which: tuple[str, ...]) -> None:
    assert "error: which letters?" in anybroker("dead", command, "mail", *which, exit_code=2).stderr


def test_what_others_have_sent_does_not_steer_the_terminal(app: App, anybroker: Invoke) -> None:
    app.send_by_name("x\x1b[2J", headers={"h": "\x07"}, queue="q")
    assert "x\\x1b[2J" in anybroker("peek", "q").stdout
    assert "\x1b" not in anybroker("peek", "q").stdout


def test_queues_of_these_names(app: App, anybroker: Invoke) -> None:
    for queue in ("a", "b", "c"):
        app.send_by_name("x", queue=queue)
    rows = json.loads(anybroker("queues", "c", "none", "--json").stdout)
    assert [(row["queue"], row["ready"]) for row in rows] == [("c", 1), ("none", 0)]


TELLING = """
import msgspec
from anybroker import App
from anybroker.broker import Estimate
from anybroker.memory import MemoryBroker


class Telling(MemoryBroker):
    def __init__(self):
        super().__init__()
        self.capabilities = msgspec.structs.replace(self.capabilities, inspect=False, overview=True)

    def known_queues(self):
        return super().queues()

    def estimate(self, queue):
        stats = super().stats(queue)
        return Estimate(ready=stats.ready, delayed=stats.delayed)

    def clear(self, queue):
        super().purge(queue)


app = App(broker=Telling())
app.send_by_name("x", queue="a", delay=60)
app.send_by_name("x", queue="a")
app.send_by_name("x", queue="mail.dead")
"""


def test_queues_and_letters_of_a_broker_that_only_tells_of_them(invoke: Invoke) -> None:
    Path("tasks.py").write_text(TELLING)
    rows = json.loads(invoke("queues", "--app", "tasks:app", "--json").stdout)
    nothing = {"ready": 0, "leased": None, "delayed": 0, "oldest": None}
    assert rows == [
        {"queue": "a", **nothing, "ready": 1, "delayed": 1, "dead": 0},
        {"queue": "mail", **nothing, "dead": 1},
    ]
    assert json.loads(invoke("dead", "list", "--app", "tasks:app", "--json").stdout) == []
