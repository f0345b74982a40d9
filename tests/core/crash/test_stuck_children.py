"""Children of a supervisor that end, hang or cannot be started in ways that must cost no more than themselves."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.core.crash.conftest import Process, Site

pytestmark = pytest.mark.slow

TASKS = """
import os, re
from pathlib import Path
from anybroker import App

app = App()
_record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND)

def record(*words):
    os.write(_record, (" ".join(map(str, words)) + "\\n").encode())

def first_time(name):
    flag = Path(os.environ["RECORD"]).with_name(name)
    if flag.exists():
        return False
    flag.touch()
    return True

@app.task(name="note", results=False)
def note(number):
    record("note", number, os.getpid())

@app.task(name="leave", results=False)
def leave(code):
    if first_time("left"):
        record("leaving", os.getpid())
        os._exit(code)
    record("again", os.getpid())

@app.task(name="search", timeout=0.3, results=False)
def search():
    if first_time("searched"):
        record("searching", os.getpid())
        re.match(r"(a+)+$", "a" * 60 + "b")
    record("again", os.getpid())

"""

SUPERVISOR = """
import os, subprocess, sys
from anybroker.worker import child, process, supervisor

directory, processes, grace, refused = sys.argv[1:]
os.chdir(directory)
child.SILENCE = 2.0
child.PATIENCE = 1.0
supervisor.LONGEST_DELAY = 0.5
started, real = 0, subprocess.Popen

def popen(*arguments, **options):
    global started
    started += 1
    if started == int(refused):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return real(*arguments, **options)

subprocess.Popen = popen
process.configure_logging("INFO")
options = process.WorkerOptions(target="stuck_tasks:app", grace=float(grace), concurrency=2)
sys.exit(supervisor.Supervisor(options, int(processes)).run())
"""

Supervise = Callable[..., "Process"]


@pytest.fixture
def supervise(site: Site) -> Supervise:
    """Start a supervisor that takes two seconds of silence for a hang, and wait until its children work."""
    (site.directory / "stuck_tasks.py").write_text(TASKS)

    def supervise(processes: int = 1, *, grace: float = 1.0, refused: int = 0) -> Process:
        arguments = [str(site.directory), str(processes), str(grace), str(refused)]
        supervisor = site._start([sys.executable, "-c", SUPERVISOR, *arguments])
        until(lambda: supervisor.ready and begun(supervisor) == processes, within=30)
        return supervisor

    return supervise


def begun(supervisor: Process) -> int:
    return supervisor.log.count("queues default")


def pid_of(site: Site, word: str) -> int:
    ((_, pid),) = site.lines(word)
    return int(pid)


@pytest.mark.parametrize("code", [0, 2, 75])
def test_a_task_that_exits_with_a_code_of_ours_costs_its_process_only(
    site: Site, supervise: Supervise, code: int
) -> None:
    supervisor = supervise()
    site.send("leave", code)
    until(lambda: site.lines("again"), within=60)
    assert pid_of(site, "again") != pid_of(site, "leaving")
    assert f"worker process {pid_of(site, 'leaving')} died (exit code {code})" in supervisor.log
    assert begun(supervisor) == 2
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait(10) == 0


def test_a_child_that_keeps_the_interpreter_is_killed_and_replaced(
    site: Site, supervise: Supervise, alive: Callable[[int], bool]
) -> None:
    supervisor = supervise()
    site.send("search")
    until(lambda: site.lines("searching"))
    stuck = pid_of(site, "searching")
    until(lambda: not alive(stuck), within=30)
    until(lambda: site.lines("again"), within=30)
    assert f"worker process {stuck} gave no sign of life" in supervisor.log
    until(lambda: not site.left())
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait(10) == 0


def test_a_second_signal_ends_a_child_that_keeps_the_interpreter(
    site: Site, supervise: Supervise, alive: Callable[[int], bool]
) -> None:
    supervisor = supervise(grace=600)
    site.send("search")
    until(lambda: site.lines("searching"))
    supervisor.send(signal.SIGTERM)
    supervisor.send(signal.SIGINT)  # another one: two pending signals of one number are one
    assert supervisor.wait(10) == 0
    assert not alive(pid_of(site, "searching"))


def test_a_process_that_the_system_refuses_is_started_later(site: Site, supervise: Supervise) -> None:
    supervisor = supervise(2, refused=2)
    assert "no worker process can be started" in supervisor.log
    site.send("note", 1)
    until(lambda: site.lines("note", 1))
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait(10) == 0
