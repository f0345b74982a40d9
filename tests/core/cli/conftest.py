"""The real executable in a directory of its own, and distributions that others might have installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from typer.testing import CliRunner

from anybroker.cli.root import root
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

EXECUTABLE = Path(sysconfig.get_path("scripts")) / "anybroker"
LONGEST = 60.0
"""Seconds that a command or a condition may take on a busy machine."""

TASKS = """
from anybroker import App

app = App("sqlite:///tasks.db")

@app.task
def add(a: int, b: int) -> int:
    return a + b

@app.task
def fail(why: str) -> None:
    raise ValueError(why)

@app.task(results=False)
def quiet() -> None:
    pass
"""


class Install(Protocol):
    def __call__(self, distribution: str, module: str, code: str, entry_points: str) -> None: ...


class Invoke(Protocol):
    def __call__(self, *arguments: str, exit_code: int = 0, **options: Any) -> Result: ...


class Running:
    """A command that goes on, and what it has written to standard error so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(self.process.stderr)

    def wait_for(self, text: str) -> None:
        until(lambda: any(text in line for line in self.lines), why=lambda: f"{text!r} in {self.lines}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(LONGEST)
        self._reader.join(LONGEST)
        assert self.process.stderr
        self.process.stderr.close()
        return code


class Project:
    """A directory with an app, and commands that run in it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self._running: list[Running] = []

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [EXECUTABLE, *arguments],
            cwd=self.directory,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, **variables: str) -> Running:
        process = subprocess.Popen(
            [EXECUTABLE, *arguments],
            cwd=self.directory,
            env=self.environment | variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(Running(process))
        return self._running[-1]

    def end(self) -> None:
        for running in self._running:
            if running.process.poll() is None:
                running.stop(signal.SIGKILL)
            else:
                running.wait()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of a user who has set none of ours, with a place for installed distributions."""
    ours = {name for name in os.environ if name.startswith("ANYBROKER_")}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"PYTHONPATH": str(tmp_path / "installed")}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[Project]:
    """An app ``tasks:app`` on SQLite, with the tasks ``add``, ``fail`` and ``quiet``."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "tasks.py").write_text(TASKS)
    project = Project(directory, environment)
    yield project
    project.end()


@pytest.fixture
def invoke(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Run a command in this process, in the directory of ``project``, and check its exit code."""
    monkeypatch.chdir(project.directory)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in os.environ:
        if name.startswith("ANYBROKER_"):
            monkeypatch.delenv(name)

    def invoke(*arguments: str, exit_code: int = 0, **options: Any) -> Result:
        sys.modules.pop("tasks", None)  # each command closes its app
        result = CliRunner().invoke(root, arguments, **options)
        assert result.exit_code == exit_code, result.output
        return result

    yield invoke
    sys.modules.pop("tasks", None)


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Lay out a distribution of one module as an installer would, where the commands of ``project`` find it."""

    def lay_out(distribution: str, module: str, code: str, entry_points: str) -> None:
        folder = tmp_path / "installed"
        info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)

    return lay_out


@pytest.fixture
def broken_services(install: Install) -> None:
    """``hang://`` never answers a call, ``down://`` refuses every one."""
    code = """
import time
from anybroker.errors import BrokerUnavailable
from anybroker.memory import MemoryBroker

class Hanging(MemoryBroker):
    @classmethod
    def from_url(cls, url):
        return cls()
    def _hang(self, *args, **kwargs):
        time.sleep(3600)
    stats = acquire = enqueue = close = _hang

class Down(Hanging):
    def _refuse(self, *args, **kwargs):
        raise BrokerUnavailable("down://: connection refused")
    stats = acquire = enqueue = _refuse
    def close(self):
        pass
"""
    install("broken-services", "broken_services", code, BROKEN)


BROKEN = "[anybroker.brokers]\nhang = broken_services:Hanging\ndown = broken_services:Down\n"
