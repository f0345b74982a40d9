"""Retries: when, how often, and what the task knows about them."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App, Retry, TaskFailed, TaskTimeout, current_context, exponential, fibonacci, fixed
from anybroker.events import Retried

if TYPE_CHECKING:
    from anybroker.testing import Testing


def delays(t: Testing) -> list[float]:
    return [event.delay for event in t.events if isinstance(event, Retried)]


def failing(app: App, retry: Retry | None, error: BaseException | None = None) -> Any:
    """A task that always raises."""

    @app.task(name="failing", retry=retry)
    def fail() -> None:
        raise error or ValueError("again")

    return fail


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (None, []),
        (Retry(max=0), []),
        (Retry(max=2, after=5), [5, 5]),
        (Retry(max=2, after=timedelta(minutes=1)), [60, 60]),
        (Retry(max=3, after=fixed(0)), [0, 0, 0]),
        (Retry(max=5, after=fibonacci(2)), [2, 2, 4, 6, 10]),
        (Retry(max=4, after=fibonacci(2, cap=5)), [2, 2, 4, 5]),
        (Retry(max=4, after=exponential(1, jitter=0)), [1, 2, 4, 8]),
        (Retry(max=4, after=exponential(1, factor=10, cap=50, jitter=0)), [1, 10, 50, 50]),
        (Retry(max=3, after=lambda n: n * 10), [10, 20, 30]),
        (Retry(max=2, after=lambda n: timedelta(hours=n)), [3600, 7200]),
        (Retry(max=1, after=lambda _: -5), [0]),
        (Retry(max=1, after=lambda _: 1e12), [30 * 86_400]),
        (Retry(after=1), [1, 1, 1]),
    ],
)
def test_policies(app: App, t: Testing, retry: Retry | None, expected: list[float]) -> None:
    handle = failing(app, retry).send()
    assert t.run_until_idle() == len(expected) + 1
    assert delays(t) == expected
    (letter,) = t.dead()
    assert (letter.reason, letter.attempt, letter.queue) == ("failed", len(expected) + 1, "default")
    with pytest.raises(TaskFailed, match="again"):
        handle.get()


def test_nothing_runs_before_the_delay_has_passed(app: App, t: Testing) -> None:
    failing(app, Retry(max=1, after=100)).send()
    t.run()
    t.advance(99.9)
    assert t.run() == 0
    t.advance(0.1)
    assert t.run() == 1


def test_exponential_is_the_default_and_jitters(app: App, t: Testing) -> None:
    task = failing(app, Retry(max=3))
    for _ in range(40):
        task.send()
    t.run_until_idle()
    found = delays(t)
    assert len(found) == 120
    for first, longest in ((0, 1), (40, 2), (80, 4)):
        chunk = sorted(found)[first : first + 40]
        assert longest / 2 <= chunk[0] < chunk[-1] <= longest
    assert len(set(found)) > 100


@pytest.mark.parametrize("answer", [None, "soon", float("nan"), float("inf"), [1]])
def test_a_delay_function_that_answers_nonsense_gives_way_to_exponential(app: App, t: Testing, answer: Any) -> None:
    failing(app, Retry(max=1, after=lambda _: answer)).send()
    assert t.run_until_idle() == 2
    assert 0.5 <= delays(t)[0] <= 1


def test_a_delay_function_that_raises_is_logged(app: App, t: Testing, caplog: pytest.LogCaptureFixture) -> None:
    def broken(retry: int) -> float:
        raise ZeroDivisionError(retry)

    failing(app, Retry(max=2, after=broken)).send()
    assert t.run_until_idle() == 3
    assert 0.5 <= delays(t)[0] <= 1 <= delays(t)[1] <= 2
    said = [record for record in caplog.records if record.name == "anybroker.retry"]
    assert [record.levelno for record in said] == [logging.ERROR] * 2
    assert "delay function raised" in said[0].message


@pytest.mark.parametrize(
    ("retry", "error", "runs"),
    [
        (Retry(on=OSError), ConnectionError(), 4),
        (Retry(on=OSError), ValueError(), 1),
        (Retry(on=(OSError, ValueError)), ValueError(), 4),
        (Retry(give_up_on=ValueError), ValueError(), 1),
        (Retry(give_up_on=(OSError, ValueError)), UnicodeError(), 1),
        (Retry(give_up_on=ValueError), OSError(), 4),
        (Retry(on=OSError, give_up_on=FileNotFoundError), FileNotFoundError(), 1),
        (Retry(on=OSError, give_up_on=FileNotFoundError), PermissionError(), 4),
        (Retry(on=TimeoutError), TaskTimeout("ran longer"), 4),
        (Retry(), SystemExit(3), 4),
    ],
)
def test_on_and_give_up_on(app: App, t: Testing, retry: Retry, error: BaseException, runs: int) -> None:
    failing(app, retry, error).send()
    assert t.run_until_idle() == runs
    assert len(t.dead()) == 1


@pytest.mark.parametrize(
    ("declared", "raised", "expected"),
    [
        (None, Retry(after=60), [60] * 3),
        (None, Retry(after=60, max=5), [60] * 5),
        (None, Retry(max=0), []),
        (Retry(max=2, after=5), Retry(after=60), [60] * 2),
        (Retry(max=2, after=5), Retry(), [5] * 2),
        (Retry(max=2, after=5), Retry(max=4), [5] * 4),
        (Retry(max=5, after=5), Retry(max=1), [5]),
        (Retry(max=2, after=5), Retry(after=lambda n: n), [1, 2]),
        (Retry(max=2, after=5, on=KeyError), Retry(), [5] * 2),
        (Retry(max=2, after=5), Retry(after=timedelta(minutes=1)), [60] * 2),
        (Retry(max=2, after=5), Retry(after=0), [0] * 2),
    ],
)
def test_retry_raised_from_inside_is_bounded(
    app: App, t: Testing, declared: Retry | None, raised: Retry, expected: list[float]
) -> None:
    failing(app, declared, raised).send()
    t.run_until_idle()
    assert delays(t) == expected
    assert len(t.dead()) == 1, "it does not go on for ever"


def test_a_raised_retry_counts_together_with_other_failures(app: App, t: Testing) -> None:
    errors: list[BaseException] = [ValueError(), Retry(after=7), ValueError(), Retry(after=7)]

    @app.task(retry=Retry(max=3, after=1))
    def fail() -> None:
        raise errors[current_context().retries]

    fail.send()
    t.run_until_idle()
    assert delays(t) == [1, 7, 1]
    (letter,) = t.dead()
    assert letter.attempt == 4


def test_attempts_and_the_last_error_are_visible(app: App, t: Testing) -> None:
    seen: list[tuple[int, int, str | None]] = []

    @app.task(retry=Retry(max=3, after=1))
    def fail_twice() -> str:
        ctx = current_context()
        error = ctx.last_error
        seen.append((ctx.attempt, ctx.retries, f"{error.type}: {error.message}" if error else None))
        if ctx.attempt < 3:
            raise KeyError(ctx.attempt)
        assert error is not None
        assert "fail_twice" in error.traceback
        return "done"

    handle = fail_twice.send()
    t.run_until_idle()
    assert seen == [(1, 0, None), (2, 1, "KeyError: 1"), (3, 2, "KeyError: 2")]
    assert handle.get() == "done"


def test_a_retry_keeps_what_was_sent(app: App, t: Testing) -> None:
    seen: list[tuple[Any, ...]] = []

    @app.task(retry=Retry(max=1, after=1))
    def fail(x: int, *, y: str) -> None:
        ctx = current_context()
        message = ctx.delivery.message
        seen.append((x, y, ctx.id, dict(ctx.headers), ctx.queue, message.priority, message.ordering_key))
        raise ValueError

    fail.options(headers={"h": "1"}, queue="own", priority=3, ordering_key="k").send(1, y="two")
    t.run_until_idle()
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_dead_letter_keeps_traceback_attempts_and_headers(app: App, t: Testing) -> None:
    from anybroker.codec import decode_dead

    app.task(name="bad", retry=Retry(max=1, after=1))(_divide)
    app.send_by_name("bad", [3], queue="own", priority=2, ordering_key="k", headers={"tenant": "7"})
    t.run_until_idle()
    (message,) = t.broker.peek("own.dead")
    letter, body = decode_dead(message.body)
    assert (letter.reason, letter.queue, letter.attempt, letter.priority, letter.ordering_key) == (
        "failed",
        "own",
        2,
        2,
        "k",
    )
    assert letter.died_at == t.now
    assert letter.error is not None
    assert letter.error.type == "ZeroDivisionError"
    assert "in _divide" in letter.error.traceback
    task = app.codec.decode(body)
    assert (task.task, task.headers, bytes(task.args)) == ("bad", {"tenant": "7"}, b"[3]")


def _divide(x: int) -> float:
    return x / 0


def test_a_large_task_can_be_retried(app: App, t: Testing) -> None:
    """What a retry adds to a message does not make it too large."""
    app_limit = t.broker.capabilities.max_body
    runs = []

    @app.task(retry=Retry(max=1, after=1))
    def fail(text: str) -> None:
        runs.append(len(text))
        raise ValueError("x" * 10_000)

    fail.send("x" * (app_limit - 1024 - 300))
    t.run_until_idle()
    assert len(runs) == 2
    (letter,) = t.dead()
    assert letter.reason == "failed"
