"""Properties of the delay functions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anybroker import ConfigurationError, Retry, exponential, fibonacci, fixed
from anybroker.retry import LONGEST_DELAY, backoff_delay
from anybroker.task import BackoffSpec

if TYPE_CHECKING:
    from collections.abc import Callable

durations = st.floats(0, 1e12)
retries = st.integers(1, 1_000_000)
shares = st.floats(0, 1)
specs = st.one_of(
    st.builds(fixed, durations, jitter=shares),
    st.builds(exponential, durations, factor=st.floats(1, 1e6), cap=durations, jitter=shares),
    st.builds(fibonacci, durations, cap=durations, jitter=shares),
)


@given(specs, retries)
def test_every_delay_is_bounded(spec: BackoffSpec, retry: int) -> None:
    delay = backoff_delay(spec, retry)
    assert 0 <= delay <= LONGEST_DELAY
    assert delay <= spec.cap or spec.kind == "fixed"


@given(specs, retries)
def test_jitter_takes_at_most_its_share(spec: BackoffSpec, retry: int) -> None:
    whole = backoff_delay(BackoffSpec(spec.kind, spec.base, spec.factor, spec.cap), retry)
    assert whole * (1 - spec.jitter) <= backoff_delay(spec, retry) <= whole


@given(specs, st.integers(1, 200))
def test_without_jitter_delays_never_shrink(spec: BackoffSpec, retry: int) -> None:
    still = BackoffSpec(spec.kind, spec.base, spec.factor, spec.cap)
    assert backoff_delay(still, retry) <= backoff_delay(still, retry + 1)


@given(st.floats(0, LONGEST_DELAY), retries)
def test_fixed_is_the_same_each_time(delay: float, retry: int) -> None:
    assert backoff_delay(fixed(delay), retry) == delay


@given(st.floats(0.001, 100), st.floats(1, 10), st.integers(1, 20))
def test_exponential_grows_by_its_factor(base: float, factor: float, retry: int) -> None:
    spec = exponential(base, factor=factor, cap=1e9, jitter=0)
    first, second = backoff_delay(spec, retry), backoff_delay(spec, retry + 1)
    assume(second < LONGEST_DELAY)
    assert second == pytest.approx(first * factor)


@given(st.floats(0.001, 100), st.integers(1, 20))
def test_fibonacci_is_the_sum_of_the_two_before(base: float, retry: int) -> None:
    first, second, third = (backoff_delay(fibonacci(base, cap=1e9), retry + n) for n in range(3))
    assume(third < LONGEST_DELAY)
    assert third == pytest.approx(first + second)


@given(specs, st.integers(0, 1000))
def test_a_policy_travels(spec: BackoffSpec, most: int) -> None:
    travelling = Retry(most, after=spec).spec()
    assert (travelling.max, travelling.after) == (most, spec)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(partial(fixed, -1), id="negative"),
        pytest.param(partial(exponential, -1), id="negative base"),
        pytest.param(partial(exponential, 1, factor=0.5), id="shrinking"),
        pytest.param(partial(exponential, 1, cap=-1), id="negative cap"),
        pytest.param(partial(exponential, 1, jitter=1.5), id="more jitter than delay"),
        pytest.param(partial(fibonacci, 1, jitter=-0.1), id="negative jitter"),
        pytest.param(partial(fixed, float("nan")), id="nan"),
        pytest.param(partial(exponential, 1, factor=float("nan")), id="factor nan"),
        pytest.param(partial(exponential, 1, factor=float("inf")), id="factor without end"),
        pytest.param(partial(Retry, after=-1), id="negative after"),
    ],
)
def test_impossible_delays_are_refused_where_they_are_written(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()
