"""What the tests of MongoDB share."""

from tests.brokers.mongodb.dying import deaths  # noqa: F401  a fixture
