from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker import App
    from anybroker.testing import Testing


@pytest.fixture(autouse=True)
def _prompt_stop(prompt_stop: None) -> None:
    """Workers stop at once."""


@pytest.fixture
def t(app: App) -> Iterator[Testing]:
    """The app in testing mode: nothing runs before ``t.run()``, no time passes before ``t.advance()``."""
    with app.testing() as testing:
        yield testing
