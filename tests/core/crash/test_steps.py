"""SIGKILL between and inside the steps of a job: it goes on where it was, and repeats no finished step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from tests.core.crash.conftest import Site

pytestmark = pytest.mark.slow
STEPS = ["first", "second", "third"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_inside_a_step(site: Site, step: str) -> None:
    site.flag(f"kill-inside-{step}")
    handle = site.send("job", "seed")
    assert site.worker(concurrency=1).wait(20) == -9
    site.worker(concurrency=1)
    assert handle.get(timeout=20) == ["seed", *STEPS]
    assert [words[1] for words in site.lines("end")] == STEPS, "each step finished once"
    begun = [words[1] for words in site.lines("step")]
    assert begun == [name for name in STEPS for _ in range(2 if name == step else 1)]


@pytest.mark.parametrize("finished", [0, 1])
def test_killed_between_two_steps(site: Site, finished: int) -> None:
    site.flag(f"kill-after-{finished}")
    handle = site.send("job", "seed")
    assert site.worker(concurrency=1).wait(20) == -9
    begun = [words[1] for words in site.lines("step")]
    assert begun == STEPS[: finished + 1]
    (message,) = site.app.inspect().peek("default")
    task = site.app.codec.decode(message.body)
    assert task.step == finished + 1, "the checkpoint was in the broker when the worker died"
    site.worker(concurrency=1)
    assert handle.get(timeout=20) == ["seed", *STEPS]
    assert [words[1] for words in site.lines("step")] == STEPS, "no step was repeated"


def test_killed_again_and_again(site: Site) -> None:
    for name in STEPS:
        site.flag(f"kill-inside-{name}")
    site.flag("kill-after-0")
    handle = site.send("job", "seed")
    for _ in range(4):
        assert site.worker(concurrency=1).wait(20) == -9
    site.worker(concurrency=1)
    assert handle.get(timeout=20) == ["seed", *STEPS]
    assert [words[1] for words in site.lines("end")] == STEPS
    until(lambda: not site.left())
