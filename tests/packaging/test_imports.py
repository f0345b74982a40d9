"""What a package imports, and what it must not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packaging.conftest import Member

HOSTS = {"pydantic", "pytest"}
"""Supported where a user has them, never required."""

TOO_MUCH_FOR_A_PRODUCER = (
    "asyncio",
    "click",
    "concurrent.futures",
    "email",
    "http",
    "importlib.metadata",
    "logging.config",
    "multiprocessing",
    "pydantic",
    "pytest",
    "rich",
    "socket",
    "sqlite3",
    "ssl",
    "tomllib",
    "typer",
    "unittest",
    "yaml",
)
"""What ``import anybroker`` does without: it costs time, and a program that only sends tasks does not use it."""


@pytest.mark.slow
def test_every_import_is_declared(member: Member) -> None:
    providers = packages_distributions()
    declared = {normalized(name) for name in member.dependencies} | HOSTS
    undeclared = {
        f"{path.relative_to(member.folder)}: {name}"
        for path in member.source.rglob("*.py")
        for name in imported(path)
        if name not in sys.stdlib_module_names and name != member.module
        if declared.isdisjoint(normalized(provider) for provider in providers.get(name, [name]))
    }
    assert undeclared == set()


@pytest.mark.slow
def test_every_dependency_is_imported(member: Member) -> None:
    """Those of its extras that are adapters are found through entry points."""
    providers = packages_distributions()
    names = {name for path in member.source.rglob("*.py") for name in imported(path)}
    used = {normalized(provider) for name in names for provider in providers.get(name, [name])}
    declared = {normalized(name) for name in member.dependencies if not name.startswith("anybroker-")}
    assert declared <= used


@pytest.mark.parametrize("module", TOO_MUCH_FOR_A_PRODUCER)
def test_import_anybroker_leaves_out(module: str, imported_with_anybroker: frozenset[str]) -> None:
    assert module not in imported_with_anybroker


@pytest.fixture(scope="module")
def imported_with_anybroker() -> frozenset[str]:
    code = "import sys, anybroker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    names = frozenset(done.stdout.split())
    assert "anybroker" in names
    return names


def imported(path: Path) -> Iterator[str]:
    """The top-level names of all that a file imports from outside its package, wherever it does."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
