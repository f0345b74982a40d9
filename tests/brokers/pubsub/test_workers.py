"""Real workers on a real server: retries, delays, dead letters, messages of others, and workers that are killed."""

from __future__ import annotations

import random
import secrets
import signal
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.brokers.pubsub.server import pubsub, stand_in
from tests.core.crash.conftest import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anybroker.broker import Delivery
    from tests.live import Service

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

IN_FLIGHT = 256
"""Tasks that a worker has taken in advance, or has run and not yet settled."""
KINDS = {"plain": "", "exactly once": "&exactly_once=yes", "short deadline": "&ack_deadline=10&retention=1h"}


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A site with queues of its own: ``make_site("&exactly_once=yes", max_deliveries=2)``."""
    sites: list[Site] = []

    def make_site(options: str = "", *, server: Service = pubsub, **settings: object) -> Site:
        url = f"{server.running.url}&prefix=t{secrets.token_hex(4)}-{options}"
        sites.append(Site(tmp_path, url, **{"lease": 2, **settings}))
        return sites[-1]

    yield make_site
    for site in sites:
        site.close()


def has_noted(site: Site, number: float) -> bool:
    """Whether so many different numbers were noted."""
    return len(set(site.noted())) >= number


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_worker_does_what_is_sent_retries_it_and_stops(make_site: Callable[..., Site], options: str) -> None:
    site = make_site(options)
    worker = site.command("--concurrency", "4")
    site.send_all("note", range(50))
    site.send_all("flaky", range(100, 110))
    later = datetime.now(UTC) + timedelta(seconds=2)
    site.send_all("note", range(200, 205), eta=later)
    site.until(lambda: len(set(site.noted())) == 65)
    assert datetime.now(UTC) >= later
    assert len(site.noted("tried")) >= 20
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_the_tasks_of_a_killed_worker_are_done_by_another(make_site: Callable[..., Site]) -> None:
    site = make_site("&ack_deadline=10")
    victim = site.command("--concurrency", "4")
    for number in range(4):
        site.send("hold", number, "go")
    site.until(lambda: len(site.noted("started")) == 4)
    site.send_all("note", range(10, 60))
    victim.kill()
    site.flag("go")
    site.command("--concurrency", "4")
    site.until(lambda: set(site.noted()) == set(range(10, 60)) and set(site.noted("finished")) == set(range(4)))


def test_a_task_that_kills_its_worker_is_dead_in_the_end_and_harms_no_other(make_site: Callable[..., Site]) -> None:
    site = make_site("&ack_deadline=10", max_deliveries=2, lease=1)
    site.command("--concurrency", "4", "--processes", "2")
    site.send("die", 0, "signal")
    site.send_all("note", range(1, 30))
    dead = f"{site.app.settings.default_queue}{site.app.settings.dead_queue_suffix}"
    found: list[Delivery] = []

    def is_dead() -> bool:
        found.extend(site.app.broker.acquire([dead], limit=5, wait=0.5, lease=60))
        return bool(found)

    site.until(is_dead)
    assert len(found) == 1
    assert b"crashed" in found[0].message.body
    site.until(lambda: set(site.noted()) == set(range(1, 30)))
    assert len(site.noted("dying")) == 2


@pytest.mark.parametrize("delay", [0, 3])
def test_a_task_that_kills_its_worker_is_dead_in_the_end_and_the_next_of_its_key_runs(
    make_site: Callable[..., Site], delay: int
) -> None:
    site = make_site("&ack_deadline=10&ordering=yes", server=stand_in, max_deliveries=2, lease=1)
    site.command("--concurrency", "4", "--processes", "2")
    site.send("die", 0, "signal", ordering_key="k", delay=delay)
    site.send_all("note", range(1, 3), ordering_key="k")
    site.until(lambda: site.noted() == [1, 2])
    assert 2 <= len(site.noted("dying")) <= (3 if delay else 2)
    dead = f"{site.app.settings.default_queue}{site.app.settings.dead_queue_suffix}"
    [letter] = site.app.broker.acquire([dead], limit=5, wait=10, lease=60)
    assert b"crashed" in letter.message.body


def test_what_is_due_later_survives_every_consumer_that_parked_it(make_site: Callable[..., Site]) -> None:
    """Killed again and again while it looks after messages: nobody's memory holds one that the service does not."""
    site = make_site("&ack_deadline=10")
    due = datetime.now(UTC) + timedelta(seconds=6)
    site.send_all("note", range(300), eta=due)
    chance = random.Random(4)
    for _ in range(4):
        worker = site.command("--concurrency", "4")
        time.sleep(chance.random())  # it has begun, or not: it is killed at any moment of its life
        worker.kill()
    assert site.noted() == [] or datetime.now(UTC) >= due
    site.command("--concurrency", "4")
    site.until(lambda: set(site.noted()) == set(range(300)))


def test_an_order_is_kept_for_each_key_though_workers_are_killed(make_site: Callable[..., Site]) -> None:
    """Of each key, no task ran for the first time before the one that was sent before it had run."""
    site = make_site("&ack_deadline=10&ordering=yes", server=stand_in)
    keys, each = 4, 8
    for number in range(keys * each):
        site.send_all("note", range(number, number + 1), ordering_key=f"key {number % keys}")
    for _ in range(2):
        worker = site.command("--concurrency", "4")
        site.until(partial(has_noted, site, len(set(site.noted())) + 5))
        worker.kill()
    site.command("--concurrency", "4")
    site.until(partial(has_noted, site, keys * each))
    for key in range(keys):
        first_runs = list(dict.fromkeys(number for number in site.noted() if number % keys == key))
        assert first_runs == sorted(first_runs)


def test_tasks_survive_workers_that_are_killed_at_random(make_site: Callable[..., Site]) -> None:
    soak(make_site("&ack_deadline=10", max_deliveries=50), tasks=1000, kills=3, seconds=200)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_thousand_tasks_survive_workers_that_are_killed_at_random(make_site: Callable[..., Site]) -> None:
    soak(make_site("&ack_deadline=10", max_deliveries=50), tasks=20_000, kills=20, seconds=1700)


def soak(site: Site, *, tasks: int, kills: int, seconds: float) -> None:
    """Two workers, of which one is killed and replaced whenever a part of the tasks is done; a fifth is due later."""
    chance = random.Random(7)
    workers = [site.command("--concurrency", "4") for _ in range(2)]
    soon = datetime.now(UTC) + timedelta(seconds=5)
    for first in range(0, tasks, 1000):
        site.send_all("note", range(first, first + 800))
        site.send_all("note", range(first + 800, first + 1000), eta=soon)
    deadline = time.monotonic() + seconds
    for number in range(1, kills + 1):
        done = tasks * 0.7 * number / kills
        site.until(partial(has_noted, site, done), within=deadline - time.monotonic())
        victim = chance.randrange(2)
        workers[victim].kill()
        workers[victim] = site.command("--concurrency", "4")
    site.until(partial(has_noted, site, tasks), within=deadline - time.monotonic())
    assert len(site.noted()) < tasks + kills * IN_FLIGHT, "repeated: only what was in flight when a worker died"
