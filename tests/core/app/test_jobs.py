"""Jobs of several steps: what a step gets, what is kept, what is never repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import ConfigurationError, Retry, State, TaskFailed, current_context
from anybroker.codec import decode_dead
from anybroker.events import Failed, Retried, StepFinished, Succeeded
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker import App
    from anybroker.testing import Testing


@dataclass
class Picture:
    url: str
    size: tuple[int, int]


def fetch(url: str, *, width: int = 100) -> Picture:
    return Picture(url, (width, width))


def halve(picture: Picture) -> Picture:
    return Picture(picture.url, (picture.size[0] // 2, picture.size[1] // 2))


async def upload(picture: Picture) -> str:
    return f"{picture.url}@{picture.size[0]}x{picture.size[1]}"


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_each_step_gets_what_the_one_before_it_returned(
    make_app: Callable[..., App], each_url: str, codec: str
) -> None:
    app = make_app(each_url, codec=codec)
    job = app.job("thumbnail").step(fetch).step(halve).step(upload)
    with app.worker(concurrency=2):
        assert job.send("cat", width=64).get(timeout=10) == "cat@32x32"
        assert job.send("dog").get(timeout=10) == "dog@50x50"


class Steps:
    """Three steps that note their runs, and raise as often as they are told to."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.failures: dict[str, int] = {}

    def _run(self, step: str) -> None:
        self.runs.append(step)
        if self.failures.get(step, 0) > 0:
            self.failures[step] -= 1
            raise ValueError(step)

    def first(self, x: int) -> list[int]:
        self._run("first")
        return [x]

    def second(self, xs: list[int]) -> list[int]:
        self._run("second")
        return [*xs, 2]

    def third(self, xs: list[int]) -> list[int]:
        self._run("third")
        return [*xs, 3]


@pytest.mark.parametrize("failing", ["first", "second", "third"])
def test_a_retry_goes_on_with_the_step_that_failed(app: App, t: Testing, failing: str) -> None:
    steps = Steps()
    steps.failures[failing] = 2
    job = app.job("job", retry=Retry(max=2, after=1)).step(steps.first).step(steps.second).step(steps.third)
    handle = job.send(1)
    t.run_until_idle()
    assert handle.get() == [1, 2, 3]
    at = ["first", "second", "third"].index(failing)
    expected = ["first", "second", "third"]
    expected[at:at] = [failing] * 2
    assert steps.runs == expected


def test_the_state_is_in_the_broker_after_each_step(app: App, t: Testing) -> None:
    """Seen from inside: when a step runs, the message itself says so."""
    seen: list[tuple[int, bytes, int]] = []

    def look(x: int) -> int:
        (message,) = t.broker.peek("default")
        task = app.codec.decode(message.body)
        seen.append((task.step, bytes(task.state), current_context().step))
        return x + 1

    app.job("job").step(look).step(look).step(look).send(10)
    t.run()
    assert seen == [(0, b"", 0), (1, b"11", 1), (2, b"12", 2)]
    finished = [event.step for event in t.events if isinstance(event, StepFinished)]
    assert finished == [0, 1], "the last step's return is the result"
    assert [event.result for event in t.events if isinstance(event, Succeeded)] == [13]


def test_each_step_may_have_its_own_retry_and_the_jobs_holds_for_the_others(app: App, t: Testing) -> None:
    steps = Steps()
    steps.failures = {"first": 1, "second": 3, "third": 2}
    handle = (
        app.job("job", retry=Retry(max=1, after=1))
        .step(steps.first)
        .step(steps.second, retry=Retry(max=3, after=10))
        .step(steps.third)
        .send(1)
    )
    t.run_until_idle()
    assert steps.runs == ["first"] * 2 + ["second"] * 4 + ["third"] * 2
    assert [event.delay for event in t.events if isinstance(event, Retried)] == [1, 10, 10, 10, 1]
    with pytest.raises(TaskFailed, match="third"):
        handle.get()
    (message,) = t.broker.peek("default.dead")
    letter, body = decode_dead(message.body)
    assert letter.attempt == 6, "attempts count through the whole job"
    task = app.codec.decode(body)
    assert (task.step, bytes(task.state)) == (2, b"[1,2]"), "put back, it goes on with the step that failed"


def test_a_dead_job_that_is_put_back_resumes_where_it_failed(app: App, t: Testing) -> None:
    from msgspec.structs import replace

    steps = Steps()
    steps.failures = {"third": 1}
    handle = app.job("job").step(steps.first).step(steps.second).step(steps.third).send(1)
    t.run()
    (delivery,) = t.broker.acquire(["default.dead"], limit=1, wait=0, lease=60)
    t.broker.update(
        [(delivery, replace(delivery.message, queue="default", body=decode_dead(delivery.message.body)[1]))]
    )
    t.run()
    assert steps.runs == ["first", "second", "third", "third"]
    assert t.broker.queues() == []
    assert handle.id == delivery.message.id


def test_each_step_may_have_its_own_timeout(make_app: Callable[..., App]) -> None:
    app = make_app()
    timeouts: list[float | None] = []

    def note(x: int) -> int:
        timeouts.append(current_context().timeout)  # type: ignore[attr-defined]
        return x

    app.job("job", timeout=60).step(note).step(note, timeout=2.5).step(note).send(1)
    with app.worker(concurrency=1):
        until(lambda: len(timeouts) == 3)
    assert timeouts == [60, 2.5, 60]


def test_a_timeout_in_a_step_ends_that_step_alone(make_app: Callable[..., App]) -> None:
    app = make_app()
    runs = []

    def quick(x: int) -> int:
        runs.append("quick")
        return x

    def slow(x: int) -> int:
        runs.append("slow")
        while len(runs) < 3:
            pass  # until TaskTimeout is raised here
        return x

    handle = app.job("job").step(quick).step(slow, timeout=0.05, retry=Retry(max=1, after=0)).send(5)
    with app.worker(concurrency=1):
        assert handle.get(timeout=10) == 5
    assert runs == ["quick", "slow", "slow"]


def test_hooks_are_called_once_for_the_whole_job(app: App, t: Testing) -> None:
    steps, told = Steps(), []
    job = app.job("job", on_success=lambda ctx, result: told.append((ctx.step, result)))
    job.step(steps.first).step(steps.second).send(1)
    t.run()
    assert told == [(1, [1, 2])]


def test_options_hold_for_all_steps(app: App, t: Testing) -> None:
    seen = []

    def look(x: int) -> int:
        ctx = current_context()
        seen.append((ctx.queue, ctx.headers["h"], ctx.delivery.message.priority, ctx.id))
        return x

    handle = app.job("job", queue="jobs").step(look).step(look).options(priority=2, headers={"h": "1"}).send(1)
    t.run()
    assert seen == [("jobs", "1", 2, handle.id)] * 2


def test_a_state_that_cannot_travel_fails_the_job(app: App, t: Testing) -> None:
    def opaque(_x: int) -> Any:
        return object()

    def last(x: Any) -> None: ...

    handle = app.job("job").step(opaque).step(last).send(1)
    t.run()
    assert handle.status is State.FAILED
    (event,) = (event for event in t.events if isinstance(event, Failed))
    assert "cannot travel" in str(event.error)


def test_a_state_that_is_too_large_for_the_broker_fails_the_job(make_app: Callable[..., App]) -> None:
    app = make_app("memory://?max_body=4000")

    def long(n: int) -> str:
        return "x" * n

    def count(text: str) -> int:
        return len(text)

    job = app.job("job").step(long).step(count)
    with app.worker(concurrency=1):
        assert job.send(1000).get(timeout=10) == 1000
        with pytest.raises(TaskFailed, match="too many for the broker"):
            job.send(4000).get(timeout=10)


def test_a_state_that_does_not_fit_the_next_step_is_dead_lettered(app: App, t: Testing) -> None:
    def lying(_x: int) -> Any:
        return "text"

    def number(x: int) -> int:
        return x

    job: Any = app.job("job").step(lying)
    job.step(number).send(1)
    t.run()
    assert [letter.reason for letter in t.dead()] == ["arguments"]


def test_a_job_that_lost_its_last_step_is_dead_lettered_with_a_reason(app: App, t: Testing) -> None:
    """It was checkpointed by another version of the program, which had more steps."""
    from msgspec.structs import replace

    def one(x: int) -> int:
        return x

    app.job("job").step(one).send(1)
    (delivery,) = t.broker.acquire(["default"], limit=1, wait=0, lease=60)
    task = replace(app.codec.decode(delivery.message.body), step=4)
    t.broker.update([(delivery, replace(delivery.message, body=app.codec.encode(task)))])
    t.run()
    (letter,) = t.dead()
    assert letter.error is not None
    assert "has no step 4" in letter.error.message


def test_steps_are_checked_where_they_are_declared(app: App) -> None:
    def two(a: int, b: int) -> int:
        return a + b

    loose: Any = app.job("job").step(fetch)
    with pytest.raises(ConfigurationError, match="timeout"):
        loose.step(halve, timeout=-1)
    with pytest.raises(ConfigurationError, match="missing a required argument"):
        loose.step(two)


def test_a_function_without_a_signature_is_refused(app: App) -> None:
    with pytest.raises(ConfigurationError, match="no signature"):
        app.job("job").step(min)


def test_a_step_leaves_the_job_it_is_added_to_as_it_is(app: App) -> None:
    beginning = app.job("job").step(fetch)
    whole = beginning.step(halve)
    assert [step.function for step in beginning.definition.steps] == [fetch]
    assert [step.function for step in whole.definition.steps] == [fetch, halve]
    assert app.tasks["job"] is whole.definition


def test_the_beginning_of_a_job_is_not_sent_for_the_whole(app: App) -> None:
    beginning = app.job("job").step(fetch)
    beginning.step(halve)
    for use in (lambda: beginning.send("cat"), lambda: beginning.s("cat"), lambda: beginning.options(delay=1)):
        with pytest.raises(ConfigurationError, match="'job' has 2 steps, and this is its beginning"):
            use()


def test_a_job_does_not_go_on_in_two_ways(app: App) -> None:
    beginning = app.job("job").step(fetch)
    beginning.step(halve)
    with pytest.raises(ConfigurationError, match="two tasks are named 'job'"):
        beginning.step(upload)


@pytest.mark.parametrize(
    "use", [lambda job: job.send("cat"), lambda job: job.options(delay=1)], ids=["send", "options"]
)
def test_a_job_that_was_sent_does_not_go_on(app: App, use: Callable[[Any], object]) -> None:
    job = app.job("job").step(fetch)
    use(job)
    with pytest.raises(ConfigurationError, match="'job' was sent already"):
        job.step(halve)


def test_another_job_that_begins_alike_needs_another_name(app: App) -> None:
    app.job("job").step(fetch).step(halve)
    with pytest.raises(ConfigurationError, match="two tasks are named 'job'"):
        app.job("job").step(fetch)
    app.job("other").step(fetch)


def test_a_job_that_is_declared_again_by_the_same_lines_is_the_same(app: App, t: Testing) -> None:
    """A module that is imported anew, or under two names; meanwhile its tasks run."""

    def declare() -> list[Any]:
        beginning = app.job("job").step(fetch)
        counts = len(app.tasks["job"].steps)
        return [beginning.step(halve), counts]

    first, _ = declare()
    again, steps_meanwhile = declare()
    assert steps_meanwhile == 2
    handles = [first.send("cat"), again.send("dog")]
    t.run()
    assert [handle.get() for handle in handles] == [Picture("cat", (50, 50)), Picture("dog", (50, 50))]


def test_a_task_and_a_job_do_not_share_a_name(app: App) -> None:
    app.task(name="same")(fetch)
    with pytest.raises(ConfigurationError, match="two tasks are named 'same'"):
        app.job("same").step(fetch)
