"""A worker process that is killed: others have its tasks within lease + 1 s, and none is lost."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.core.crash.conftest import Site

pytestmark = pytest.mark.slow
LEASE = 1.0
"""Seconds; the lease of a site's workers."""


def _noted(site: Site, number: int) -> bool:
    return len(site.lines("note")) > number


def test_another_worker_has_every_task_again_within_the_lease_and_a_second(site: Site) -> None:
    number = 8
    for task in range(number):
        site.send("hold", task, "go")
    killed = site.worker(concurrency=number)
    until(lambda: len(site.lines("started")) == number)
    other = site.worker(concurrency=number)
    until(lambda: other.ready)
    assert site.app.inspect().stats("default").leased == number
    killed.kill()
    start = time.monotonic()
    until(lambda: len(site.lines("started")) == 2 * number, within=30)
    assert time.monotonic() - start < LEASE + 1
    site.flag("go")
    until(lambda: not site.left())
    assert sorted(int(words[1]) for words in site.lines("finished")) == list(range(number))
    assert {words[2] for words in site.lines("finished")} == {str(other.pid)}
    assert site.left("default.dead") == 0


def test_a_busy_worker_that_is_killed_loses_nothing(site: Site) -> None:
    """Killed in full flight, with hundreds of messages taken in advance and half-settled."""
    number = 3000
    site.app.send_many([site.app.signature("note", [task], {}) for task in range(number)])
    for _ in range(3):
        worker = site.worker(concurrency=8)
        progress = len(site.lines("note")) + 200
        until(partial(_noted, site, progress))
        worker.kill()
    last = site.worker(concurrency=8)
    until(lambda: not site.left(), within=30)
    assert {int(words[1]) for words in site.lines("note")} == set(range(number))
    assert site.left("default.dead") == 0
    assert "Traceback" not in last.log


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_task_that_takes_its_worker_down_once_is_run_again(site: Site, how: str) -> None:
    site.send("die_once", 1, how)
    site.send("note", 2)
    first = site.worker(concurrency=1)
    assert first.wait(20) in {3, -9}
    site.worker(concurrency=1)
    until(lambda: not site.left())
    assert {words[1] for words in site.lines("note")} == {"1", "2"}


def test_results_survive_the_worker(site: Site) -> None:
    worker = site.worker()
    handles = [site.send("double", number) for number in range(20)]
    assert [handle.get(timeout=20) for handle in handles] == [2 * number for number in range(20)]
    worker.kill()
    assert [handle.get(timeout=1) for handle in handles] == [2 * number for number in range(20)]
