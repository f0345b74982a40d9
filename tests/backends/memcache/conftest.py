"""What the tests of memcached share."""

from tests.brokers.mongodb.long_laws import pytest_collection_modifyitems

__all__ = ["pytest_collection_modifyitems"]
