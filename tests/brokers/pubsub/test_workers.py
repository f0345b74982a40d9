"""Real workers on a real server: retries, delays, dead letters, messages of others, and workers that are killed."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anybroker import App
from tests.brokers.pubsub.server import pubsub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from anybroker.broker import Delivery
    from anybroker.sending import SendOptions

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

HERE = Path(__file__).parent
KINDS = {"plain": "", "exactly once": "&exactly_once=yes", "short deadline": "&ack_deadline=10&retention=1h"}


class Site:
    """Queues of its own, a record of what was done, and the worker processes."""

    def __init__(self, directory: Path, options: str) -> None:
        self._directory = directory
        self.record = directory / "record.txt"
        self.record.touch()
        self.url = f"{pubsub.running.url}&prefix=t{secrets.token_hex(4)}-{options}"
        self.app = App(self.url)
        self._workers: list[subprocess.Popen[bytes]] = []

    def worker(self, *, processes: int = 1, **settings: object) -> subprocess.Popen[bytes]:
        """Start ``anybroker worker``."""
        environment = {
            **os.environ,
            "ANYBROKER_URL": self.url,
            "ANYBROKER_LEASE": "2",
            "RECORD": str(self.record),
            **{f"ANYBROKER_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log = (self._directory / f"log{len(self._workers)}.txt").open("wb")
        command = [sys.executable, "-m", "anybroker", "worker", "work:app", "--concurrency", "4"]
        if processes > 1:
            command += ["--processes", str(processes)]
        with log:
            worker = subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._workers.append(worker)
        return worker

    def noted(self, word: str = "note") -> list[int]:
        """The numbers behind a word, in order."""
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return [int(line[1]) for line in lines if line[0] == word]

    def has_noted(self, number: float) -> bool:
        """Whether so many different numbers were noted."""
        return len(set(self.noted())) >= number

    def send(self, name: str, numbers: range, **options: Unpack[SendOptions]) -> None:
        self.app.send_many([self.app.signature(name, [number], {}, options) for number in numbers])

    def until(self, what: Callable[[], bool], *, within: float = 100.0) -> None:
        deadline = time.monotonic() + within
        while not what():
            assert not any((one.poll() or 0) > 0 for one in self._workers), self.logs
            assert time.monotonic() < deadline, f"{self.record.read_text()[-500:]}\n{self.logs}"
            time.sleep(0.02)

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


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_worker_does_what_is_sent_retries_it_and_stops(make_site: Callable[..., Site], options: str) -> None:
    site = make_site(options)
    worker = site.worker()
    site.send("note", range(50))
    site.send("flaky", range(100, 110))
    later = datetime.now(UTC) + timedelta(seconds=2)
    site.send("note", range(200, 205), eta=later)
    site.until(lambda: len(set(site.noted())) == 65)
    assert datetime.now(UTC) >= later
    assert len(site.noted("tried")) >= 20
    worker.terminate()
    assert worker.wait(15) == 0, site.logs


def test_the_tasks_of_a_killed_worker_are_done_by_another(make_site: Callable[..., Site]) -> None:
    site = make_site("&ack_deadline=10")
    victim = site.worker()
    site.send("hold", range(4))
    site.until(lambda: len(site.noted("held")) == 4)
    site.send("note", range(10, 60))
    victim.kill()
    site.go()
    site.worker()
    site.until(lambda: set(site.noted()) == {*range(4), *range(10, 60)})


def test_a_task_that_kills_its_worker_is_dead_in_the_end_and_harms_no_other(make_site: Callable[..., Site]) -> None:
    site = make_site("&ack_deadline=10")
    site.worker(processes=2, max_deliveries=2, lease=1)
    site.send("poison", range(1))
    site.send("note", range(1, 30))
    dead = f"{site.app.settings.default_queue}{site.app.settings.dead_queue_suffix}"
    found: list[Delivery] = []

    def is_dead() -> bool:
        found.extend(site.app.broker.acquire([dead], limit=5, wait=0.5, lease=60))
        return bool(found)

    site.until(is_dead)
    assert len(found) == 1
    assert b"crashed" in found[0].message.body
    site.until(lambda: set(site.noted()) == set(range(1, 30)))
    assert len(site.noted("poison")) == 2


def test_what_is_due_later_survives_every_consumer_that_parked_it(make_site: Callable[..., Site]) -> None:
    """Killed again and again while it looks after messages: nobody's memory holds one that the service does not."""
    site = make_site("&ack_deadline=10")
    due = datetime.now(UTC) + timedelta(seconds=6)
    site.send("note", range(300), eta=due)
    for _ in range(4):
        worker = site.worker()
        time.sleep(1.0)  # it has begun, or not: it is killed at any moment of its life
        worker.kill()
    assert site.noted() == [] or datetime.now(UTC) >= due
    site.worker()
    site.until(lambda: set(site.noted()) == set(range(300)))


def test_tasks_survive_workers_that_are_killed_at_random(make_site: Callable[..., Site]) -> None:
    soak(make_site("&ack_deadline=10"), tasks=1000, kills=3, seconds=200)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_thousand_tasks_survive_workers_that_are_killed_at_random(make_site: Callable[..., Site]) -> None:
    soak(make_site("&ack_deadline=10"), tasks=20_000, kills=20, seconds=1700)


def soak(site: Site, *, tasks: int, kills: int, seconds: float) -> None:
    """Two workers, of which one is killed and replaced whenever a part of the tasks is done; a fifth is due later."""
    chance = random.Random(7)
    workers = [site.worker(max_deliveries=50) for _ in range(2)]
    soon = datetime.now(UTC) + timedelta(seconds=5)
    for first in range(0, tasks, 1000):
        site.send("note", range(first, first + 800))
        site.send("note", range(first + 800, first + 1000), eta=soon)
    deadline = time.monotonic() + seconds
    for number in range(1, kills + 1):
        done = tasks * 0.7 * number / kills
        site.until(partial(site.has_noted, done), within=deadline - time.monotonic())
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim] = site.worker(max_deliveries=50)
    site.until(partial(site.has_noted, tasks), within=deadline - time.monotonic())
    assert len(site.noted()) < tasks * 1.2, "repeated: only what was in flight when a worker died"
