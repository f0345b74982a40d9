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

QUEUED = 400
"""Tasks at most that wait at a time: the stand-in server looks at every message for each batch that it delivers."""


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


def drain(site: MongoSite, tasks: int, *, concurrency: int, kills: int, seed: int, within: float) -> None:
    """Let two workers do all tasks, which are sent as they are done, and kill one of them so many times in between."""
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(tasks // 10, tasks * 9 // 10), kills))
    workers = [site.worker(concurrency=concurrency) for _ in range(2)]
    deadline = time.monotonic() + within
    sent = 0
    while left := (queued := site.left()) + tasks - sent:
        assert time.monotonic() < deadline, f"{left} of {tasks} tasks are left after {within} s"
        if queued < QUEUED / 2 and sent < tasks:
            portion = range(sent, min(sent + QUEUED // 2, tasks))
            site.send_all("work", portion)
            sent = portion.stop
        if moments and tasks - left >= moments[0]:
            del moments[0]
            victim = chance.randrange(2)
            workers[victim].kill()
            workers[victim] = site.worker(concurrency=concurrency)
        time.sleep(0.02)
    assert not moments


def test_tasks_survive_workers_that_are_killed(tmp_path: Path) -> None:
    with closing(MongoSite(tmp_path, prefixed(), max_deliveries=50, lease=1)) as site:
        drain(site, 2 * QUEUED, concurrency=4, kills=4, seed=1, within=100)
        check(site, 2 * QUEUED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_fifty_thousand_tasks_survive_workers_that_are_killed(tmp_path: Path) -> None:
    """With many threads, and so large batches: each takes the stand-in server much longer than a task does."""
    with closing(MongoSite(tmp_path, prefixed(), max_deliveries=200, lease=1)) as site:
        drain(site, 50_000, concurrency=32, kills=50, seed=2, within=1700)
        check(site, 50_000)
