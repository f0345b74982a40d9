"""Every law of a broker, on subscriptions of both kinds."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.pubsub.server import OwnPrefix, pubsub

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestPubSubBroker(BrokerConformance):
    url = OwnPrefix(pubsub, ack_deadline=10)
    server = pubsub


class TestPubSubExactlyOnce(BrokerConformance):
    url = OwnPrefix(pubsub, ack_deadline=10, exactly_once="yes")
    server = pubsub
