"""``anybroker call``, with real workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.core.cli.conftest import Project

pytestmark = pytest.mark.slow

APP = ("--app", "tasks:app")
URL = ("--url", "sqlite:///tasks.db")


@pytest.fixture
def worked(project: Project) -> Iterator[Project]:
    """A project with a worker."""
    worker = project.start("worker", "tasks:app")
    worker.wait_for("queues default")
    yield project
    assert worker.stop() == 0


def test_call_prints_the_result(worked: Project) -> None:
    done = worked.run("call", "tasks.add", "2", "3", *APP)
    assert (done.returncode, done.stdout) == (0, "5\n")


def test_call_of_a_task_of_another_program(worked: Project) -> None:
    assert worked.json("call", "tasks.add", "2", "3", *URL)["result"] == 5


def test_failed_task_is_exit_code_1_with_its_traceback(worked: Project) -> None:
    done = worked.run("call", "tasks.fail", "no luck", *APP)
    assert done.returncode == 1
    assert done.stderr.startswith("error: task tasks.fail")
    assert 'tasks.py", line' in done.stderr
    shown = worked.run("call", "tasks.fail", "no luck", *APP, "--json")
    assert shown.returncode == 1
    answer = json.loads(shown.stdout)
    assert (answer["state"], answer["error"]["type"]) == ("failed", "ValueError")
    assert "no luck" in answer["error"]["traceback"]


def test_result_that_does_not_come_is_exit_code_4(project: Project) -> None:
    done = project.run("call", "tasks.add", "2", "3", "--timeout", "50ms", *APP)
    assert done.returncode == 4
    assert "no result within 0.05 s" in done.stderr


def test_call_without_results_sends_nothing(project: Project) -> None:
    assert project.run("call", "tasks.quiet", *APP).returncode == 2
    assert project.run("call", "tasks.add", "2", "3", *APP, ANYBROKER_RESULTS_URL="none").returncode == 2
    assert project.json("queues", *APP) == []
