"""Real worker processes on one SQLite file, to be killed; see crashing.py for what they run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker import App
from anybroker.worker.process import WorkerOptions
from tests.waiting import until

if TYPE_CHECKING:
    import signal
    from typing import Unpack

    from anybroker.sending import SendOptions

HERE = Path(__file__).parent
LEASE = 1.0


class Process:
    """A worker process (or a supervisor with its children), with its log in a file."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=HERE, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ready(self) -> bool:
        """Whether the worker (one of the children at least) has begun to acquire."""
        assert self.process.poll() is None, self.log
        return "queues default" in self.log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def wait(self, timeout: float) -> int:
        """The exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end within {timeout} s:\n{self.log}") from None


class Site:
    """One broker, by default an SQLite file, one record of what was done, and the processes that work on it."""

    def __init__(self, directory: Path, url: str | None = None, /, **settings: object) -> None:
        self.directory = directory
        self.record = directory / "record.txt"
        self.record.touch()
        self.url = url or f"sqlite:///{directory}/tasks.db"
        self.app = App(self.url)
        self._environment = {
            **os.environ,
            "ANYBROKER_URL": self.url,
            "ANYBROKER_LEASE": str(LEASE),
            "RECORD": str(self.record),
            **{f"ANYBROKER_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._processes: list[Process] = []

    def worker(self, **options: Any) -> Process:
        """Start a worker process."""
        arguments = msgspec.json.encode(WorkerOptions(target="crashing:app", **options)).decode()
        return self._start([sys.executable, "-m", "anybroker.worker.process", arguments])

    def command(self, *arguments: str) -> Process:
        """Start ``anybroker worker``."""
        return self._start([sys.executable, "-m", "anybroker", "worker", "crashing:app", *arguments])

    def _start(self, command: list[str]) -> Process:
        self._processes.append(Process(command, self._environment, self.directory / f"log{len(self._processes)}.txt"))
        return self._processes[-1]

    def lines(self, *first: object) -> list[list[str]]:
        """What was noted, in order; only the lines that begin with these words."""
        words = [str(word) for word in first]
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return [line for line in lines if line[: len(words)] == words]

    def noted(self, word: str = "note") -> list[int]:
        """The numbers behind a word, in order."""
        return [int(line[1]) for line in self.lines(word)]

    def until(self, condition: Callable[[], object], *, within: float = 100.0) -> None:
        """Wait for it, at most so many seconds."""
        until(condition, within, why=lambda: f"{self.record.read_text()[-500:]}\n{self.logs}")

    @property
    def logs(self) -> str:
        """Of all processes."""
        return "\n".join(process.log for process in self._processes)

    def flag(self, name: str) -> None:
        """Let those who wait for it go on."""
        (self.directory / name).touch()

    def left(self, queue: str = "default") -> int:
        """How many messages a queue still holds."""
        return self.app.inspect().stats(queue).total

    def send(self, name: str, *args: object, **options: Any) -> Any:
        return self.app.send_by_name(name, args, **options)

    def send_all(self, name: str, numbers: range, **options: Unpack[SendOptions]) -> None:
        """Send a task for each number, at once."""
        self.app.send_many([self.app.signature(name, [number], {}, options) for number in numbers])

    def close(self) -> None:
        for process in self._processes:
            if process.process.poll() is None:
                process.kill()
        self.app.close()


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """A site with settings for its workers: ``make_site(max_deliveries=3)``."""
    sites: list[Site] = []

    def make_site(**settings: object) -> Site:
        sites.append(Site(tmp_path, **settings))
        return sites[-1]

    yield make_site
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process exists."""
    return _alive
