"""A worker process and the signals: SIGTERM and SIGINT once, twice, and at awkward moments."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.core.crash.conftest import MakeSite, Process, Site

pytestmark = pytest.mark.slow
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_finishes_what_runs_and_gives_the_rest_back(site: Site, number: signal.Signals) -> None:
    for task in range(6):
        site.send("hold", task, "go")
    worker = site.worker(concurrency=2, lease=60)
    until(lambda: len(site.lines("started")) == 2)
    worker.send(number)
    until(lambda: site.app.inspect().stats("default").ready == 4, why="the rest is given back")
    assert worker.process.poll() is None
    site.flag("go")
    assert worker.wait(10) == 0
    assert len(site.lines("finished")) == 2
    stats = site.app.inspect().stats("default")
    assert (stats.ready, stats.leased) == (4, 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_gives_everything_back_at_once(site: Site, number: signal.Signals) -> None:
    site.send("hold", 1, "never")
    worker = site.worker(concurrency=1, lease=60, grace=60)
    until(lambda: site.lines("started"))
    worker.send(number)
    until(lambda: "stopping" in worker.log)
    assert worker.process.poll() is None
    worker.send(number)
    assert worker.wait(30) == 0, "long before the grace time is over"
    stats = site.app.inspect().stats("default")
    assert (stats.ready, stats.leased) == (1, 0), "others have it now, not after the lease"


def test_after_the_grace_time_it_stops_by_itself(site: Site) -> None:
    site.send("hold", 1, "never")
    worker = site.worker(concurrency=1, lease=60, grace=0.3)
    until(lambda: site.lines("started"))
    worker.send(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert site.app.inspect().stats("default").ready == 1


def test_an_idle_worker_exits_soon(site: Site) -> None:
    worker = site.worker()
    until(lambda: worker.ready)
    worker.send(signal.SIGTERM)
    assert worker.wait(10) == 0


def test_the_command_without_child_processes_stops_likewise(site: Site) -> None:
    for task in range(3):
        site.send("hold", task, "go")
    worker = site.command("--concurrency", "2")
    until(lambda: len(site.lines("started")) == 2, within=60)
    assert {words[2] for words in site.lines("started")} == {str(worker.pid)}
    worker.send(signal.SIGTERM)
    until(lambda: site.app.inspect().stats("default").ready == 1)
    site.flag("go")
    assert worker.wait(10) == 0
    assert len(site.lines("finished")) == 2


def test_two_signals_in_quick_succession_at_any_moment(site: Site) -> None:
    """A handler must not wait for what the main thread holds."""

    def stop_impatiently(worker: Process, number: signal.Signals) -> None:
        until(lambda: worker.ready)
        for _ in range(50):
            if worker.process.poll() is None:
                worker.send(number)
        assert worker.wait(10) == 0, worker.log

    for number in SIGNALS * 2:
        stop_impatiently(site.worker(grace=30), number)


def test_a_worker_under_load_loses_and_repeats_nothing(site: Site) -> None:
    """Stopped and started again and again, politely: each task runs once."""
    number = 2000
    site.app.send_many([site.app.signature("note", [task], {}) for task in range(number)])

    def work_a_little(worker: Process) -> None:
        progress = len(site.lines("note")) + 150
        until(lambda: len(site.lines("note")) >= progress or not site.left())
        worker.send(signal.SIGTERM)
        assert worker.wait(10) == 0

    for _ in range(50):
        if site.left():
            work_a_little(site.worker(concurrency=4))
    noted = [int(words[1]) for words in site.lines("note")]
    assert sorted(noted) == list(range(number))


def test_a_misconfigured_worker_says_so_and_exits_with_2(make_site: MakeSite) -> None:
    site = make_site()
    worker = site.worker(queues="default.dead")
    assert worker.wait(20) == 2
    assert worker.log.strip().splitlines()[-1].startswith("error: 'default.dead' is a dead-letter queue")


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_process_that_a_task_forks_is_ended_by_a_signal(site: Site, processes: str) -> None:
    """It is no worker, which would only take note of it; and the worker itself goes on."""
    worker = site.command("--processes", processes, "--concurrency", "2")
    until(lambda: worker.ready)
    for _ in range(5):
        site.send("end_child")
    site.until(lambda: len(site.lines("child")) == 5)
    assert site.lines("child") == [["child", str(-signal.SIGTERM)]] * 5
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0
