"""The file itself: what it must be, and what happens when it is locked, full, damaged, deleted or replaced."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.sqlite import SqliteBackend, SqliteBroker, schema

if TYPE_CHECKING:
    from pathlib import Path

OpenBroker = Callable[..., SqliteBroker]


def pragma(broker: SqliteBroker, name: str) -> object:
    ((value,),) = broker._database.read(f"PRAGMA {name}")
    return value


def ids(broker: SqliteBroker, queue: str = "q") -> list[str]:
    return [message.id for message in broker.peek(queue)]


def test_settings__wal_and_incremental_vacuum(broker: SqliteBroker) -> None:
    assert pragma(broker, "journal_mode") == "wal"
    assert pragma(broker, "auto_vacuum") == 2


def test_construction__touches_no_file(path: Path, open_broker: OpenBroker) -> None:
    open_broker()
    assert not path.exists()


def test_close__leaves_one_file_and_the_last_user_closes_it(path: Path, broker: SqliteBroker) -> None:
    with closing(SqliteBackend(path)) as backend:
        broker.enqueue([Message("1", "q", b"")])
        broker.close()
        assert backend.store([Result("1", State.RUNNING, 1)], ttl=None) == [True]
        assert path.with_name("tasks.db-wal").exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["tasks.db"]


def test_close__gives_up_only_what_this_object_holds(broker: SqliteBroker, open_broker: OpenBroker) -> None:
    broker.enqueue([Message(str(number), "q", b"") for number in range(4)])
    other = open_broker()
    mine = broker.acquire(["q"], limit=2, wait=0, lease=60)
    others = other.acquire(["q"], limit=1, wait=0, lease=60)
    broker.close()
    again = other.acquire(["q"], limit=9, wait=0, lease=60)
    assert [(delivery.message.id, delivery.delivery_count) for delivery in again] == [("0", 2), ("1", 2), ("3", 1)]
    assert broker.ack(mine) == [False, False]
    assert other.ack(others) == [True]


def test_closed__refuses(broker: SqliteBroker, backend: SqliteBackend) -> None:
    broker.close()
    backend.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        broker.enqueue([Message("1", "q", b"")])
    with pytest.raises(BrokerUnavailable, match="closed"):
        broker.acquire(["q"], limit=1, wait=0, lease=1)
    with pytest.raises(BrokerUnavailable, match="closed"):
        backend.fetch(["1"])


@pytest.mark.parametrize(("synchronous", "after_enqueue"), [("full", 2), ("normal", 1)])
def test_synchronous__new_work_is_written_through_and_acks_are_not(
    open_broker: OpenBroker, synchronous: str, after_enqueue: int
) -> None:
    broker = open_broker(synchronous=synchronous)
    broker.enqueue([Message("1", "q", b"")])
    assert pragma(broker, "synchronous") == after_enqueue
    (delivery,) = broker.acquire(["q"], limit=1, wait=0, lease=60)
    assert pragma(broker, "synchronous") == 1
    assert broker.update([(delivery, delivery.message)]) == [True]
    assert pragma(broker, "synchronous") == after_enqueue


def test_deleted_file__is_noticed_and_made_anew(path: Path, broker: SqliteBroker, backend: SqliteBackend) -> None:
    broker.enqueue([Message("old", "q", b"")])
    path.unlink()
    broker.enqueue([Message("new", "q", b"")])
    assert backend.store([Result("r", State.RUNNING, 1)], ttl=None) == [True]
    assert ids(broker) == ["new"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM messages").fetchall() == [("new",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_replaced_file__is_noticed(path: Path, broker: SqliteBroker) -> None:
    other_path = path.with_name("other.db")
    with closing(SqliteBroker(other_path)) as other:
        other.enqueue([Message("other", "q", b"")])
    broker.enqueue([Message("old", "q", b"")])
    (old,) = broker.acquire(["q"], limit=1, wait=0, lease=60)
    other_path.replace(path)
    assert ids(broker) == ["other"]
    assert broker.ack([old]) == [False]
    broker.enqueue([Message("new", "q", b"")])
    assert ids(broker) == ["other", "new"]
    assert broker._database.read("PRAGMA integrity_check") == [("ok",)]


def test_deleted_directory__unavailable_until_it_is_back(path: Path, broker: SqliteBroker) -> None:
    broker.enqueue([Message("old", "q", b"")])
    shutil.rmtree(path.parent)
    with pytest.raises(BrokerUnavailable, match="No such file or directory"):
        broker.enqueue([Message("lost", "q", b"")])
    path.parent.mkdir()
    broker.enqueue([Message("new", "q", b"")])
    assert ids(broker) == ["new"]


def test_locked_file__unavailable_until_it_is_free(path: Path, open_broker: OpenBroker) -> None:
    broker = open_broker(busy_timeout=0.05)
    broker.enqueue([Message("1", "q", b"")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokerUnavailable, match="locked") as caught:
            broker.enqueue([Message("2", "q", b"")])
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert broker.stats("q").ready == 1, "others can read all the same"
    broker.enqueue([Message("3", "q", b"")])
    assert ids(broker) == ["1", "3"]


def test_full_disk__unavailable_and_nothing_half_stored(broker: SqliteBroker) -> None:
    broker.enqueue([Message("1", "q", b"")])
    pages = pragma(broker, "page_count")
    pragma(broker, f"max_page_count({pages})")
    with pytest.raises(BrokerUnavailable, match="disk is full"):
        broker.enqueue([Message(str(number), "q", b"x" * 4000) for number in range(2, 50)])
    assert ids(broker) == ["1"]
    broker.enqueue([Message("2", "q", b"")])
    assert ids(broker) == ["1", "2"]


def test_error_inside_a_transaction__is_rolled_back(broker: SqliteBroker) -> None:
    broker.enqueue([Message("1", "q", b"")])

    def interrupted() -> None:
        with broker._database.transaction() as connection:
            connection.execute("DELETE FROM messages")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ids(broker) == ["1"]


def test_damaged_file__unavailable(path: Path, broker: SqliteBroker) -> None:
    broker.enqueue([Message(str(number), "q", b"x" * 1000) for number in range(200)])
    broker.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with closing(SqliteBroker(path)) as damaged, pytest.raises(BrokerUnavailable, match="damaged"):
        damaged.acquire(["q"], limit=1, wait=0, lease=1)


def test_file_that_is_no_database__is_refused(path: Path, open_broker: OpenBroker) -> None:
    path.write_bytes(b"To whom it may concern: this is a letter. " * 100)
    with pytest.raises(ConfigurationError, match="not an SQLite database"):
        open_broker().enqueue([Message("1", "q", b"")])
    assert path.read_bytes().startswith(b"To whom")


def test_database_of_another_program__is_refused_and_left_alone(path: Path, open_broker: OpenBroker) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE messages (subject TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        open_broker().queues()
    assert path.read_bytes() == before


def test_tables_that_another_process_creates_meanwhile__are_ours(path: Path) -> None:
    path.touch()
    with closing(sqlite3.connect(path)) as connection:

        def create_before_second(_: str) -> None:
            if next(statements) == 2:
                schema.open_connection(path).close()

        statements = count(1)
        connection.set_trace_callback(create_before_second)
        schema._check_ownership(connection, path)
        assert next(statements) > 2
        connection.set_trace_callback(None)
        assert connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0] > 0


def test_file_of_a_later_version__is_refused(path: Path, broker: SqliteBroker, backend: SqliteBackend) -> None:
    broker.enqueue([Message("1", "q", b"")])
    with broker._database.transaction() as connection:
        connection.execute("PRAGMA user_version = 2")
    broker.close()
    backend.close()
    with closing(SqliteBackend(path)) as later, pytest.raises(ConfigurationError, match="later version"):
        later.fetch(["1"])


def test_missing_directory__is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"directory .*absent does not exist"):
        SqliteBroker(tmp_path / "absent" / "tasks.db")


def test_directory_as_file__is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is a directory; name a file in it, e.g. .*anybroker.db"):
        SqliteBackend(tmp_path)


def test_database_in_memory__is_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SqliteBroker(":memory:")


def test_text_that_is_no_unicode__is_refused_and_nothing_stored(broker: SqliteBroker) -> None:
    with pytest.raises(ConfigurationError, match="valid Unicode"):
        broker.enqueue([Message("fine", "q", b""), Message("\ud800", "q", b"")])
    assert ids(broker) == []


def test_python_clock_an_hour_off__changes_nothing(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    broker.enqueue([Message("1", "q", b"")])
    (delivery,) = broker.acquire(["q"], limit=1, wait=0, lease=60)
    assert delivery.lease_until.timestamp() < 4_000_000_000.0
    assert broker.acquire(["q"], limit=1, wait=0, lease=60) == []
