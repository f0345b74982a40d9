"""The embedded brokers and result backends keep every law."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker_conformance import BackendConformance, BrokerConformance

if TYPE_CHECKING:
    from anybroker.clock import Clock


class TestMemoryBroker(BrokerConformance):
    def connect_by(self, clock: Clock) -> MemoryBroker:
        return MemoryBroker(name=self.namespace, clock=clock)


class TestSqliteBroker(BrokerConformance):
    url = f"sqlite:///{Path(tempfile.mkdtemp())}/laws.db"


class TestMemoryBackend(BackendConformance):
    def connect_by(self, clock: Clock) -> MemoryBackend:
        return MemoryBackend(name=self.namespace, clock=clock)


class TestSqliteBackend(BackendConformance):
    url = f"sqlite:///{Path(tempfile.mkdtemp())}/results.db"
