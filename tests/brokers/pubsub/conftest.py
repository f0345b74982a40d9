"""Ends the server when the tests are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.brokers.pubsub.server import pubsub

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    pubsub.end()
