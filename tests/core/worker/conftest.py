"""Workers beside the test, and a broker that goes away on command."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.errors import BrokerUnavailable
from anybroker.sqlite import SqliteBackend, SqliteBroker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anybroker import App


@pytest.fixture(autouse=True)
def _prompt_stop(prompt_stop: None) -> None:
    """Workers stop at once."""


class Faults:
    """Which calls fail, and how often each was made."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], None]] = {}
        """What is done before a call is let through."""
        self.log: list[str] = []
        """The calls that came through, in order."""

    def check(self, verb: str) -> None:
        self.calls[verb] += 1
        if verb in self.failing or "all" in self.failing:
            raise BrokerUnavailable(f"injected: {verb} at sqlite://user:secret@host")
        self.before.get(verb, lambda: None)()
        self.log.append(verb)


class FaultyBroker(SqliteBroker):
    """A real broker whose calls raise ``BrokerUnavailable`` on command, as when its server is away."""

    faults: Faults

    def enqueue(self, messages: Any) -> None:
        self.faults.check("enqueue")
        super().enqueue(messages)

    def acquire(self, queues: Any, *, limit: int, wait: float, lease: float) -> Any:
        self.faults.check("acquire")
        return super().acquire(queues, limit=limit, wait=wait, lease=lease)

    def ack(self, deliveries: Any) -> list[bool]:
        self.faults.check("ack")
        return super().ack(deliveries)

    def update(self, changes: Any) -> list[bool]:
        self.faults.check("update")
        return super().update(changes)

    def extend(self, deliveries: Any, *, lease: float) -> list[bool]:
        self.faults.check("extend")
        return super().extend(deliveries, lease=lease)


class FaultyBackend(SqliteBackend):
    """The same for results."""

    faults: Faults

    def store(self, results: Any, *, ttl: float | None) -> list[bool]:
        self.faults.check("store")
        return super().store(results, ttl=ttl)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def faulty_app(make_app: Callable[..., App], faults: Faults, tmp_path: Path) -> App:
    """An app on a real SQLite file whose broker and backend go away when ``faults`` says so; its lease is 1 s."""
    broker, backend = FaultyBroker(tmp_path / "tasks.db"), FaultyBackend(tmp_path / "tasks.db")
    broker.faults = backend.faults = faults
    return make_app(None, broker=broker, backend=backend, lease=1)


@pytest.fixture
def gate() -> Any:
    """An event that tasks wait for; it is set after the test, so that no thread is left behind."""
    event = threading.Event()
    yield event
    event.set()
