"""Every law of a broker, on subscriptions of every kind."""

from __future__ import annotations

import pytest

from anybroker_conformance import BrokerConformance
from tests.brokers.pubsub.server import OwnPrefix, pubsub, stand_in

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestPubSubBroker(BrokerConformance):
    url = OwnPrefix(pubsub, ack_deadline=10)
    server = pubsub


class TestPubSubExactlyOnce(BrokerConformance):
    url = OwnPrefix(pubsub, ack_deadline=10, exactly_once="yes")
    server = pubsub


class TestPubSubOrdered(BrokerConformance):
    url = OwnPrefix(stand_in, ack_deadline=10, ordering="yes", retention="31d")
    server = stand_in
