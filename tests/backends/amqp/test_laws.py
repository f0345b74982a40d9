"""Every law of a result backend, on a real RabbitMQ that is restarted and killed, and whose connections are cut."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from anybroker_conformance import BackendConformance
from tests.brokers.amqp.server import rabbitmq
from tests.live import Url

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestAmqpBackend(BackendConformance):
    url: ClassVar[Any] = Url(rabbitmq)
    server = rabbitmq
