"""How often one who waits looks for its results, where no change stream wakes it."""

from __future__ import annotations

import secrets
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker_backend_mongodb import MongoBackend
from anybroker_broker_mongodb.watch import POLL_CEILING
from tests.brokers.mongodb.hearing import Listener, heard_by
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.monitoring import CommandStartedEvent, CommandSucceededEvent

pytestmark = [pytest.mark.services, pytest.mark.slow]


class Looks(Listener):
    """Notes how much time lies between the end of a look and the next one."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._ended = time.monotonic()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.pauses.append(time.monotonic() - self._ended)

    def succeeded(self, event: CommandSucceededEvent) -> None:  # noqa: ARG002
        self._ended = time.monotonic()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return heard_by(Looks(), monkeypatch)


@pytest.fixture
def backend(looks: Looks) -> Iterator[MongoBackend]:
    with closing(MongoBackend.from_url(service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-", wake="poll"))) as one:
        one.fetch(["x"])
        looks.pauses.clear()
        yield one


def test_one_who_waits_looks_soon_and_then_ever_more_rarely(backend: MongoBackend, looks: Looks) -> None:
    """However long the backend has been there, and others have waited."""
    backend.wait(["other"], timeout=1.5)
    looks.pauses.clear()
    backend.wait(["mine"], timeout=2)
    assert min(looks.pauses[1:6]) < POLL_CEILING / 4
    assert len(looks.pauses) <= 14 + 4 + 3


def test_waits_in_turns_look_as_rarely_as_a_long_one(backend: MongoBackend, looks: Looks) -> None:
    """As a thread does that waits on behalf of coroutines: each turn looks when it begins, and when it ends."""
    ids, turns = ["a", "b", "c"], 15
    for _ in range(turns):
        assert backend.wait(ids, timeout=0.2) == []
        ids = ids[-2:]  # somebody has stopped waiting
    assert len(looks.pauses) <= 14 + 3 * turns
