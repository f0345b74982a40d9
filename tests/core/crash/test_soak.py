"""Very many tasks through two worker processes that are killed at random and started again: none is lost."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.crash.conftest import MakeSite, Process, Site


def soak(site: Site, tasks: int, *, seed: int, deadline: float, disturb: Callable[[int], object] = bool) -> int:
    """Let two workers drain the tasks and kill one of them every now and then; returns how many were killed.

    ``disturb`` is called after each, with their number.
    """
    chance = random.Random(seed)
    for first in range(0, tasks, 10_000):
        numbers = range(first, min(first + 10_000, tasks))
        site.app.send_many([site.app.signature("work", [number], {}) for number in numbers])
    size_of_all = sum(len(f"work {number}\n") for number in range(tasks))
    workers: list[Process] = [site.worker(concurrency=4) for _ in range(2)]
    kills = 0
    end = time.monotonic() + deadline
    while site.left():
        lives_until = site.record.stat().st_size + size_of_all * chance.uniform(0.01, 0.05)
        while site.record.stat().st_size < lives_until and site.left():
            assert time.monotonic() < end, f"{site.left()} of {tasks} tasks are left after {deadline} s"
            time.sleep(0.02)
        if site.left():
            victim = chance.randrange(2)
            workers[victim].kill()
            workers[victim] = site.worker(concurrency=4)
            kills += 1
            disturb(kills)
    return kills


def check(site: Site, tasks: int) -> None:
    noted = [int(words[1]) for words in site.lines("work")]
    missing = set(range(tasks)) - set(noted)
    assert not missing, f"{len(missing)} tasks were lost, e.g. {sorted(missing)[:5]}"
    assert site.left("default.dead") == 0, "no innocent task was dead-lettered"
    assert len(noted) - tasks < tasks * 0.2, "repeated: only what was in flight when a worker died"


@pytest.mark.slow
def test_five_thousand_tasks_survive_random_kills(make_site: MakeSite) -> None:
    site = make_site(max_deliveries=50, lease=1)
    assert soak(site, 5_000, seed=1, deadline=90) >= 10
    check(site, 5_000)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_thousand_tasks_survive_random_kills(make_site: MakeSite) -> None:
    site = make_site(max_deliveries=200, lease=1)
    assert soak(site, 100_000, seed=2, deadline=800) >= 10
    check(site, 100_000)
