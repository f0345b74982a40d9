"""Real workers at each kind of URL, some of them killed: every task is done, and every result is there."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
import redis as redis_py

from tests.core.crash.conftest import Site
from tests.core.crash.test_soak import check, soak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anybroker_conformance.services import Running

pytestmark = [pytest.mark.services, pytest.mark.slow]

TASKS = 200


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A site at a URL, with a prefix of its own."""
    sites: list[Site] = []

    def make_site(url: str, **settings: object) -> Site:
        own = f"prefix={tmp_path.name}&durability=server"
        sites.append(Site(tmp_path, f"{url}{'&' if '?' in url else '?'}{own}", **settings))
        return sites[-1]

    yield make_site
    for site in sites:
        site.close()


def test_a_killed_workers_tasks_are_done_by_another(url: str, make_site: Callable[..., Site]) -> None:
    site = make_site(url, lease=1)
    app = site.app
    victim = site.command("--concurrency", "4")
    for number in range(4):
        site.send("hold", number, "never")
    _wait(lambda: len(site.lines("started")) == 4, site)
    handles = app.send_many([app.signature("double", [number], {}) for number in range(TASKS)])
    victim.kill()
    killed = time.monotonic()
    site.flag("never")
    site.command("--concurrency", "4")
    assert [handle.get(timeout=60) for handle in handles] == [2 * number for number in range(TASKS)]
    _wait(lambda: len(site.lines("finished")) == 4, site)
    assert time.monotonic() - killed < 30
    _wait(lambda: site.left() == 0, site)


def test_three_thousand_tasks_survive_killed_workers_and_servers(
    redis: Running, make_site: Callable[..., Site]
) -> None:
    site = make_site(redis.url, max_deliveries=50, lease=1)
    assert soak(site, 3_000, seed=1, deadline=90, disturb=_every(4, redis)) >= 5
    check(site, 3_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_thousand_tasks_survive_them(redis: Running, make_site: Callable[..., Site]) -> None:
    """With the append-only file flushed every second; and nothing of what workers leave behind stays."""
    site = make_site(redis.url, max_deliveries=200, lease=2)
    assert soak(site, 200_000, seed=2, deadline=3400, disturb=_every(5, redis)) >= 10
    check(site, 200_000)
    with redis_py.Redis(port=redis.ports["redis"]) as client:
        assert list(client.scan_iter(f"{{{site.directory.name}*", count=1000)) == []
        assert client.info("clients")["connected_clients"] < 20


def _every(number: int, redis: Running) -> Callable[[int], object]:
    """Kill the server as well, and start it again, with every so many workers that were killed."""
    return lambda kills: None if kills % number else redis.restart(signal.SIGKILL)


def _wait(condition: Callable[[], bool], site: Site) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, site.lines()
        time.sleep(0.02)
