"""What the server is asked: how often by one who is idle, in how many round trips, and through which index."""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure

from anybroker.broker import Message
from anybroker_backend_mongodb import MongoBackend
from anybroker_broker_mongodb import MongoBroker, commands
from anybroker_broker_mongodb.documents import INDEXES, to_document
from anybroker_broker_mongodb.urls import BrokerOptions, read_url
from tests.brokers.mongodb.hearing import Listener, heard_by
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.monitoring import CommandStartedEvent

pytestmark = [pytest.mark.services, pytest.mark.slow]

FIELDS = [*to_document(Message("id", "q", b""), ObjectId()), "eta", "fenced"]
PAST = datetime(2020, 1, 1, tzinfo=UTC)
ROUND_TRIPS_OF_CLAIM = ["aggregate", "update"]


class Names(Listener):
    """Notes the commands that are sent."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.updates: list[dict[str, Any]] = []
        """With ``q`` for the filter and ``u`` for the change, which is a list where the server is to compute it."""

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)
        self.updates += event.command.get("updates", ())


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Names:
    return heard_by(Names(), monkeypatch)


@pytest.fixture
def url() -> str:
    return service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-")


@pytest.fixture
def broker(listener: Names, url: str) -> Iterator[MongoBroker]:  # noqa: ARG001  it hears of what the broker sends
    with closing(MongoBroker.from_url(url)) as broker:
        yield broker


def messages(number: int, queue: str = "q") -> list[Message]:
    return [Message(f"m{index}", queue, b"body") for index in range(number)]


def test_a_batch_is_claimed_in_two_round_trips(broker: MongoBroker, listener: Names) -> None:
    broker.enqueue(messages(30))
    assert len(broker.acquire(["q"], limit=10, wait=0, lease=60)) == 10
    listener.names.clear()
    broker._promoted["q",] = time.monotonic() + 60
    assert len(broker.acquire(["q"], limit=10, wait=0, lease=60)) == 10
    assert listener.names == ROUND_TRIPS_OF_CLAIM


def test_those_that_came_one_by_one_are_claimed_as_fast(broker: MongoBroker, listener: Names) -> None:
    """Each has a token of its own, which the server is to compare with that of this message alone."""
    for message in messages(30):
        broker.enqueue([message])
    listener.names.clear()
    broker._idle, broker._promoted["q",] = False, time.monotonic() + 60
    assert len(broker.acquire(["q"], limit=30, wait=0, lease=60)) == 30
    assert listener.names == ROUND_TRIPS_OF_CLAIM
    assert not any("$or" in one["q"] for one in listener.updates)


@pytest.mark.parametrize(("verb", "command"), [("ack", "delete"), ("update", "update")])
def test_a_batch_is_settled_in_two_round_trips(broker: MongoBroker, listener: Names, verb: str, command: str) -> None:
    """Of messages that came in several batches, too; and neither that nor the claim makes the server compute."""
    for batch in (messages(30), [Message(f"n{index}", "q", b"body") for index in range(30)]):
        broker.enqueue(batch)
    held = [one for _ in range(2) for one in broker.acquire(["q"], limit=20, wait=0, lease=60)]
    listener.names.clear()
    answers = broker.ack(held) if verb == "ack" else broker.update([(one, one.message) for one in held])
    assert answers == [True] * 40
    assert listener.names == ["update", command]
    assert not any(isinstance(one["u"], list) for one in listener.updates)


def test_one_who_finds_nothing_does_not_look_twice(broker: MongoBroker, listener: Names) -> None:
    broker.enqueue(messages(1))
    assert broker.acquire(["q"], limit=10, wait=0, lease=60)
    listener.names.clear()
    broker._promoted["q",] = time.monotonic()
    assert broker.acquire(["q"], limit=10, wait=0, lease=60) == []
    assert sorted(listener.names) == ["aggregate", "find"], "the line, and what is overdue"


@pytest.mark.parametrize("queues", [["q"], ["a", "b", "c", "d"]])
def test_an_idle_worker_sends_at_most_five_commands_a_second(
    broker: MongoBroker, listener: Names, queues: list[str]
) -> None:
    quiet = time.monotonic() + 1.2  # after which it looks no more often
    while time.monotonic() < quiet:
        broker.acquire(queues, limit=10, wait=0.5, lease=60)
    listener.names.clear()
    began = time.monotonic()
    for _ in range(4):
        broker.acquire(queues, limit=10, wait=0.5, lease=60)
    assert len(listener.names) / (time.monotonic() - began) <= 5, listener.names


def test_many_that_are_overdue_are_made_ready_in_portions(broker: MongoBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one who acquires a few does not wait for a million, nor into a time-out."""
    monkeypatch.setattr(commands, "PORTION", 10)
    broker.enqueue([Message(f"m{index}", "q", b"body", eta=PAST) for index in range(35)])
    taken = broker.acquire(["q"], limit=3, wait=30, lease=60)
    assert len(taken) == 3
    assert broker._messages().count_documents({"state": "ready"}) == 7
    while len(taken) < 35:
        taken += broker.acquire(["q"], limit=3, wait=30, lease=60)
    assert len({one.message.id for one in taken}) == 35
    assert broker.acquire(["q"], limit=3, wait=0, lease=60) == []


def test_what_is_overdue_in_other_queues_has_been_searched_for_itself(broker: MongoBroker) -> None:
    broker.enqueue([Message("1", "a", b""), Message("2", "b", b""), Message("3", "b", b"", PAST, priority=5)])
    for queue, first in (("a", "1"), ("b", "3")):
        [taken] = broker.acquire([queue], limit=1, wait=0, lease=60)
        assert taken.message.id == first


@pytest.mark.parametrize("verb", ["enqueue", "update"])
def test_one_that_is_overdue_when_it_is_sent_has_its_place_in_the_line(broker: MongoBroker, verb: str) -> None:
    """Though what is overdue was searched for a moment ago."""
    broker.enqueue(messages(1))
    [held] = broker.acquire(["q"], limit=1, wait=10, lease=60)
    broker._promoted["q",] = time.monotonic() + 60
    if verb == "enqueue":
        broker.enqueue([Message("late", "q", b"", PAST), Message("new", "q", b"")])
        expected = ["late", "new"]
    else:
        broker.enqueue([Message("new", "q", b"")])
        assert broker.update([(held, Message("m0", "q", b"", PAST))]) == [True]
        expected = ["m0", "new"]
    taken = broker.acquire(["q"], limit=2, wait=10, lease=60)
    assert [one.message.id for one in taken] == expected


@pytest.mark.parametrize("kind", ["broker", "backend"])
def test_news_for_others_make_nobody_look_without_a_pause(
    broker: MongoBroker, listener: Names, url: str, kind: str
) -> None:
    with closing(MongoBackend.from_url(url)) as backend:
        backend.fetch(["x"])
        watch = broker._watch() if kind == "broker" else backend._watch()
        done = threading.Event()

        def notify() -> None:
            while not done.wait(0.001):
                watch.notify()

        producer = threading.Thread(target=notify)
        producer.start()
        began = time.monotonic()
        try:
            if kind == "broker":
                assert broker.acquire(["q"], limit=1, wait=1, lease=60) == []
            else:
                assert backend.wait(["x"], timeout=1) == []
            looks = sum(name in {"aggregate", "find"} for name in listener.names)
            elapsed = time.monotonic() - began
        finally:
            done.set()
            producer.join()
        assert looks <= 3 + elapsed / 0.02


def test_a_change_stream_wakes_sooner_than_the_next_look(url: str) -> None:
    with (
        closing(MongoBroker.from_url(f"{url}&wake=stream")) as consumer,
        closing(MongoBroker.from_url(url)) as producer,
    ):
        assert consumer.capabilities.wake_bound < producer.capabilities.wake_bound
        consumer.acquire(["q"], limit=1, wait=0.3, lease=60)
        found: list[int] = []
        waiting = threading.Thread(
            target=lambda: found.append(len(consumer.acquire(["q"], limit=1, wait=30, lease=60)))
        )
        waiting.start()
        producer.enqueue(messages(1))
        waiting.join(20)
        assert found == [1]


def test_the_indexes_are_made_once_and_have_names(url: str) -> None:
    for _ in range(2):
        with closing(MongoBroker.from_url(url)) as broker, closing(MongoBackend.from_url(url)) as backend:
            broker.queues()
            backend.fetch(["x"])
    target = read_url(url, BrokerOptions)
    with pymongo.MongoClient[dict[str, Any]](target.url) as client:
        database = client[target.database]
        found = database[f"{target.options.prefix}messages"].index_information()
        assert found.keys() == {"_id_", "line", "due"}
        assert database[f"{target.options.prefix}results"].index_information()["expires"]["expireAfterSeconds"] == 0


def plan(collection: Any, pipeline: list[dict[str, Any]]) -> str:
    command = {"aggregate": collection.name, "pipeline": pipeline, "cursor": {}}
    return str(collection.database.command("explain", command, verbosity="queryPlanner"))


def test_what_is_asked_is_read_from_an_index(broker: MongoBroker, url: str) -> None:
    """By `explain` where the server has it; else by the rule of MongoDB's documentation: equality, sort, range."""
    broker.enqueue(messages(3))
    target = read_url(url, BrokerOptions)
    looked_up = {"line": commands.first("q", 10), "due": commands.earliest(["q"])}
    with pymongo.MongoClient[dict[str, Any]](target.url) as client:
        collection = client[target.database][f"{target.options.prefix}messages"]
        for index in INDEXES:
            name, keys = index.document["name"], list(index.document["key"])
            match, sort = looked_up[name][0]["$match"], looked_up[name][1]["$sort"]
            begin = [*match, *sort]
            assert keys[: len(begin)] == begin, "the fields that are compared for equality, then the sort"
            try:
                winning = plan(collection, looked_up[name])
            except OperationFailure as error:
                assert error.code == 59  # noqa: PT017  the stand-in does not know `explain`
            else:
                assert f"'indexName': '{name}'" in winning
                assert "COLLSCAN" not in winning
                assert "'SORT'" not in winning


def test_messages_are_counted_by_an_index_alone(broker: MongoBroker, url: str) -> None:
    """By `explain` where the server has it; else by MongoDB's rule: all fields are in the index."""
    broker.enqueue(messages(3))
    pipeline = commands.count("q")
    due = next(index.document for index in INDEXES if index.document["name"] == "due")
    fields = {field for field in FIELDS if f"${field}'" in str(pipeline) or field in pipeline[0]["$match"]}
    assert fields == {"queue", "state", "due", "seq"}
    assert fields == set(due["key"])
    target = read_url(url, BrokerOptions)
    with pymongo.MongoClient[dict[str, Any]](target.url) as client:
        collection = client[target.database][f"{target.options.prefix}messages"]
        try:
            winning = plan(collection, pipeline)
        except OperationFailure as error:
            assert error.code == 59  # noqa: PT017  the stand-in does not know `explain`
        else:
            assert "'indexName': 'due'" in winning
            assert "'FETCH'" not in winning


@pytest.mark.parametrize("verb", ["ack", "update"])
def test_of_two_leases_of_one_message_in_a_batch_the_last_counts(url: str, verb: str) -> None:
    with closing(MongoBroker.from_url(url)) as broker:
        broker.enqueue(messages(1))
        with closing(MongoBroker.from_url(url)) as earlier:
            [stale] = earlier.acquire(["q"], limit=1, wait=0, lease=60)
        [valid] = broker.acquire(["q"], limit=1, wait=5, lease=60)
        both = [stale, valid]
        answers = broker.ack(both) if verb == "ack" else broker.update([(one, one.message) for one in both])
        assert answers == [False, True]


def test_what_is_ready_is_delivered_although_the_clock_of_the_server_was_set_back(broker: MongoBroker) -> None:
    """Or another member has become primary, whose clock is behind: it has been ready since a moment to come."""
    broker.enqueue(messages(2))
    broker._messages().update_many({}, {"$set": {"due": datetime.now(UTC) + timedelta(hours=1)}})
    assert len(broker.acquire(["q"], limit=10, wait=0, lease=60)) == 2
