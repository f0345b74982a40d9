"""The pytest fixture ``anybroker_testing``: testing mode for one test.

::

    def test_welcome(anybroker_testing):
        t = anybroker_testing(app)
        sign_up("ada@example.org")
        t.assert_enqueued(welcome, "ada@example.org")
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.app import App
    from anybroker.testing import Testing


@pytest.fixture
def anybroker_testing() -> Iterator[Callable[[App], Testing]]:
    """A function that puts an app into testing mode until the end of the test."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(app.testing())
