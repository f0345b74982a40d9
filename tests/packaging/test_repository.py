"""What must not get into the repository."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MACHINE_PATH = re.compile(rb"(?<![\w.~/-])/(?:root|work|(?:home|Users)/[\w.-]+)/")
"""A path that exists on the machine of whoever wrote it down."""
SILENT_SKIP = re.compile(rb"<!--+\s*;?\s*skip:\s*(?:next|start)\s*--+>")
"""An example that is left out without a reason, which would count as passed."""


@pytest.fixture(scope="module")
def texts(root: Path) -> dict[str, bytes]:
    """Every file that is tracked or about to be, by its path."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    return {name: (root / name).read_bytes() for name in listed if (root / name).is_file()}


def test_no_file_names_a_path_of_one_machine(texts: dict[str, bytes]) -> None:
    found = {name: match[0] for name, text in texts.items() if (match := MACHINE_PATH.search(text))}
    assert "Makefile" in texts
    assert found == {}


@pytest.mark.parametrize("before", ["", " ", '"', "=", ":"])
@pytest.mark.parametrize("top", ["root", "work", "home/me", "Users/me"])
def test_machine_paths_are_recognised(before: str, top: str) -> None:
    assert MACHINE_PATH.search(f"{before}/{top}/x".encode())


@pytest.mark.parametrize("path", [b"~/work/x", b"a/root/x", b"https://example.com/work/x", b"/var/lib/x", b"./work/x"])
def test_other_paths_are_not_mistaken(path: bytes) -> None:
    assert not MACHINE_PATH.search(path)


def test_examples_are_skipped_with_a_reason(texts: dict[str, bytes]) -> None:
    assert [name for name, text in texts.items() if name.endswith(".md") and SILENT_SKIP.search(text)] == []


def test_silent_skips_are_recognised() -> None:
    assert SILENT_SKIP.search(b"<!-- skip: next -->")
    assert not SILENT_SKIP.search(b'<!-- skip: next "needs a server" -->')
