"""``anybroker bench``: every figure, and a clean place afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anybroker.loading import load_broker

if TYPE_CHECKING:
    from tests.core.cli.conftest import Install, Project

pytestmark = pytest.mark.slow

FIGURES = {
    "enqueue_per_second",
    "bulk_per_second",
    "drain_per_second",
    "pipeline_per_second",
    "round_trip_p50_ms",
    "round_trip_p99_ms",
    "fan_out_per_second",
    "rss_mb",
}


@pytest.mark.parametrize("url", ["memory://", "sqlite:///bench.db"])
def test_prints_every_figure(project: Project, url: str) -> None:
    figures = project.json("bench", url, "--tasks", "1000")
    assert figures.pop("url") == url
    assert figures.pop("tasks") == 1000
    assert set(figures) == FIGURES
    assert all(value > 0 for value in figures.values()), figures
    assert figures["round_trip_p50_ms"] <= figures["round_trip_p99_ms"]


def test_without_a_result_backend_there_are_no_round_trips(project: Project) -> None:
    figures = project.json("bench", "memory://", "--results-url", "none", "--tasks", "100")
    absent = {name for name, value in figures.items() if value is None}
    assert absent == {"round_trip_p50_ms", "round_trip_p99_ms", "fan_out_per_second"}


def test_leaves_no_message_and_no_result(project: Project) -> None:
    done = project.run("bench", "sqlite:///bench.db", "--tasks", "100")
    assert done.returncode == 0
    assert "drain per second" in done.stdout
    assert done.stderr == ""
    broker = load_broker(f"sqlite:///{project.directory}/bench.db")
    assert broker.queues() == []  # type: ignore[attr-defined]
    broker.close()


def test_bench_on_a_broker_that_is_down_is_exit_code_3(project: Project, broken_services: None) -> None:  # noqa: ARG001
    done = project.run("bench", "down://", "--results-url", "none")
    assert (done.returncode, done.stderr) == (3, "error: down://: connection refused\n")


def test_worker_process_that_dies_is_an_error(project: Project, install: Install) -> None:
    code = """
import os, sys
from anybroker.sqlite import SqliteBroker
class Fatal(SqliteBroker):
    @classmethod
    def from_url(cls, url):
        return super().from_url("sqlite:///fatal.db")
    def acquire(self, queues, **options):
        if "anybroker.cli.bench_worker" in sys.orig_argv:
            os._exit(9)
        return super().acquire(queues, **options)
"""
    install("fatal", "fatal_broker", code, "[anybroker.brokers]\nfatal = fatal_broker:Fatal\n")
    done = project.run("bench", "fatal://", "--results-url", "none", "--tasks", "10")
    assert (done.returncode, done.stderr) == (1, "error: the worker process died\n")
