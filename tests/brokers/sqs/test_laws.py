"""Every law of a broker, on standard queues."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.sqs.live import LiveServer, LiveUrl

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestSqsBroker(BrokerConformance):
    url = LiveUrl()  # type: ignore[assignment]  # a text when it is read
    server = LiveServer()
