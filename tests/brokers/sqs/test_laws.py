"""Every law of a broker, on standard queues."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.sqs.live import LiveServer, LiveUrl

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestSqsBroker(BrokerConformance):
    url = LiveUrl()
    server = LiveServer()


class TestSqsFifoBroker(BrokerConformance):
    url = LiveUrl("&fifo=yes")
    server = LiveServer()
