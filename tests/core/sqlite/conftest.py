"""What the tests of the SQLite adapter share: a file, brokers and backends on it, and other processes that use it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.sqlite import SqliteBackend, SqliteBroker

if TYPE_CHECKING:
    from pathlib import Path

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def open_broker(path: Path) -> Iterator[Callable[..., SqliteBroker]]:
    """Open a broker on ``path``; it is closed after the test."""
    with ExitStack() as stack:

        def open_broker(**options: Any) -> SqliteBroker:
            return stack.enter_context(closing(SqliteBroker(path, **options)))

        yield open_broker


@pytest.fixture
def broker(open_broker: Callable[..., SqliteBroker]) -> SqliteBroker:
    return open_broker()


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        yield backend


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Run a program in another process, with the file's path as its argument and its output as a pipe."""
    with ExitStack() as stack:

        def start(program: str) -> subprocess.Popen[str]:
            process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start
