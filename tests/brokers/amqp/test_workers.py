"""Real worker processes on a real RabbitMQ: by every kind of URL, and killed."""

from __future__ import annotations

import random
import secrets
import signal
import time
from typing import TYPE_CHECKING

import pytest

from anybroker_conformance.faults.proxy import Proxy
from tests.brokers.amqp.server import rabbitmq
from tests.core.crash.conftest import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.core.crash.conftest import Process

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """A site with names of its own on the server."""
    sites: list[Site] = []

    def make_site(url: str) -> Site:
        own = f"{'&' if '?' in url else '?'}prefix=w{secrets.token_hex(4)}."
        sites.append(Site(tmp_path, url + own, lease=30))
        return sites[-1]

    yield make_site
    for site in sites:
        site.close()


def start(site: Site) -> Process:
    return site.command("--concurrency", "4")


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
    worker = start(site)
    assert site.send("double", 3).get(timeout=60) == 6
    site.send("flaky", 7)
    site.until(lambda: site.noted() == [7])
    assert site.noted("tried") == [7, 7]
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0, site.logs


def test_what_a_killed_worker_held_is_done_by_another(make_site: Callable[[str], Site]) -> None:
    site = make_site(plain())
    victim = start(site)
    site.send("hold", 1, "go")
    site.until(lambda: site.noted("started") == [1])
    other = start(site)
    site.until(lambda: other.ready)
    victim.kill()
    killed = time.monotonic()
    site.until(lambda: site.noted("started") == [1, 1])
    assert time.monotonic() - killed < 25, "the lease of 30 s plays no part"
    site.flag("go")


def test_a_worker_whose_connections_break_goes_on(make_site: Callable[[str], Site]) -> None:
    proxy = Proxy("127.0.0.1", rabbitmq.running.ports["amqp"])
    try:
        site = make_site(f"amqp://guest:guest@{proxy.host}:{proxy.port}/?heartbeat=3")
        start(site)
        assert site.send("double", 1).get(timeout=60) == 2
        for number in range(3):
            proxy.cut_now(reset=number % 2 == 1)
            site.until(lambda: _sends(site, number))  # noqa: B023  called before the next round
        site.until(lambda: set(site.noted()) == {0, 1, 2})
    finally:
        proxy.close()


def _sends(site: Site, number: int) -> bool:
    """Whether it could be sent: the first call after a cut may raise."""
    try:
        site.send("note", number)
    except ConnectionError:
        return False
    return True


def soak(site: Site, tasks: int, *, kills: int, deadline: float) -> None:
    chance = random.Random(1)
    for first in range(0, tasks, 5000):
        site.send_all("note", range(first, min(first + 5000, tasks)))
    workers = [start(site) for _ in range(2)]
    size_of_all = sum(len(f"note {number}\n") for number in range(tasks))
    for number in range(kills):
        reached = size_of_all * (number + 1) / (kills + 1)
        site.until(lambda: site.record.stat().st_size >= reached, within=deadline)  # noqa: B023  as above
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim] = start(site)
    site.until(lambda: set(site.noted()) == set(range(tasks)), within=deadline)


def check_nothing_is_left(site: Site) -> None:
    """No message; RabbitMQ counts those of a quorum queue anew every five seconds."""
    name = site.url.rpartition("=")[2] + "default"

    site.until(lambda: rabbitmq.queue(name).get("messages") == 0)


def check_nothing_is_open(site: Site) -> None:
    """No connection, and with it no channel; no queue but that of the tasks, that of pings, and those of delays."""
    prefix = site.url.rpartition("=")[2]
    site.until(lambda: not rabbitmq.ctl("-q", "--no-table-headers", "list_connections", "pid").split())
    names = rabbitmq.ctl("-q", "--no-table-headers", "list_queues", "name").split()
    own = {name for name in names if name.startswith(prefix)}
    assert {name for name in own if not name.startswith(f"{prefix}delay.")} <= {
        f"{prefix}default",
        f"{prefix}anybroker-ping",
    }


@pytest.mark.timeout(600)
def test_two_thousand_tasks_survive_kills(make_site: Callable[[str], Site]) -> None:
    site = make_site(plain())
    soak(site, 2_000, kills=3, deadline=200)
    check_nothing_is_left(site)  # before its workers are killed, who may have noted more than they have acknowledged
    site.close()
    check_nothing_is_open(site)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_tasks_survive_kills(make_site: Callable[[str], Site]) -> None:
    site = make_site(plain())
    soak(site, 100_000, kills=30, deadline=1500)
    check_nothing_is_left(site)  # before its workers are killed, who may have noted more than they have acknowledged
    site.close()
    check_nothing_is_open(site)
