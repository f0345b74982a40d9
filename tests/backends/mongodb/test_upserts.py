"""What a real MongoDB refuses and its stand-in does not."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.backend import Result, State
from anybroker_backend_mongodb import MongoBackend
from tests.brokers.mongodb.hearing import Listener, heard_by
from tests.live import service

if TYPE_CHECKING:
    from pymongo.monitoring import CommandStartedEvent

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
