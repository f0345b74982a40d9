"""Law 11 on networked backends: the right one keeps it, each wrong one is found out."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SUITES = Path(__file__).with_name("networked_suites.py")
WRONG = [
    node.name for node in ast.parse(SUITES.read_text()).body if isinstance(node, ast.ClassDef) and node.name != "Right"
]


def run(kind: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The tests of law 11, in a pytest that knows nothing of this one."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull]
    command += ["--rootdir", str(tmp_path), "--law", "reconnects", f"{SUITES}::Test{kind}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=110)


def test_law11__the_right_one_keeps_it(tmp_path: Path) -> None:
    ran = run("Right", tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"11 reconnects\s+proven ", ran.stdout)


@pytest.mark.parametrize("kind", WRONG)
def test_law11__a_wrong_one_is_found_out(kind: str, tmp_path: Path) -> None:
    ran = run(kind, tmp_path)
    assert ran.returncode == 1, ran.stdout
    assert re.search(r"11 reconnects\s+broken", ran.stdout), ran.stdout
