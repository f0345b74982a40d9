"""Every law of a broker, on a real RabbitMQ that is restarted and killed, and whose connections are cut."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.amqp.server import rabbitmq
from tests.live import Url

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestAmqpBroker(BrokerConformance):
    url: ClassVar[Any] = Url(rabbitmq)
    server = rabbitmq
