"""A database in which an application has collections of the same names."""

from __future__ import annotations

import secrets
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pymongo
import pytest

from anybroker.backend import Result, State
from anybroker.errors import ConfigurationError
from anybroker_backend_mongodb import MongoBackend
from anybroker_backend_mongodb.backend import BackendOptions
from anybroker_backend_mongodb.documents import FIELDS, INDEXES, LOCKS, MEMBERS, RESULTS
from anybroker_broker_mongodb.urls import read_url
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

pytestmark = [pytest.mark.services, pytest.mark.slow]

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def url() -> str:
    return service("mongodb").url(prefix=f"f{secrets.token_hex(4)}-")


@pytest.fixture
def database(url: str) -> Iterator[Database[dict[str, Any]]]:
    target = read_url(url, BackendOptions)
    with pymongo.MongoClient[dict[str, Any]](target.url) as client:
        yield client[target.database]


@pytest.mark.parametrize("name", [LOCKS, MEMBERS])
def test_an_application_keeps_its_documents(url: str, database: Database[dict[str, Any]], name: str) -> None:
    """Memberships that expired, say, which a TTL index would remove."""
    theirs = database[f"{read_url(url, BackendOptions).options.prefix}{name}"]
    theirs.insert_one({"_id": "ada", "mail": "ada@example.com", "expires": PAST})
    with closing(MongoBackend.from_url(url)) as backend:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=f"{name}' holds documents of something else"):
                backend.fetch(["x"])
    assert theirs.index_information().keys() == {"_id_"}


def test_what_every_verb_writes_is_ours(url: str, database: Database[dict[str, Any]]) -> None:
    """Also where the indexes are gone, as after a drop of the database under a process that goes on."""
    with closing(MongoBackend.from_url(url)) as backend:
        backend.store([Result("r", State.SUCCEEDED, 1, b"body")], ttl=60)
        backend.join("g", "a", size=2)
        backend.claim("lock", ttl=60)
    for name in INDEXES:
        collection = database[f"{read_url(url, BackendOptions).options.prefix}{name}"]
        [document] = collection.find()
        assert document.keys() == FIELDS[name]
        collection.drop()
        collection.insert_one(document)
    with closing(MongoBackend.from_url(url)) as backend:
        assert backend.fetch(["r"]) == [Result("r", State.SUCCEEDED, 1, b"body")]


def test_what_a_later_version_adds_is_not_foreign(url: str, database: Database[dict[str, Any]]) -> None:
    result = Result("r", State.SUCCEEDED, 1, b"body")
    with closing(MongoBackend.from_url(url)) as backend:
        backend.store([result], ttl=60)
    results = database[f"{read_url(url, BackendOptions).options.prefix}{RESULTS}"]
    results.update_one({"_id": "r"}, {"$set": {"later": 1}})
    with closing(MongoBackend.from_url(url)) as backend:
        assert backend.fetch(["r"]) == [result]
