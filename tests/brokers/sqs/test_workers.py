"""Real workers on a real SQS: every kind of URL, retries, dead letters, and workers that are killed."""

from __future__ import annotations

import random
import secrets
import signal
from typing import TYPE_CHECKING

import pytest

from tests.core.crash.conftest import Site
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anybroker.broker import Message

pytestmark = [pytest.mark.services, pytest.mark.slow]

LEASE = 2
KINDS = {"standard": "", "fifo": "&fifo=yes", "all options": "&calls=2&wait=5&message_size=1048576&visibility=1m"}


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A site with queues of its own: ``make_site("&fifo=yes")``."""
    sites: list[Site] = []

    def make_site(options: str = "") -> Site:
        url = f"{service('sqs').url()}&prefix=t{secrets.token_hex(4)}-{options}"
        sites.append(Site(tmp_path, url, lease=LEASE))
        return sites[-1]

    yield make_site
    for site in sites:
        site.close()


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_tasks_run_are_retried_and_die(make_site: Callable[..., Site], options: str) -> None:
    site = make_site(options)
    worker = site.command("--concurrency", "4")
    site.send_all("note", range(30))
    site.send_all("flaky", range(100, 103))
    site.send_all("fails", range(200, 202))
    site.until(lambda: set(site.noted()) == {*range(30), *range(100, 103)})
    dead: list[Message] = []

    def died() -> bool:
        taken = site.app.broker.acquire([site.app.dead_queue("default")], limit=10, wait=0.5, lease=30)
        dead.extend(one.message for one in taken)
        return len(dead) >= 2

    site.until(died)
    assert sorted(site.noted("failed")) == [200, 201]
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert site.app.broker.acquire(["default"], limit=10, wait=0, lease=30) == []


def test_the_tasks_of_a_worker_that_is_killed_run_elsewhere(make_site: Callable[..., Site]) -> None:
    site = make_site()
    for number in range(4):
        site.send("hold", number, "go")
    killed = site.command("--concurrency", "4")
    site.until(lambda: len(site.noted("started")) == 4)
    killed.kill()
    site.command("--concurrency", "4")
    site.until(lambda: len(site.noted("started")) == 8, within=LEASE + 60)
    site.flag("go")
    site.until(lambda: sorted(site.noted("finished")) == [0, 1, 2, 3])


def test_an_order_is_kept_for_each_key_though_workers_are_killed(make_site: Callable[..., Site]) -> None:
    """Of each key, no task ran for the first time before the one that was sent before it had run."""
    site = make_site("&fifo=yes")
    keys, each = 4, 8
    for number in range(keys * each):
        site.send_all("note", range(number, number + 1), ordering_key=f"key {number % keys}")
    for _ in range(2):
        worker, before = site.command("--concurrency", "4"), len(site.noted())
        site.until(lambda before=before: len(site.noted()) > before + 5)  # type: ignore[misc]  # a default
        worker.kill()
    site.command("--concurrency", "4")
    site.until(lambda: set(site.noted()) == set(range(keys * each)))
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
    site.send_all("note", range(number))
    chance = random.Random(number)
    workers = [site.command("--concurrency", "8") for _ in range(2)]
    for kill in range(kills):
        goal = (kill + 1) * number // (kills + 1)
        site.until(lambda goal=goal: len(set(site.noted())) >= goal, within=300)  # type: ignore[misc]
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim] = site.command("--concurrency", "8")
    site.until(lambda: set(site.noted()) == set(range(number)), within=300)
    assert site.app.broker.acquire([site.app.dead_queue("default")], limit=10, wait=0, lease=30) == []
