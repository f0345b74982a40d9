"""``anybroker worker`` as a process: it runs tasks, stops, says what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.core.cli.conftest import Project

pytestmark = pytest.mark.slow

READY = "queues default"


@pytest.mark.parametrize("processes", ["0", "2"])
def test_runs_tasks_and_exits_with_0_on_sigterm(project: Project, processes: str) -> None:
    worker = project.start("worker", "tasks:app", "--processes", processes)
    worker.wait_for(READY)
    assert project.json("call", "tasks.add", "2", "3", "--app", "tasks:app")["result"] == 5
    assert worker.stop() == 0
    assert any("stopped; 1 tasks" in line for line in worker.lines)


def test_sigint_stops_it_too(project: Project) -> None:
    worker = project.start("worker", "tasks")
    worker.wait_for(READY)
    assert worker.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("moment", "times"),
    [
        pytest.param("typer", 1, id="while the command line is read"),
        pytest.param("anybroker.codec", 2, id="while its own process starts"),
    ],
)
def test_a_signal_in_the_first_moments_stops_it(
    project: Project, number: signal.Signals, moment: str, times: int
) -> None:
    worker = project.start("worker", "tasks:app", PYTHONPROFILEIMPORTTIME="1")
    until(lambda: sum(line.split()[-1:] == [moment] for line in list(worker.lines)) >= times, why=moment)
    assert worker.stop(number) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_signal_while_the_app_is_imported_stops_it(project: Project, number: signal.Signals, processes: str) -> None:
    tasks = project.directory / "tasks.py"
    slow = "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(3600)\n"
    tasks.write_text(slow + tasks.read_text())
    worker = project.start("worker", "tasks:app", "--processes", processes)
    worker.wait_for("importing")
    assert worker.stop(number) == 0


def test_options_reach_the_worker(project: Project) -> None:
    worker = project.start(
        "worker", "tasks:app", "--queues", "mail:3,default:1", "--concurrency", "3", "--lease", "5s", "--grace", "0"
    )
    worker.wait_for("queues mail, default, concurrency 3")
    assert worker.stop() == 0


def test_app_can_be_an_option_or_a_variable(project: Project) -> None:
    for worker in (project.start("worker", "--app", "tasks:app"), project.start("worker", ANYBROKER_APP="tasks:app")):
        worker.wait_for(READY)
        assert worker.stop() == 0


def test_processes_come_from_the_settings_unless_given(project: Project) -> None:
    worker = project.start("worker", "tasks:app", ANYBROKER_PROCESSES="2")
    until(lambda: sum(READY in line for line in worker.lines) == 2, why="two worker processes")
    assert worker.stop() == 0


def test_reload_takes_up_changed_code(project: Project) -> None:
    worker = project.start("worker", "tasks:app", "--reload")
    worker.wait_for(READY)
    tasks = project.directory / "tasks.py"
    tasks.write_text(tasks.read_text().replace("a + b", "a * b"))
    worker.wait_for("files changed")
    until(lambda: sum(READY in line for line in worker.lines) == 2, why="a second worker")
    assert project.json("call", "tasks.add", "2", "3", "--app", "tasks:app")["result"] == 6
    assert worker.stop() == 0


LOOK = """
import sys
from pathlib import Path
from anybroker.worker.supervisor import _Files

folders = []
sys.addaudithook(lambda event, arguments: event == "os.scandir" and folders.append(str(arguments[0])))
files = _Files(Path.cwd())
assert not files.changed()
Path("shop/.venv/lib/changed.py").touch()
assert not files.changed()
Path("shop/changed.py").touch()
assert files.changed()
print(*sorted(set(folders)))
"""


def test_reload_does_not_look_into_a_virtual_environment_twice_a_second(tmp_path: Path) -> None:
    here = tmp_path.resolve()
    for folder in ("shop/.venv/lib", "shop/__pycache__", "shop/tasks"):
        (here / folder).mkdir(parents=True)
    looked = subprocess.check_output([sys.executable, "-c", LOOK], cwd=here, text=True)
    assert looked.split() == [str(here), str(here / "shop"), str(here / "shop/tasks")]


@pytest.mark.parametrize("processes", ["0", "1"])
def test_file_named_like_a_module_of_python_is_nobodys_standard_library(project: Project, processes: str) -> None:
    (project.directory / "queue.py").write_text("raise RuntimeError('imported')\n")
    worker = project.start("worker", "tasks:app", "--processes", processes)
    worker.wait_for(READY)
    assert worker.stop() == 0


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_program_that_configures_logging_keeps_its_configuration(project: Project, processes: str) -> None:
    tasks = project.directory / "tasks.py"
    ours = "import logging\nlogging.basicConfig(level='INFO', format='OURS %(message)s')\n"
    tasks.write_text(ours + tasks.read_text())
    worker = project.start("worker", "tasks:app", "--processes", processes)
    worker.wait_for(READY)
    assert worker.stop() == 0
    assert any(line.startswith("OURS worker ") and READY in line for line in worker.lines)


def resident_memory(process: int) -> float:
    """Megabytes."""
    status = Path(f"/proc/{process}/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")) / 1024
    shown = subprocess.check_output(["ps", "-o", "rss=", "-p", str(process)], text=True)  # noqa: S607  macOS
    return int(shown) / 1024


def test_idle_worker_is_small(project: Project) -> None:
    worker = project.start("worker", "tasks:app")
    worker.wait_for(READY)
    assert resident_memory(worker.process.pid) <= 40
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which app?"),
        (("tasks.py",), "write module:app"),
        (("nowhere:app",), "there is no module 'nowhere'"),
        (("tasks:nothing",), "no app named 'nothing'; it has: app"),
        (("tasks:app", "--queues", "mail:0"), "weight 0"),
        (("tasks:app", "--queues", "default.dead"), "anybroker dead retry"),
    ],
)
@pytest.mark.parametrize("processes", ["0", "1"])
def test_mistakes_are_one_line_and_exit_code_2(
    project: Project, arguments: tuple[str, ...], says: str, processes: str
) -> None:
    done = project.run("worker", *arguments, "--processes", processes)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


@pytest.mark.parametrize("option", ["--lease=soon", "--concurrency=0", "--log-level=loud", "--nonsense"])
def test_unfit_options_are_exit_code_2(project: Project, option: str) -> None:
    done = project.run("worker", "tasks:app", option)
    assert done.returncode == 2
    assert "Usage: anybroker worker" in done.stderr


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_worker_that_nobody_can_send_to_says_so(project: Project, processes: str) -> None:
    (project.directory / "alone.py").write_text('from anybroker import App\napp = App("memory://")\n')
    worker = project.start("worker", "alone:app", "--processes", processes)
    worker.wait_for("<App memory://, 0 tasks> is not shared")
    worker.wait_for(READY)
    assert worker.stop() == 0


def test_module_that_raises_keeps_its_traceback(project: Project) -> None:
    (project.directory / "broken.py").write_text("1 / 0\n")
    done = project.run("worker", "broken:app")
    assert done.returncode == 2
    assert 'broken.py", line 1' in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("processes", ["0", "1"])
def test_no_password_is_shown_of_a_url_in_a_module_that_raises(project: Project, processes: str) -> None:
    """A traceback has the line in which it is written."""
    tasks = 'from anybroker import App\napp = App("reddis://shop:hunter2@localhost/0")\n'
    (project.directory / "broken.py").write_text(tasks)
    done = project.run("worker", "broken:app", "--processes", processes)
    assert done.returncode == 2
    assert 'App("reddis://shop:***@localhost/0")' in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.usefixtures("broken_services")
@pytest.mark.parametrize(("scheme", "says"), [("hang", "no answer within 1 s"), ("down", "connection refused")])
def test_broker_that_is_down_is_reported_once_and_waited_for(project: Project, scheme: str, says: str) -> None:
    (project.directory / "far.py").write_text(
        f'from anybroker import App\napp = App("{scheme}://", results_url="memory://")\n'
    )
    worker = project.start("worker", "far:app", "--grace", "0")
    worker.wait_for(says)
    assert worker.process.poll() is None
    worker.stop(signal.SIGKILL)
    assert sum(says in line for line in worker.lines) == 1
