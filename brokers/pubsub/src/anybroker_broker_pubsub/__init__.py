"""Google Cloud Pub/Sub as a broker for anybroker: ``pubsub://project/``."""

from anybroker_broker_pubsub.broker import PubSubBroker

__all__ = ["PubSubBroker"]
