"""``anybroker worker --processes``: children that die are replaced, and none outlives its supervisor."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.crash.conftest import MakeSite, Process, Site

pytestmark = pytest.mark.slow
NAMELESS = getattr(signal, "SIGRTMIN", signal.SIGUSR1) + 1
"""A real-time signal, where there are any."""


@pytest.fixture
def supervised(site: Site) -> Callable[..., Process]:
    """Start a supervisor and wait until its children work."""

    def start(*arguments: str) -> Process:
        supervisor = site.command("--processes", "2", "--concurrency", "2", *arguments)
        until(lambda: supervisor.ready and supervisor.log.count("queues default") == 2, within=30)
        return supervisor

    return start


def children(site: Site, flag: str = "go") -> set[int]:
    """The processes that run four tasks which hold all four places."""
    known = len(site.lines("started"))
    for number in range(known, known + 4):
        site.send("hold", number, flag)
    until(lambda: len(site.lines("started")) == known + 4, within=60)
    return {int(words[2]) for words in site.lines("started")[known:]}


def test_two_processes_share_the_work_and_stop_with_their_supervisor(
    site: Site, supervised: Callable[..., Process], alive: Callable[[int], bool]
) -> None:
    supervisor = supervised()
    pids = children(site)
    assert len(pids) == 2
    assert supervisor.pid not in pids
    supervisor.send(signal.SIGTERM)
    time_to_object = time.monotonic() + 0.5
    until(lambda: time.monotonic() > time_to_object)
    assert supervisor.process.poll() is None, "running tasks are finished first"
    site.flag("go")
    assert supervisor.wait(20) == 0
    assert len(site.lines("finished")) == 4
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_child_that_dies_is_replaced_and_its_task_runs_again(
    site: Site, supervised: Callable[..., Process], how: str
) -> None:
    supervisor = supervised()
    site.send("die_once", 1, how)
    until(lambda: site.lines("note", 1), within=60)
    until(lambda: supervisor.log.count("queues default") == 3, within=60)
    (victim,) = {words[2] for words in site.lines("dying")}
    assert f"worker process {victim} died" in supervisor.log
    assert ("exit code 3" if how == "exit" else "SIGKILL") in supervisor.log
    assert len(children(site)) == 2
    site.flag("go")


@pytest.mark.parametrize("number", [signal.SIGKILL, NAMELESS], ids=["SIGKILL", "one without a name"])
def test_a_child_that_is_killed_from_outside_is_replaced(
    site: Site, supervised: Callable[..., Process], number: int
) -> None:
    supervisor = supervised()
    pids = children(site)
    os.kill(min(pids), number)
    until(lambda: supervisor.log.count("queues default") == 3, within=60)
    site.flag("go")
    until(lambda: not site.left(), within=60)
    assert {int(words[1]) for words in site.lines("finished")} == set(range(4))
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait(20) == 0


def test_children_stop_by_themselves_when_their_supervisor_is_killed(
    site: Site, supervised: Callable[..., Process], alive: Callable[[int], bool]
) -> None:
    supervisor = supervised()
    pids = children(site)
    supervisor.kill()
    until(lambda: supervisor.log.count("supervisor is gone") == 2)
    site.flag("go")
    until(lambda: not any(alive(pid) for pid in pids), within=60)
    assert len(site.lines("finished")) == 4, "running tasks were finished"
    assert site.left() == 0


def test_a_second_signal_hurries_the_children_too(site: Site, supervised: Callable[..., Process]) -> None:
    supervisor = supervised("--grace", "60")
    children(site, flag="never")
    supervisor.send(signal.SIGINT)
    until(lambda: supervisor.log.count("stopping") == 2)
    supervisor.send(signal.SIGINT)
    assert supervisor.wait(10) == 0
    assert site.app.inspect().stats("default").ready == 4


def test_a_task_that_ignores_its_time_limit_costs_its_process_and_no_more(
    site: Site, supervised: Callable[..., Process], alive: Callable[[int], bool]
) -> None:
    supervised()
    handle = site.send("stuck")
    until(lambda: site.lines("stuck"))
    (pid,) = {int(words[1]) for words in site.lines("stuck")}
    notes = [site.send("note", number) for number in range(20)]
    until(lambda: not alive(pid), within=20, why="the process is replaced")
    assert handle.status.final
    until(lambda: not site.left(), within=60)
    assert len(site.lines("note")) == len(notes)
    assert len(children(site)) == 2
    site.flag("go")


def test_a_poison_message_under_supervision(make_site: MakeSite) -> None:
    site = make_site(max_deliveries=3)
    for number in range(10):
        site.send("note", number)
    site.send("die", 99, "exit")
    site.command("--processes", "2")
    until(lambda: not site.left(), within=60)
    assert site.left("default.dead") == 1
    assert {int(words[1]) for words in site.lines("note")} == set(range(10))
    assert len(site.lines("dying")) == 3


def test_a_misconfigured_worker_is_not_started_again_and_again(site: Site) -> None:
    supervisor = site.command("--processes", "2", "--queues", "default.dead")
    assert supervisor.wait(30) == 2
    assert "dead-letter queue" in supervisor.log
