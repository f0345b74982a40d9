"""The networked reference keeps every law, also when its connections are cut and its server is killed."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from anybroker_conformance.faults.reference import TcpBroker
from anybroker_conformance.faults.reference.process import ReferenceServer

pytestmark = pytest.mark.slow


class TestTcpBroker(BrokerConformance):
    server = ReferenceServer()
    url = server.url

    def connect(self) -> TcpBroker:
        assert self.url
        return TcpBroker.from_url(self.url)
