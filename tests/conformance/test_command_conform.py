"""``anybroker conform``: no test file, no influence of where it is run, exit codes that mean something."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXECUTABLE = Path(sysconfig.get_path("scripts")) / "anybroker"
SMALL = ("--law", "5", "-k", "after_redelivery")


def conform(
    folder: Path, *arguments: str, exit_code: int = 0, variables: dict[str, str] | None = None
) -> tuple[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [EXECUTABLE, "conform", *arguments],
        cwd=folder,
        env=environment | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == exit_code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    return f"sqlite:///{tmp_path}/data/laws.db"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A project whose configuration of pytest would spoil everything."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "conftest.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    (folder / "test_own.py").write_text("def test_own(): assert False\n", encoding="utf-8")
    (folder / "by_url.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_proves_laws_and_writes_reports(elsewhere: Path, url: str) -> None:
    spoilt = {"PYTEST_ADDOPTS": "--no-such-option", "PYTEST_PLUGINS": "no_such_plugin"}
    before = sorted(elsewhere.iterdir())
    reports = ("--report", "../out/r.json", "--report", "../out/r.html", "--report", "../out/r.xml")
    said, _ = conform(elsewhere, url, *SMALL, "--seed", "7", *reports, variables=spoilt)
    assert "TestBroker: sqlite broker" in said
    assert "✓  5 fenced" in said
    assert "Seed 7." in said
    assert sorted(elsewhere.iterdir()) == before, "it leaves traces"
    found = json.loads((elsewhere / "../out/r.json").read_text(encoding="utf-8"))
    assert (found["adapter"], found["seed"], found["verdict"], found["url"]) == ("sqlite", 7, "proven", url)
    assert (elsewhere / "../out/r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (elsewhere / "../out/r.xml").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.slow
def test_proves_those_of_a_backend(tmp_path: Path, url: str) -> None:
    said, _ = conform(tmp_path, url, "--backend", "--law", "gone", "--seed", "7")
    assert "TestBackend: sqlite backend" in said
    assert "  4 gone" in said


BROKEN = """
from anybroker.memory import MemoryBroker


class Broken(MemoryBroker):
    @classmethod
    def from_url(cls, url):
        if "away" in url:
            from anybroker.errors import BrokerUnavailable
            raise BrokerUnavailable("nobody answers at broken://me:secret@host")
        if "none" in url:
            return object()
        return cls(name="shared")

    def ack(self, deliveries):
        super().ack(deliveries)
        return [True for _ in deliveries]
"""


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has installed a broken adapter."""
    site = tmp_path / "site"
    (site / "broken-1.0.dist-info").mkdir(parents=True)
    (site / "broken.py").write_text(BROKEN, encoding="utf-8")
    (site / "broken-1.0.dist-info" / "METADATA").write_text("Name: broken\nVersion: 1.0\n", encoding="utf-8")
    entry = "[anybroker.brokers]\nbroken = broken:Broken\n"
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_text(entry, encoding="utf-8")
    return {"PYTHONPATH": str(site)}


@pytest.mark.slow
def test_a_broken_law_is_exit_code_1_and_says_how_to_replay(tmp_path: Path, broken: dict[str, str]) -> None:
    said, _ = conform(tmp_path, "broken://me:secret@host", *SMALL, "--seed", "7", exit_code=1, variables=broken)
    assert "Law 5, fenced: A settle or extend with a lost lease changes nothing and says so." in said
    assert "Broken: ack with a lost lease" in said
    assert "secret" not in said
    found = re.search(r"Seed 7; to replay: (anybroker conform broken://me:\*\*\*@host --law 5 --seed 7 -k .*)", said)
    assert found is not None
    arguments = shlex.split(found[1].replace("***", "secret"))[2:]
    replayed, _ = conform(tmp_path, *arguments, exit_code=1, variables=broken)
    assert "Broken: ack with a lost lease" in replayed


@pytest.mark.slow
def test_strictness_is_exit_code_1(tmp_path: Path) -> None:
    said, _ = conform(tmp_path, "memory://", "--law", "1", "-k", "restart", "--strict", exit_code=1)
    assert "untested, which --strict forbids: a restart of the server" in said


def test_nothing_tested_is_exit_code_5(tmp_path: Path) -> None:
    conform(tmp_path, "memory://", "-k", "no_such_test", exit_code=5)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("reddis://localhost",), 2, "error: * unknown scheme 'reddis://' * did you mean 'redis://'?*"),
        (("no url",), 2, "error: *"),
        (("broken://none",), 2, "error: this broker cannot be tested: object has no method enqueue()*"),
        (("broken://me:secret@away",), 3, "error: this broker cannot be tested: *nobody answers at broken://me:*@host"),
        (("memory://", "--law", "fencd"), 2, "*there is no law 'fencd'; did you mean 'fenced'?*"),
        (("memory://", "--report", "out.txt"), 2, "*--report: out.txt must end in .json, .html, .xml*"),
        (("memory://", "-n", "many"), 2, "*'many' is neither a number nor auto*"),
        ((), 2, "*Missing argument 'URL'*"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    tmp_path: Path, broken: dict[str, str], arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    out, errors = conform(tmp_path, *arguments, exit_code=exit_code, variables=broken)
    pytest.LineMatcher([errors.strip().replace("\n", " ")]).fnmatch_lines([said])
    assert "Traceback" not in errors + out
    assert "secret" not in errors + out
    if errors.startswith("error:"):
        assert errors.count("\n") == 1


@pytest.mark.slow
def test_several_processes(elsewhere: Path, url: str) -> None:
    said, _ = conform(elsewhere, url, *SMALL, "-n", "2", "--report", "../r.json")
    [law] = json.loads((elsewhere / "../r.json").read_text(encoding="utf-8"))["laws"]
    assert law["status"] == "proven"
    assert f"{law['tests']} passed" in said


def test_help_has_an_example() -> None:
    said, _ = conform(Path.cwd(), "--help")
    assert "anybroker conform redis://localhost --report report.html" in said
    assert "Exit codes:" in said
