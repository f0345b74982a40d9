"""What tests of several rooms share: addresses, and apps that are closed after the test."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture(params=["memory", "sqlite"])
def each_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """The address of either embedded broker and backend."""
    return "memory://" if request.param == "memory" else sqlite_url


@pytest.fixture
def make_app() -> Iterator[Callable[..., App]]:
    """An app that is closed after the test: ``make_app("memory://", lease=1)``."""
    with ExitStack() as stack:

        def make_app(url: str = "memory://", **settings: Any) -> App:
            return stack.enter_context(closing(App(url, **settings)))

        yield make_app


@pytest.fixture
def prompt_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an idle worker notice within milliseconds that it is to stop; it has a second for that otherwise."""
    monkeypatch.setattr("anybroker.worker.worker.WAIT", 0.05)


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """An app in memory."""
    return make_app()
