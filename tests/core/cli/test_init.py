"""``anybroker init``: what it makes runs, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from anybroker.cli.root import root
from tests.core.cli.conftest import LONGEST, Project

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"README.md", "anybroker.toml", "send.py", "tasks.py", "test_tasks.py"}


@pytest.fixture
def made(tmp_path: Path, environment: dict[str, str]) -> Project:
    """A new project in a directory whose parent does not exist yet."""
    project = Project(tmp_path, environment)
    done = project.run("init", "new/shop")
    assert done.returncode == 0, done.stderr
    assert "anybroker worker tasks:app" in done.stdout
    return Project(tmp_path / "new" / "shop", environment)


def run_python(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project.directory,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )


@pytest.mark.slow
def test_its_worker_and_its_sender_run(made: Project) -> None:
    assert {path.name for path in made.directory.iterdir()} == FILES
    worker = made.start("worker", "tasks:app")
    worker.wait_for("queues default")
    done = run_python(made, "send.py")
    assert (done.stdout, done.stderr) == ("2 + 3 = 5\nHello, Ada!\n", "")
    assert worker.stop() == 0


@pytest.mark.slow
def test_its_tests_pass(made: Project) -> None:
    done = run_python(made, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert not (made.directory / "anybroker.db").exists()


def test_overwrites_nothing_and_then_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "send.py").write_text("mine")
    result = CliRunner().invoke(root, ["init", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path / 'send.py'} is there already; nothing was written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["send.py"]
    assert (tmp_path / "send.py").read_text() == "mine"


def test_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(root, ["init", str(tmp_path / "file" / "shop")])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
