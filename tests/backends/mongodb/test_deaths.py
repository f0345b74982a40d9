"""A process that dies before any of the commands of a call leaves nothing that another one cannot go on with."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker_backend_mongodb import MongoBackend
from anybroker_backend_mongodb.documents import MEMBERS
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.brokers.mongodb.dying import Deaths

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def backend(deaths: Deaths) -> Iterator[MongoBackend]:  # noqa: ARG001  it makes the calls of the backend die
    with closing(MongoBackend.from_url(service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-"))) as backend:
        backend.fetch(["x"])
        yield backend


def test_a_member_that_died_while_it_joined_counts_when_it_joins_again(deaths: Deaths, backend: MongoBackend) -> None:
    groups = list(deaths.before_each_command(lambda group: backend.join(group, "a", size=2)))
    assert len(groups) == 2, "a join is two commands"
    for group in groups:
        assert backend.join(group, "a", size=2) is False
        assert backend.join(group, "b", size=2) is True


def test_the_last_member_that_died_while_it_joined_hears_it_when_it_joins_again(
    deaths: Deaths,
    backend: MongoBackend,
) -> None:
    def join_last(group: str) -> None:
        backend.join(group, "a", size=2)
        backend.join(group, "b", size=2)

    for group in deaths.before_each_command(join_last):
        backend.join(group, "a", size=2)
        assert backend.join(group, "b", size=2) is True


def test_a_seal_that_was_interrupted_is_repeated(deaths: Deaths, backend: MongoBackend) -> None:
    for number in range(3):
        backend.join(f"death{number}", "a", size=1)
    for group in deaths.before_each_command(backend.seal):
        backend.seal(group)
        assert backend.join(group, "a", size=1) is False
        assert backend._collection(MEMBERS).find_one({"group": group}) is None


def test_everything_else_is_one_command(deaths: Deaths, backend: MongoBackend) -> None:
    batch = [Result(f"r{number}", State.SUCCEEDED, 1) for number in range(5)]
    token = backend.claim("lock", ttl=60) or ""
    for call in (
        lambda _: backend.store(batch, ttl=60),
        lambda name: backend.claim(name, ttl=60),
        lambda _: backend.release("lock", token),
        lambda _: backend.forget(["r1"]),
    ):
        assert len(list(deaths.before_each_command(call))) == 1
