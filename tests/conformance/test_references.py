"""The embedded brokers and result backends keep every law, and so do the ledger's right brokers of other kinds."""

from __future__ import annotations

import atexit
import tempfile
from typing import TYPE_CHECKING

import pytest

from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker_conformance import BackendConformance, BrokerConformance
from anybroker_conformance.ledger.by_key import PerKey
from anybroker_conformance.ledger.telling import Telling

if TYPE_CHECKING:
    from anybroker.clock import Clock

SCRATCH = tempfile.TemporaryDirectory()
atexit.register(SCRATCH.cleanup)


class TestMemoryBroker(BrokerConformance):
    def connect_by(self, clock: Clock) -> MemoryBroker:
        return MemoryBroker(name=self.namespace, clock=clock)


@pytest.mark.slow
class TestBrokerOfKeys(BrokerConformance):
    def connect_by(self, clock: Clock) -> PerKey:
        return PerKey(name=self.namespace, clock=clock)


@pytest.mark.slow
class TestBrokerWithAnOverview(BrokerConformance):
    def connect_by(self, clock: Clock) -> Telling:
        return Telling(name=self.namespace, clock=clock)


@pytest.mark.slow
class TestSqliteBroker(BrokerConformance):
    url = f"sqlite:///{SCRATCH.name}/laws.db"


@pytest.mark.slow
class TestMemoryBackend(BackendConformance):
    def connect_by(self, clock: Clock) -> MemoryBackend:
        return MemoryBackend(name=self.namespace, clock=clock)


@pytest.mark.slow
class TestSqliteBackend(BackendConformance):
    url = f"sqlite:///{SCRATCH.name}/results.db"
