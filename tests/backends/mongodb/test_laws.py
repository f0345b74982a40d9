"""Every law of a result backend, on a MongoDB server that is restarted and killed, and whose connections are cut."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from anybroker_conformance import BackendConformance
from tests.live import Url, service

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestMongoBackend(BackendConformance):
    url: ClassVar[Any] = Url(service("mongodb"))
    server = service("mongodb")
