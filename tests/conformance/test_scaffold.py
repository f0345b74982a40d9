"""``anybroker new-adapter``: what it writes installs, registers its scheme, and fails law by law, as it is to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from anybroker.cli.root import root

if TYPE_CHECKING:
    from typer.testing import Result

ROOT = Path(__file__).parents[2]
PACKAGE = "anybroker-broker-nats"
WRITTEN = {
    ".github/workflows/ci.yml",
    "README.md",
    "pyproject.toml",
    "src/anybroker_broker_nats/__init__.py",
    "src/anybroker_broker_nats/broker.py",
    "src/anybroker_broker_nats/py.typed",
    "tests/test_conformance.py",
}
LOAD = """
from anybroker.loading import known_schemes, load_broker

broker = load_broker("nats://localhost:4222?max_body=7")
print(type(broker).__module__, type(broker).__name__, broker.capabilities.max_body, "nats" in known_schemes("broker"))
"""
LONGEST = 280.0
"""Seconds that a command may take on a busy machine."""
FEW = "when_nobody_is_connected or law05_fenced__after_close or an_eta_without_time_zone"
"""Tests of laws 1, 5 and 15; each that fails takes seconds."""


def new_adapter(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["new-adapter", *arguments])


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def adapter(here: Path) -> Path:
    """The package that was written."""
    done = new_adapter("nats")
    assert done.exit_code == 0, done.output
    return here / PACKAGE


@pytest.fixture
def installed(adapter: Path, tmp_path: Path) -> dict[str, str]:
    """The environment in which the package is installed: built from its source, without an index."""
    uv = os.environ.get("UV") or shutil.which("uv") or shutil.which(ROOT / ".tools/bin/uv")
    assert uv, "uv is needed to build a package: run `make test`"
    target = tmp_path / "site"
    run(adapter, uv, "pip", "install", "--quiet", "--no-index", "--no-deps", "--python", sys.executable,
        "--target", str(target), str(adapter))  # fmt: skip
    return {"PYTHONPATH": str(target)}


def run(
    folder: Path, *command: str, exit_code: int = 0, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert done.returncode == exit_code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_writes_a_package_and_says_what_is_next(here: Path) -> None:
    done = new_adapter("nats")
    assert files_below(here / PACKAGE) == WRITTEN
    assert {f"wrote {PACKAGE}/{name}" for name in WRITTEN} <= set(done.output.splitlines())
    assert f"cd {PACKAGE}" in done.output
    project = tomllib.loads((here / PACKAGE / "pyproject.toml").read_text())["project"]
    assert project["name"] == PACKAGE
    assert project["entry-points"]["anybroker.brokers"] == {"nats": "anybroker_broker_nats:NatsBroker"}


def test_leaves_no_placeholder(adapter: Path) -> None:
    for name in WRITTEN:
        text = (adapter / name).read_text()
        assert "$" not in text, name
        assert "NAME" not in text, name


def test_writes_into_a_directory_of_choice(here: Path) -> None:
    (here / "somewhere").mkdir()
    (here / "somewhere" / ".git").write_text("kept")
    assert new_adapter("nats", "--directory", "somewhere").exit_code == 0
    assert files_below(here / "somewhere") == WRITTEN | {".git"}


@pytest.mark.parametrize(
    "name", ["", "Nats", "my-broker", "my_broker", "2fast", "na ts", "class", "../up", "a/b", "naïve", "nats://", "n\n"]
)
def test_refuses_what_is_no_scheme(here: Path, name: str) -> None:
    done = new_adapter(name)
    assert done.exit_code == 2
    assert f"{name!r} is no scheme" in done.output
    assert list(here.parent.joinpath("up").glob("*")) == list(here.iterdir()) == []


@pytest.mark.parametrize("there", sorted(WRITTEN))
def test_overwrites_nothing_and_then_writes_nothing(here: Path, there: str) -> None:
    (here / PACKAGE / there).parent.mkdir(parents=True)
    (here / PACKAGE / there).write_text("mine")
    done = new_adapter("nats")
    assert done.exit_code == 2
    assert f"{PACKAGE}/{there} is there already; nothing was written" in done.output
    assert files_below(here) == {f"{PACKAGE}/{there}"}
    assert (here / PACKAGE / there).read_text() == "mine"


def test_says_where_it_cannot_write(here: Path) -> None:
    (here / "file").write_text("in the way")
    done = new_adapter("nats", "--directory", "file/package")
    assert done.exit_code == 2
    assert "cannot be written" in done.output
    assert files_below(here) == {"file"}


def test_its_workflow_is_one(adapter: Path) -> None:
    workflow = yaml.safe_load((adapter / ".github/workflows/ci.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    job = workflow["jobs"]["conformance"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert any("pip install" in each for each in commands)
    assert any(each.startswith("pytest") for each in commands)
    assert job["timeout-minutes"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_installs_and_registers_its_scheme(adapter: Path, installed: dict[str, str]) -> None:
    done = run(adapter, sys.executable, "-c", LOAD, variables=installed)
    assert done.stdout.split() == ["anybroker_broker_nats.broker", "NatsBroker", "7", "True"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_suite_runs_and_fails_law_by_law(adapter: Path, installed: dict[str, str]) -> None:
    options = ["-k", FEW, "--conformance-report", "report.json", "-p", "no:cacheprovider"]
    run(adapter, sys.executable, "-m", "pytest", *options, exit_code=1, variables=installed)
    report = json.loads((adapter / "report.json").read_text())
    assert (report["adapter"], report["kind"], report["verdict"]) == ("nats", "broker", "broken")
    assert {law["law"]: law["status"] for law in report["laws"]} == {1: "broken", 5: "broken", 15: "proven"}
    failures = [failure for law in report["laws"] for failure in law["failures"]]
    assert [failure["traceback"] for failure in failures] == [[] for _ in failures], "it fails by no error"
    assert all(failure["timeline"] for failure in failures)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_runs_the_same_laws(adapter: Path, installed: dict[str, str]) -> None:
    conform = [str(Path(sys.executable).parent / "anybroker"), "conform", "nats://localhost", "-k", FEW]
    done = run(adapter, *conform, "--law", "5", exit_code=1, variables=installed)
    assert "Law 5, fenced" in done.stdout
    assert "1 law of 1 broken" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_is_clean_under_a_strict_type_checker(adapter: Path, tmp_path: Path) -> None:
    done = run(adapter, sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "mypy"), "src", "tests")
    assert "no issues found" in done.stdout
