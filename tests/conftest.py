"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.live import end_all, revive_all

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """Say aloud which server a test has left dead, with its last words."""
    try:
        yield
    finally:
        dead = revive_all()
    if dead:
        pytest.fail("\n".join(dead), pytrace=False)


def pytest_sessionfinish() -> None:
    """Leave no server behind."""
    end_all()
