"""Bounded (laws 6 and 14), and the same cost however many are queued."""

from __future__ import annotations

import re
import sqlite3
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.sqlite import SqliteBackend, SqliteBroker
from anybroker.sqlite.maintenance import take_bite
from anybroker.sqlite.statements import statement

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


STATEMENTS = sorted(
    path.name.removesuffix(".sql")
    for path in (files("anybroker.sqlite") / "sql").iterdir()
    if path.name != "schema.sql"
)


def rows(backend: SqliteBackend, table: str) -> int:
    ((count,),) = backend._database.read(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 (a table of ours)
    return int(count)


def fill(broker: SqliteBroker, number: int) -> None:
    for first in range(0, number, 1000):
        broker.enqueue([Message(f"{first + index:09d}", "q", b"x" * 200) for index in range(1000)])


def drain(broker: SqliteBroker) -> None:
    while deliveries := broker.acquire(["q"], limit=500, wait=0, lease=60):
        assert all(broker.ack(deliveries))


def maintain(broker: SqliteBroker) -> int:
    bites = 0
    with broker._database.lock:
        while take_bite(broker._database._connected()):
            bites += 1
    return bites


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement__reads_no_table_from_end_to_end(broker: SqliteBroker, name: str) -> None:
    broker.queues()
    sql = statement(name)
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), 1) or (1,) * len(set(re.findall(r"\?\d", sql)))
    plan = [row[3] for row in broker._database.read(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    scans = [step for step in plan if re.match(r"SCAN (messages|results|groups|members|claims)", step)]
    assert scans == []


def test_claim__finds_what_is_ready_in_the_index_alone(broker: SqliteBroker) -> None:
    broker.queues()
    parameters = {"queue": "q", "until": 1, "limit": 1}
    plan = [row[3] for row in broker._database.read(f"EXPLAIN QUERY PLAN {statement('claim')}", parameters)]
    assert any("messages_ready" in step for step in plan)
    assert not any("TEMP B-TREE" in step for step in plan), "sorting would read every ready message"


def test_acquire_and_ack__cost_the_same_with_many_queued(broker: SqliteBroker) -> None:
    def instructions() -> int:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        with broker._database.lock:
            broker._database._connected().set_progress_handler(count, 10)
        deliveries = broker.acquire(["q"], limit=100, wait=0, lease=60)
        assert all(broker.ack(deliveries))
        broker._database._connected().set_progress_handler(None, 0)
        return counted

    fill(broker, 1000)
    few = instructions()
    assert few > 100
    fill(broker, 30_000)
    assert instructions() < 1.1 * few


def test_file__does_not_grow_with_the_number_processed(broker: SqliteBroker, path: Path) -> None:
    sizes = []
    for _ in range(8):
        fill(broker, 2000)
        drain(broker)
        sizes.append(path.stat().st_size + path.with_name("tasks.db-wal").stat().st_size)
    assert broker._database.read("SELECT COUNT(*) FROM messages") == [(0,)]
    assert sizes[-1] < 25_000_000
    ((pages,),) = broker._database.read("PRAGMA page_count")
    fill(broker, 2000)
    drain(broker)
    assert broker._database.read("PRAGMA page_count") == [(pages,)]


def test_maintenance__gives_unused_pages_back_in_bites(broker: SqliteBroker) -> None:
    fill(broker, 30_000)
    ((full,),) = broker._database.read("PRAGMA page_count")
    drain(broker)
    assert maintain(broker) > 3
    ((spare,),) = broker._database.read("PRAGMA page_count")
    assert spare < min(full / 2, 1200)
    assert maintain(broker) == 0


def test_maintenance__happens_while_an_acquire_waits(broker: SqliteBroker, backend: SqliteBackend) -> None:
    backend.store([Result(str(number), State.SUCCEEDED, 1) for number in range(50)], ttl=0.001)
    while rows(backend, "results"):
        assert broker.acquire(["q"], limit=1, wait=1.5, lease=1) == []


def test_expired_results__are_removed_by_later_ones(backend: SqliteBackend) -> None:
    for number in range(50):
        backend.store([Result(f"{number}-{index}", State.SUCCEEDED, 1) for index in range(10)], ttl=0.001)
    assert rows(backend, "results") < 100


def test_expired_groups_and_claims__are_removed(path: Path, broker: SqliteBroker) -> None:
    backend = SqliteBackend(path, group_ttl=0.001)
    for number in range(300):
        backend.join(f"group-{number}", "member-1", size=2)
        assert backend.claim(f"key-{number}", ttl=0.001)
    while maintain(broker) or rows(backend, "groups") or rows(backend, "claims"):
        continue
    assert rows(backend, "members") == 0
    backend.close()


def test_sealed_group__forgets_its_members(backend: SqliteBackend) -> None:
    assert [backend.join("g", str(number), size=100) for number in range(100)] == [False] * 99 + [True]
    backend.seal("g")
    assert rows(backend, "members") == 0
    assert backend.join("g", "99", size=100) is False
    assert rows(backend, "members") == 0


def test_leases_nobody_settles__are_not_remembered_for_ever(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker.sqlite.broker._PRUNE_ABOVE", 10)
    broker.enqueue([Message(str(number), "q", b"") for number in range(20)])
    for _ in range(10):
        broker.acquire(["q"], limit=20, wait=1, lease=0.001)
    assert len(broker._held) <= 50


def test_purge_of_many__bites(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anybroker.sqlite.inspection.PURGE_BITE", 7)
    broker.enqueue(
        [Message(str(number), "q", b"", ordering_key=f"k{number % 3}" if number % 2 else None) for number in range(50)]
    )
    (held,) = broker.acquire(["q"], limit=1, wait=0, lease=60)
    assert broker.purge("q") == 49
    assert broker.stats("q").total == 1
    assert broker.ack([held]) == [True]


def test_many_due_at_once__all_are_delivered(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anybroker.sqlite.broker.PROMOTE_LIMIT", 3)
    broker.enqueue([Message(str(number), "q", b"") for number in range(20)])
    lost = broker.acquire(["q"], limit=20, wait=0, lease=0)
    assert len(lost) == 20
    delivered: list[str] = []
    while deliveries := broker.acquire(["q"], limit=5, wait=0, lease=60):
        delivered += [delivery.message.id for delivery in deliveries]
    assert delivered == [str(number) for number in range(20)]


def test_unknown_statement__is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        statement("vacuum_everything")


def test_database_errors__keep_their_cause(broker: SqliteBroker) -> None:
    with pytest.raises(Exception, match="no such table") as caught:
        broker._database.read("SELECT * FROM absent")
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
