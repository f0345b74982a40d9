"""What the tests of MongoDB share."""

from tests.brokers.mongodb.dying import deaths
from tests.brokers.mongodb.long_laws import pytest_collection_modifyitems

__all__ = ["deaths", "pytest_collection_modifyitems"]
