"""What a real MongoDB refuses and its stand-in does not."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import Any

import pytest
from pymongo import monitoring

from anybroker.backend import Result, State
from anybroker_backend_mongodb import MongoBackend
from tests.live import service

pytestmark = [pytest.mark.services, pytest.mark.slow]


class Upserts(monitoring.CommandListener):
    """Keeps the filters of all upserts."""

    def __init__(self) -> None:
        self.filters: list[Any] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command = event.command
        for update in [*command.get("updates", []), command]:
            if update.get("upsert"):
                self.filters.append(update.get("q", update.get("query")))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def test_no_upsert_has_an_expression_in_its_filter() -> None:
    """MongoDB: "$expr is not allowed in the query predicate for an upsert" (error 224)."""
    upserts = Upserts()
    monitoring.register(upserts)
    url = service("mongodb").url(prefix=f"u{secrets.token_hex(4)}", appname=secrets.token_hex(4))
    try:
        with closing(MongoBackend.from_url(url)) as backend:
            for ttl in (0.001, 60.0):
                assert backend.store([Result("1", State.SUCCEEDED, 1, b"")], ttl=ttl) == [True]
                assert backend.claim("lock", ttl=ttl)
                backend.join("group", "member", size=2)
                backend.seal("group")
    finally:
        monitoring._LISTENERS.command_listeners.remove(upserts)
    assert len(upserts.filters) >= 8
    assert "$expr" not in str(upserts.filters)
