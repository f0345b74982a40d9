"""What is said of a broker that is wrong where a test works with many messages, or with many histories."""

from __future__ import annotations

import re

import pytest

from anybroker.broker import Message
from anybroker.capabilities import Ordering
from anybroker_conformance.broker import law03_exclusive, random_calls
from anybroker_conformance.broker.model import Model
from anybroker_conformance.ledger.runner import Run, run_suite

pytestmark = pytest.mark.slow


def test_a_second_delivery_under_a_valid_lease_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law03_exclusive, "volume", lambda *_, **__: 3000)  # a slow machine is given one portion
    run = run_suite("LeaseOverflows", "law03 and thousands_once_each", 1)
    assert run.failed
    assert "Broken: delivered again under a valid lease" in run.output, run.output
    assert run.seconds < 60, "the test has not ended by itself"


def found_by_random_calls(name: str) -> Run:
    """The first run that finds what is wrong: on a loaded machine they are fewer calls, and may miss it once."""
    runs = (run_suite(name, "random_calls", seed) for seed in range(1, 6))
    return next(run for run in runs if run.failed)


def test_random_calls_tell_what_they_found_when_they_are_shrunk_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_calls, "SHRINKING", 0.0)
    run = found_by_random_calls("RetryFreesKey")
    assert re.search(r"^Law \d+, ", run.output, re.MULTILINE), run.output
    assert "What happened to " in run.output, run.output


def test_what_random_calls_find_is_not_hidden_by_what_they_would_find_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random_calls, "SHRINKING", 2.0)
    run = found_by_random_calls("PeekCounts")
    assert "5356800.000 s" not in run.output, run.output  # the end is two months later


def test_a_new_version_is_known_as_one() -> None:
    """Whether a wrong message breaks the law of what is enqueued or that of updates."""
    model = Model(Ordering.FIFO)
    for queue in ("q", "elsewhere"):
        model.arrive(Message("x", "q", b"old"))
        assert not model.stored["x"].updated
        model.replace(model.stored["x"], Message("x", queue, b"new"))
        assert model.stored["x"].updated
