"""A lock that ends while somebody claims it."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker_backend_mongodb import MongoBackend
from anybroker_backend_mongodb.documents import LOCKS
from tests.brokers.mongodb.hearing import Listener, heard_by
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.monitoring import CommandStartedEvent

pytestmark = [pytest.mark.services, pytest.mark.slow]


class BeforeDelete(Listener):
    """Does something once, before the next ``delete`` is sent."""

    def __init__(self) -> None:
        self.act: Callable[[], object] | None = None
        self.has_acted = False

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "delete" and self.act is not None:
            act, self.act = self.act, None
            act()
            self.has_acted = True


@pytest.fixture
def before_delete(monkeypatch: pytest.MonkeyPatch) -> BeforeDelete:
    return heard_by(BeforeDelete(), monkeypatch)


def test_a_lock_that_the_ttl_monitor_removes_meanwhile_is_free(before_delete: BeforeDelete) -> None:
    """Between the insert that failed because of it, and the ``delete`` of what has expired."""
    with closing(MongoBackend.from_url(service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-"))) as backend:
        assert backend.claim("lock", ttl=3600)
        before_delete.act = lambda: backend._collection(LOCKS).delete_one({"_id": "lock"})
        token = backend.claim("lock", ttl=60)
        assert before_delete.has_acted
        assert token
        assert backend.claim("lock", ttl=60) is None
        assert backend.release("lock", token)


def test_a_lock_that_another_one_takes_meanwhile_is_held(before_delete: BeforeDelete) -> None:
    with closing(MongoBackend.from_url(service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-"))) as backend:
        assert backend.claim("lock", ttl=3600)
        theirs: list[str | None] = []

        def take() -> None:
            backend._collection(LOCKS).delete_one({"_id": "lock"})
            theirs.append(backend.claim("lock", ttl=60))

        before_delete.act = take
        assert backend.claim("lock", ttl=60) is None
        [token] = theirs
        assert backend.release("lock", token or "")
