"""Every law of a result backend, on a memcached that is restarted and killed, and whose connections are cut."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from anybroker_conformance import BackendConformance
from tests.live import Url, service

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestMemcacheBackend(BackendConformance):
    url: ClassVar[Any] = Url(service("memcached"))
    server = service("memcached")
