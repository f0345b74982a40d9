"""The pytest plugin: options, fixtures, and what is made of a run."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anybroker_conformance.backend.subject import BackendSubject
from anybroker_conformance.reports.files import WRITERS
from anybroker_conformance.run import Run, remember
from anybroker_conformance.selection import Selection
from anybroker_conformance.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = "conformance_seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that other plugins do not have; the command ``anybroker conform`` has shorter ones."""
    group = parser.getgroup("anybroker-conformance", "conformance of brokers and result backends")
    group.addoption(
        "--law", action="append", default=[], metavar="LAWS", help="Only these laws, by number or name: --law 4,fenced"
    )
    group.addoption(
        "--conformance-seed", type=int, metavar="N", help="Draw random workloads from this seed, to replay a failure"
    )
    group.addoption(
        "--conformance-report",
        action="append",
        default=[],
        metavar="FILE",
        help="Write a report; the name ends in .json, .html or .xml (JUnit). Can be given several times",
    )
    group.addoption(
        "--conformance-strict", action="store_true", help="What cannot be tested here is a failure of the run"
    )
    group.addoption("--conformance-invocation", help="The command to name for a replay, instead of pytest")


def pytest_configure(config: pytest.Config) -> None:
    """Read the options. The seed that is drawn here is that of every pytest-xdist worker."""
    try:
        selection = Selection(config.option.law)
    except ValueError as error:
        raise pytest.UsageError(f"--law: {error}") from None
    files = [Path(name) for name in config.option.conformance_report]
    for file in files:
        if file.suffix not in WRITERS:
            raise pytest.UsageError(f"--conformance-report: {file} must end in {', '.join(WRITERS)}")
    if config.option.conformance_seed is None:
        drawn = random.SystemRandom().randrange(2**31)
        config.option.conformance_seed = getattr(config, "workerinput", {}).get(SEED, drawn)
    config.pluginmanager.register(Run(config, selection, files), "anybroker-conformance-run")


def _seeded(request: pytest.FixtureRequest) -> Any:
    """The suite of a test, an instance of the author's class, with the seed of the run."""
    suite: Any = request.instance
    suite.seed = request.config.option.conformance_seed
    return suite


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist the seed that was drawn here."""
    node.workerinput[SEED] = node.config.option.conformance_seed


@pytest.fixture
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """The broker under test, in time that leaps where it takes a clock."""
    found = Subject(_seeded(request), tmp_path)
    yield remember(request.node, found)
    found.close()


@pytest.fixture
def realtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """The broker under test, in real time."""
    found = Subject(_seeded(request), tmp_path, realtime=True)
    yield remember(request.node, found)
    found.close()


@pytest.fixture
def new_subject(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Subject]:
    """Make the broker under test anew for each run of a random test; whoever calls it closes what it returns."""
    suite = _seeded(request)
    return lambda: remember(request.node, Subject(suite, tmp_path))


@pytest.fixture
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackendSubject]:
    """The result backend under test, in time that leaps where it takes a clock."""
    found = BackendSubject(_seeded(request), tmp_path)
    yield remember(request.node, found)
    found.close()


@pytest.fixture
def realtime_results(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackendSubject]:
    """The result backend under test, in real time."""
    found = BackendSubject(_seeded(request), tmp_path, realtime=True)
    yield remember(request.node, found)
    found.close()
