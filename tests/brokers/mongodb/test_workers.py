"""Tasks from end to end through real workers, and workers that are killed while they run them."""

from __future__ import annotations

import random
import secrets
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.brokers.mongodb.sites import MongoSite
from tests.core.crash.test_soak import check
from tests.live import service

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.services, pytest.mark.slow]


def prefixed() -> str:
    """A URL with collections that no other test uses."""
    return service("mongodb").url(prefix=f"t{secrets.token_hex(4)}-")


@pytest.mark.parametrize("wake", ["auto", "stream", "poll"])
def test_tasks_run_and_their_results_come_back(tmp_path: Path, wake: str) -> None:
    with closing(MongoSite(tmp_path, f"{prefixed()}&wake={wake}")) as site:
        site.command()
        handles = [site.send("double", number) for number in range(20)]
        assert [handle.get(timeout=30) for handle in handles] == [2 * number for number in range(20)]


def test_results_may_be_in_memcached(tmp_path: Path) -> None:
    with closing(MongoSite(tmp_path, prefixed(), results_url=service("memcached").url())) as site:
        site.command()
        handles = [site.send("double", number) for number in range(20)]
        assert [handle.get(timeout=30) for handle in handles] == [2 * number for number in range(20)]


def drain(site: MongoSite, tasks: int, *, kills: int, seed: int) -> None:
    """Let two workers do all tasks, and kill one of them so many times in between."""
    chance = random.Random(seed)
    site.app.send_many([site.app.signature("work", [number], {}) for number in range(tasks)])
    workers = [site.worker(concurrency=4) for _ in range(2)]
    deadline = time.monotonic() + 100
    for done in sorted(chance.sample(range(tasks // 10, tasks * 9 // 10), kills)):
        while len(site.lines("work")) < done:
            assert time.monotonic() < deadline, f"{site.left()} of {tasks} tasks are left"
            time.sleep(0.01)
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim] = site.worker(concurrency=4)
    while site.left():
        assert time.monotonic() < deadline, f"{site.left()} of {tasks} tasks are left"
        time.sleep(0.05)


def test_tasks_survive_workers_that_are_killed(tmp_path: Path) -> None:
    with closing(MongoSite(tmp_path, prefixed(), max_deliveries=50, lease=1)) as site:
        drain(site, 200, kills=4, seed=1)
        check(site, 200)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_thousand_tasks_survive_workers_that_are_killed(tmp_path: Path) -> None:
    """In portions: the stand-in server looks at every message of a collection for each that it delivers."""
    for portion in range(100):
        directory = tmp_path / str(portion)
        directory.mkdir()
        with closing(MongoSite(directory, prefixed(), max_deliveries=200, lease=1)) as site:
            drain(site, 500, kills=5, seed=portion)
            check(site, 500)
