"""Real workers on a real SQS: every kind of URL, retries, dead letters, and workers that are killed."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anybroker import App
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from anybroker.broker import Message
    from anybroker.sending import SendOptions

pytestmark = [pytest.mark.services, pytest.mark.slow]

HERE = Path(__file__).parent
LEASE = 2
KINDS = {"standard": "", "fifo": "&fifo=yes", "all options": "&calls=2&wait=5&message_size=1048576&visibility=1m"}


class Site:
    """Queues of its own, a record of what was done, and the worker processes."""

    def __init__(self, directory: Path, options: str) -> None:
        self._directory = directory
        self.record = directory / "record.txt"
        self.record.touch()
        self.url = f"{service('sqs').url()}&prefix=t{secrets.token_hex(4)}-{options}"
        self.app = App(self.url)
        self._workers: list[subprocess.Popen[bytes]] = []

    def worker(self, concurrency: int = 4) -> subprocess.Popen[bytes]:
        """Start ``anybroker worker``, one process."""
        environment = {
            **os.environ,
            "ANYBROKER_URL": self.url,
            "ANYBROKER_LEASE": str(LEASE),
            "RECORD": str(self.record),
        }
        log = (self._directory / f"log{len(self._workers)}.txt").open("wb")
        command = [sys.executable, "-m", "anybroker", "worker", "work:app", "--concurrency", str(concurrency)]
        with log:
            worker = subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._workers.append(worker)
        return worker

    def noted(self, word: str = "note") -> list[int]:
        """The numbers behind a word, in order."""
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return [int(line[1]) for line in lines if line[0] == word]

    def send(self, name: str, numbers: range, **options: Unpack[SendOptions]) -> None:
        self.app.send_many([self.app.signature(name, [number], {}, options) for number in numbers])

    def go(self) -> None:
        """Let the tasks that hold go on."""
        (self._directory / "go").touch()

    @property
    def logs(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self._directory.glob("log*.txt")))

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.app.close()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make_site(options: str = "") -> Site:
        sites.append(Site(tmp_path, options))
        return sites[-1]

    yield make_site
    for site in sites:
        site.close()


def wait_until(site: Site, condition: Callable[[], object], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, site.logs
        time.sleep(0.02)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_tasks_run_are_retried_and_die(make_site: Callable[..., Site], options: str) -> None:
    site = make_site(options)
    worker = site.worker()
    site.send("note", range(30))
    site.send("fails_once", range(100, 103))
    site.send("fails", range(200, 202))
    wait_until(site, lambda: set(site.noted()) == {*range(30), *range(100, 103)})
    dead: list[Message] = []

    def died() -> bool:
        taken = site.app.broker.acquire([site.app.dead_queue("default")], limit=10, wait=0.5, lease=30)
        dead.extend(one.message for one in taken)
        return len(dead) >= 2

    wait_until(site, died)
    assert sorted(site.noted("failed")) == [200, 201]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert site.app.broker.acquire(["default"], limit=10, wait=0, lease=30) == []


def test_the_tasks_of_a_worker_that_is_killed_run_elsewhere(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.send("hold", range(4))
    killed = site.worker()
    wait_until(site, lambda: len(site.noted("started")) == 4)
    killed.kill()
    killed.wait()
    site.worker()
    wait_until(site, lambda: len(site.noted("started")) == 8, timeout=LEASE + 30)
    site.go()
    wait_until(site, lambda: sorted(site.noted()) == [0, 1, 2, 3])


def test_an_order_is_kept_for_each_key_though_workers_are_killed(make_site: Callable[..., Site]) -> None:
    """Of each key, no task ran for the first time before the one that was sent before it had run."""
    site = make_site("&fifo=yes")
    keys, each = 4, 8
    for number in range(keys * each):
        site.send("note", range(number, number + 1), ordering_key=f"key {number % keys}")
    for _ in range(2):
        worker, before = site.worker(), len(site.noted())
        wait_until(site, lambda before=before: len(site.noted()) > before + 5)  # type: ignore[misc]  # a default
        worker.kill()
        worker.wait()
    site.worker()
    wait_until(site, lambda: set(site.noted()) == set(range(keys * each)))
    for key in range(keys):
        first_runs = list(dict.fromkeys(number for number in site.noted() if number % keys == key))
        assert first_runs == sorted(first_runs)


@pytest.mark.parametrize(
    ("number", "kills"), [(300, 3), pytest.param(20_000, 40, marks=pytest.mark.soak)], ids=["short", "soak"]
)
@pytest.mark.timeout(1800)
def test_nothing_is_lost_by_workers_that_are_killed_at_random(
    make_site: Callable[..., Site], number: int, kills: int
) -> None:
    site = make_site()
    site.send("note", range(number))
    chance = random.Random(number)
    workers = [site.worker(concurrency=8) for _ in range(2)]
    for kill in range(kills):
        goal = (kill + 1) * number // (kills + 1)
        wait_until(site, lambda goal=goal: len(set(site.noted())) >= goal, timeout=300)  # type: ignore[misc]
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim].wait()
        workers[victim] = site.worker(concurrency=8)
    wait_until(site, lambda: set(site.noted()) == set(range(number)), timeout=300)
    assert site.app.broker.acquire([site.app.dead_queue("default")], limit=10, wait=0, lease=30) == []


def test_an_idle_worker_begins_within_100_ms(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.worker(concurrency=1)
    site.send("note", range(1))
    wait_until(site, lambda: len(site.noted()) == 1)
    late = []
    for number in range(1, 6):
        sent = time.time()
        site.send("note", range(number, number + 1))
        wait_until(site, lambda number=number: number in site.noted())  # type: ignore[misc]  # a default
        line = next(line for line in (site.record.read_text().splitlines()) if line.startswith(f"note {number} "))
        late.append(float(line.split()[2]) - sent)
    assert min(late) <= 0.1, late
