"""A message that kills its worker every time: dead-lettered in the end, and no innocent one with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker import State, TaskFailed
from anybroker.codec import decode_dead
from tests.waiting import until

if TYPE_CHECKING:
    from tests.core.crash.conftest import MakeSite, Site

pytestmark = pytest.mark.slow


def run_until_done(site: Site, *, most: int) -> int:
    """Start a worker whenever the last one has died, until nothing is left; returns how many died."""
    workers = [site.worker(concurrency=4)]
    while True:
        until(lambda: workers[-1].process.poll() is not None or not site.left(), within=30)
        if not site.left():
            return len(workers) - 1
        assert len(workers) <= most, workers[-1].log
        workers.append(site.worker(concurrency=4))


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_it_is_dead_lettered_after_max_deliveries_and_its_neighbours_complete(make_site: MakeSite, how: str) -> None:
    site = make_site(max_deliveries=3)
    for number in range(10):
        site.send("note", number)
    poison = site.send("die", 99, how, headers={"a": "b"}, priority=1)
    for number in range(10, 20):
        site.send("note", number)
    assert run_until_done(site, most=3) == 3
    assert len(site.lines("dying")) == 3
    assert {int(words[1]) for words in site.lines("note")} == set(range(20))
    (message,) = site.app.inspect().peek("default.dead")
    letter, body = decode_dead(message.body)
    assert (message.id, letter.reason, letter.queue) == (poison.id, "crashed", "default")
    assert letter.error is not None
    assert letter.error.type == "anybroker.errors.WorkerLost"
    assert "3 times" in letter.error.message
    assert site.app.codec.decode(body).headers == {"a": "b"}


def test_several_of_them_at_once_take_no_innocent_one_along(make_site: MakeSite) -> None:
    site = make_site(max_deliveries=2)
    for number in range(12):
        site.send("note", number)
        if number % 4 == 0:
            site.send("die", number, "kill")
    deaths = run_until_done(site, most=6)
    assert deaths <= 6
    assert {int(words[1]) for words in site.lines("note")} == set(range(12))
    letters = [decode_dead(message.body)[0] for message in site.app.inspect().peek("default.dead")]
    assert [letter.reason for letter in letters] == ["crashed"] * 3


def test_a_suspect_is_never_held_beside_others(make_site: MakeSite) -> None:
    """A task on its last chance arrives in one batch with a fresh poison, which must not take it along."""
    site = make_site(max_deliveries=3)
    site.send("note", 1, id="suspect")
    (delivery,) = site.app.broker.acquire(["default"], limit=1, wait=0, lease=60)
    task = msgspec.structs.replace(site.app.codec.decode(delivery.message.body), crashes=2)
    version = msgspec.structs.replace(delivery.message, body=site.app.codec.encode(task))
    assert site.app.broker.update([(delivery, version)]) == [True]
    site.send("die", 99, "kill")
    run_until_done(site, most=3)
    assert site.lines("note") == [["note", "1"]]
    dead = [message.id for message in site.app.inspect().peek("default.dead")]
    assert "suspect" not in dead
    assert len(dead) == 1


def test_a_suspect_that_ends_well_is_done_and_the_worker_goes_on(make_site: MakeSite) -> None:
    site = make_site(max_deliveries=2)
    site.send("die_once", 1, "kill")
    assert site.worker().wait(20) == -9
    for number in range(2, 8):
        site.send("note", number)
    site.worker()
    until(lambda: not site.left())
    assert {int(words[1]) for words in site.lines("note")} == set(range(1, 8))
    assert site.left("default.dead") == 0


def test_whoever_waits_for_it_is_told(make_site: MakeSite) -> None:
    site = make_site(max_deliveries=1)
    handle = site.send("double", 4)
    site.app.broker.acquire(["default"], limit=1, wait=0, lease=0)  # a worker takes it and dies at once
    site.worker()
    with pytest.raises(TaskFailed, match="its worker died"):
        handle.get(timeout=20)
    assert handle.status is State.FAILED
