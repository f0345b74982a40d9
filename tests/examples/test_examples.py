"""Every example runs and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTPUT = {
    "quickstart.py": "5\n",
    "retries.py": "fetched: https://example.org, at the 3rd attempt\n",
    "job.py": "price\ncharge, attempt 1\ncharge, attempt 2\nconfirm\norder 7: 19.00 paid, receipt R-7\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUT)
def test_example(name: str) -> None:
    ran = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=60, check=True)
    assert OUTPUT[name] in ran.stdout


@pytest.mark.slow
def test_the_tests_of_the_testing_example(tmp_path: Path) -> None:
    where = [f"--rootdir={EXAMPLES / 'testing'}", "-c", os.devnull, "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *where, str(EXAMPLES / "testing")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(OUTPUT)
