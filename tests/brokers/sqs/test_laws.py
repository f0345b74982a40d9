"""Every law of a broker, on standard queues."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.live import Url, service

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestSqsBroker(BrokerConformance):
    url = Url(service("sqs"))
    server = service("sqs")


class TestSqsFifoBroker(BrokerConformance):
    url = Url(service("sqs"), fifo="yes")
    server = service("sqs")
