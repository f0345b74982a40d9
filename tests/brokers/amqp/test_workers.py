"""Real worker processes on a real RabbitMQ: by every kind of URL, and killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App
from anybroker_conformance.faults.proxy import Proxy
from tests.brokers.amqp.server import rabbitmq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.services, pytest.mark.slow]
HERE = Path(__file__).parent


class Site:
    """One virtual place: its own names on the server, a record of what was done, workers."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = f"{url}{'&' if '?' in url else '?'}prefix=w{os.urandom(4).hex()}."
        self.record = directory / "record.txt"
        self.record.touch()
        self.app = App(self.url)
        self._workers: list[subprocess.Popen[bytes]] = []

    def worker(self, **settings: object) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "ANYBROKER_URL": self.url,
            "RECORD": str(self.record),
            **{f"ANYBROKER_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log = (self.directory / f"log{len(self._workers)}.txt").open("wb")
        command = [sys.executable, "-m", "anybroker", "worker", "jobs:app", "--concurrency", "4"]
        self._workers.append(subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=log))
        log.close()
        return self._workers[-1]

    def send(self, name: str, *arguments: object, **options: Any) -> Any:
        return self.app.send_by_name(name, arguments, **options)

    def lines(self, word: str) -> list[list[str]]:
        return [line.split() for line in self.record.read_text().splitlines() if line.startswith(f"{word} ")]

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("log*.txt")))

    def until(self, what: Callable[[], bool], *, within: float = 60.0) -> None:
        deadline = time.monotonic() + within
        while not what():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def close(self) -> None:
        for one in self._workers:
            if one.poll() is None:
                one.kill()
                one.wait()
        self.app.close()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    sites: list[Site] = []

    def make(url: str) -> Site:
        sites.append(Site(tmp_path, url))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


def plain() -> str:
    return rabbitmq.running.url


def several_hosts() -> str:
    port = rabbitmq.running.ports["amqp"]
    return f"amqp://guest:guest@127.0.0.1:1,127.0.0.1:{port}/"


@pytest.mark.parametrize(
    "url",
    [plain, several_hosts, lambda: plain() + "?type=classic", lambda: plain() + "?priorities=2&heartbeat=3"],
    ids=["quorum", "several hosts", "classic", "priorities"],
)
def test_a_worker_runs_tasks_retries_them_and_stores_results(
    make_site: Callable[[str], Site], url: Callable[[], str]
) -> None:
    site = make_site(url())
    worker = site.worker()
    assert site.send("add", 2, 3).get(timeout=60) == 5
    assert site.send("fails_once", "x").get(timeout=60) == "x"
    first, second = (float(line[2]) for line in site.lines("fails_once"))
    assert 0.3 <= second - first < 5
    worker.terminate()
    assert worker.wait(30) == 0, site.log()


def test_what_a_killed_worker_held_is_done_by_another(make_site: Callable[[str], Site]) -> None:
    site = make_site(plain())
    victim = site.worker()
    site.send("hold", 60)
    site.until(lambda: len(site.lines("hold")) == 1)
    site.worker()
    site.until(lambda: "queues default" in site.log().partition("queues default")[2])
    victim.kill()
    killed = time.monotonic()
    site.until(lambda: len(site.lines("hold")) == 2)
    assert time.monotonic() - killed < 10  # seconds of a loaded machine; the lease of 60 s plays no part


def test_a_worker_whose_connections_break_goes_on(make_site: Callable[[str], Site]) -> None:
    proxy = Proxy("127.0.0.1", rabbitmq.running.ports["amqp"])
    try:
        site = make_site(f"amqp://guest:guest@{proxy.host}:{proxy.port}/?heartbeat=3")
        site.worker()
        assert site.send("add", 1, 1).get(timeout=60) == 2
        for number in range(3):
            proxy.cut_now(reset=number % 2 == 1)
            site.until(lambda: _sends(site, number))  # noqa: B023  called before the next round
        site.until(lambda: {line[1] for line in site.lines("work")} == {"0", "1", "2"})
    finally:
        proxy.close()


def _sends(site: Site, number: int) -> bool:
    """Whether it could be sent: the first call after a cut may raise."""
    try:
        site.send("work", number)
    except ConnectionError:
        return False
    return True


def soak(site: Site, tasks: int, *, kills: int, deadline: float) -> None:
    chance = random.Random(1)
    signature = site.app.signature
    for first in range(0, tasks, 5000):
        site.app.send_many([signature("work", [n], {}) for n in range(first, min(first + 5000, tasks))])
    workers = [site.worker() for _ in range(2)]
    size_of_all = sum(len(f"work {number}\n") for number in range(tasks))
    for number in range(kills):
        reached = size_of_all * (number + 1) / (kills + 1)
        site.until(lambda: site.record.stat().st_size >= reached, within=deadline)  # noqa: B023  as above
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim].wait()
        workers[victim] = site.worker()
    site.until(lambda: len({line[1] for line in site.lines("work")}) == tasks, within=deadline)


def check_nothing_is_left(site: Site) -> None:
    """No message; RabbitMQ counts those of a quorum queue anew every five seconds."""
    name = site.url.rpartition("=")[2] + "default"

    site.until(lambda: rabbitmq.queue(name).get("messages") == 0)


def test_two_thousand_tasks_survive_kills(make_site: Callable[[str], Site]) -> None:
    site = make_site(plain())
    soak(site, 2_000, kills=3, deadline=90)
    site.close()
    check_nothing_is_left(site)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_tasks_survive_kills(make_site: Callable[[str], Site]) -> None:
    site = make_site(plain())
    soak(site, 100_000, kills=30, deadline=1500)
    site.close()
    check_nothing_is_left(site)
