"""A folder for the state of each test, and nothing of it left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import VARIABLE, State

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the services' state; short, for the path of a socket is."""
    with TemporaryDirectory(prefix="services") as parent:
        folder = Path(parent) / "state"
        monkeypatch.setenv(VARIABLE, str(folder))
        yield folder
        door = Door(State(folder))
        door.down(door.state.entries())
        assert not folder.exists()


@pytest.fixture
def command(folder: Path) -> Command:  # noqa: ARG001  the command finds it in the environment
    """Run ``python -m anybroker_conformance.services``."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "anybroker_conformance.services", *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    return run
