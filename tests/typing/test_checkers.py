"""mypy and pyright on files that must type-check and on files that must not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RIGHT = HERE / "must_type_check.py"
WRONG = sorted((HERE / "must_not_type_check").glob("*.py"))

pytestmark = pytest.mark.slow


def mypy(*files: Path) -> dict[tuple[str, int], str]:
    """The first error of each line that has one, by file and line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--output=json", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(Path(each["file"]).name, each["line"]): each["message"] for each in found if each["severity"] == "error"}


def pyright(*files: Path) -> dict[tuple[str, int], str]:
    """The first error of each line that has one, by file and line."""
    # pyright looks into the environment of the first python on the PATH
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--outputjson", *map(str, files)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files)
    found = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"] for each in found}


Checker = Callable[..., dict[tuple[str, int], str]]
BOTH = pytest.mark.parametrize("checker", [mypy, pyright])


@BOTH
def test_right_code_type_checks(checker: Checker) -> None:
    assert checker(RIGHT) == {}


@BOTH
def test_each_wrong_line_is_an_error_and_no_other(checker: Checker) -> None:
    lines = [
        (file.name, number, line) for file in WRONG for number, line in enumerate(file.read_text().splitlines(), 1)
    ]
    marked = {(name, number): line for name, number, line in lines if re.search(r"# E$", line)}
    assert len(marked) > 70
    found = checker(*WRONG)
    accepted = {place: line for place, line in marked.items() if place not in found}
    unexpected = {place: message for place, message in found.items() if place not in marked}
    assert (accepted, unexpected) == ({}, {})
