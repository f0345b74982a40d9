"""The networked reference keeps every law of a backend, also when its connections are cut and its server is killed."""

from __future__ import annotations

import pytest

from anybroker_conformance import BackendConformance
from anybroker_conformance.backend.networked import BackendServer, TcpBackend

pytestmark = pytest.mark.slow


class TestTcpBackend(BackendConformance):
    server = BackendServer()
    url = server.url

    def connect(self) -> TcpBackend:
        return TcpBackend.from_url(self.url)
