"""Every law of a broker, on subscriptions of both kinds."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.pubsub.server import Url, pubsub

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestPubSubBroker(BrokerConformance):
    url = Url("&ack_deadline=10")
    server = pubsub


class TestPubSubExactlyOnce(BrokerConformance):
    url = Url("&ack_deadline=10&exactly_once=yes")
    server = pubsub
