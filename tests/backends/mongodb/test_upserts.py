"""What a real MongoDB refuses and its stand-in does not, and what others refuse that are like it."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pymongo
import pytest

from anybroker.backend import Result, State
from anybroker_backend_mongodb import MongoBackend
from anybroker_backend_mongodb.backend import BackendOptions
from anybroker_broker_mongodb.urls import read_url
from tests.brokers.mongodb.hearing import Listener, heard_by
from tests.brokers.mongodb.scripted import ScriptedMongo, refusal
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database
    from pymongo.monitoring import CommandStartedEvent

    from tests.brokers.mongodb.scripted import Json

pytestmark = [pytest.mark.services, pytest.mark.slow]


class Upserts(Listener):
    """Keeps the filters of all upserts."""

    def __init__(self) -> None:
        self.filters: list[Any] = []

    def started(self, event: CommandStartedEvent) -> None:
        command = event.command
        for update in [*command.get("updates", []), command]:
            if update.get("upsert"):
                self.filters.append(update.get("q", update.get("query")))


def test_no_upsert_has_an_expression_in_its_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """MongoDB: "$expr is not allowed in the query predicate for an upsert" (error 224)."""
    upserts = heard_by(Upserts(), monkeypatch)
    with closing(MongoBackend.from_url(service("mongodb").url(prefix=f"u{secrets.token_hex(4)}"))) as backend:
        for ttl in (0.001, 60.0):
            assert backend.store([Result("1", State.SUCCEEDED, 1, b"")], ttl=ttl) == [True]
            assert backend.claim("lock", ttl=ttl)
            backend.join("group", "member", size=2)
            backend.seal("group")
    assert len(upserts.filters) >= 8
    assert "$expr" not in str(upserts.filters)


class WithoutUpserts:
    """Hands commands on to a server, but refuses to insert by a pipeline, as servers do that are not quite MongoDB."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self.refused = 0
        self._database = database

    def answer(self, name: str, command: Json) -> Json:
        words = {word: value for word, value in command.items() if word not in {"$db", "lsid"}}
        if name == "findAndModify":
            words["upsert"] = False
        for update in words.get("updates", ()):
            if isinstance(update["u"], list):
                return self._update(words)
        found = self._database.command(words, check=False)
        if name == "findAndModify" and found["value"] is None:
            self.refused += 1
            return refusal(238, "pipeline upsert is not implemented")
        return found

    def _update(self, words: Json) -> Json:
        """One after the other."""
        errors, changed = [], 0
        for index, update in enumerate(words["updates"]):
            n = self._database.command({**words, "updates": [{**update, "upsert": False}]})["n"]
            changed += n
            if update.get("upsert") and not n:
                self.refused += 1
                errors.append({"index": index, "code": 238, "errmsg": "pipeline upsert is not implemented"})
        return {"n": changed, "nModified": changed, **({"writeErrors": errors} if errors else {})}


@pytest.fixture
def without() -> Iterator[tuple[MongoBackend, WithoutUpserts]]:
    target = read_url(service("mongodb").url(prefix=f"w{secrets.token_hex(4)}-"), BackendOptions)
    with pymongo.MongoClient[dict[str, Any]](target.url) as client:
        server = WithoutUpserts(client["tasks"])
        prefix = target.options.prefix
        with (
            ScriptedMongo(server.answer) as scripted,
            closing(MongoBackend.from_url(f"{scripted.url}&prefix={prefix}")) as backend,
        ):
            yield backend, server


def test_results_are_stored_where_no_pipeline_inserts(without: tuple[MongoBackend, WithoutUpserts]) -> None:
    backend, server = without
    ids = ["new", "old", "retried", "gone"]
    backend.store([Result(id_, State.RETRYING, 2) for id_ in ids[1:3]], ttl=60)
    backend.store([Result("gone", State.SUCCEEDED, 9)], ttl=0.001)
    results = [Result(id_, State.SUCCEEDED, 1 if id_ == "old" else 3, b"body") for id_ in ids]
    assert backend.store(results, ttl=60) == [True, False, True, True]
    assert backend.fetch(ids) == [results[0], Result("old", State.RETRYING, 2), *results[2:]]
    assert server.refused >= 4


def test_locks_and_groups_are_made_where_no_pipeline_inserts(without: tuple[MongoBackend, WithoutUpserts]) -> None:
    backend, server = without
    assert backend.claim("brief", ttl=0.001)
    for name in ("brief", "lock"):
        token = backend.claim(name, ttl=60)
        assert token
        assert backend.claim(name, ttl=60) is None
        assert backend.release(name, token)
    assert [backend.join("group", member, size=2) for member in "aabb"] == [False, False, True, True]
    backend.seal("group")
    assert not backend.join("group", "b", size=2)
    assert server.refused >= 6
