"""The MongoDB broker: ``mongodb://`` and ``mongodb+srv://``."""

from anybroker_broker_mongodb.broker import MongoBroker

__all__ = ["MongoBroker"]
