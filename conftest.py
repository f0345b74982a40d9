"""Runs the Python examples of README.md and docs/ as tests.

The examples of one document share a namespace and a directory of their own. One that cannot run stands below a
visible ``<!-- skip: next "why" -->``, and is reported as skipped.
"""

from __future__ import annotations

from contextlib import chdir
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

if TYPE_CHECKING:
    from collections.abc import Iterator


# How fast examples are drawn says how busy the machine is, and nothing of what is tested.
settings.register_profile("anybroker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anybroker")


@pytest.fixture(scope="module")
def own_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the examples of one document in an empty directory."""
    with chdir(tmp_path_factory.mktemp("example")):
        yield


def name_module(namespace: dict[str, object]) -> None:
    """Tell functions and classes where they are defined, as any module does."""
    namespace["__name__"] = "example"


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    excludes=["docs/_build/**"],
    fixtures=["own_directory"],
    setup=name_module,
).pytest()
