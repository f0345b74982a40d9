"""Whether and when a failed task is tried again.

Attempts are counted in retries: ``Retry(max=5)`` means one first run and up to five more.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from anybroker.errors import ConfigurationError
from anybroker.task import MAX_COUNT, BackoffSpec, RetrySpec

if TYPE_CHECKING:
    from anybroker.task import Task

Seconds = float | timedelta
After = Seconds | BackoffSpec | Callable[[int], Seconds]
Errors = type[BaseException] | tuple[type[BaseException], ...]

DEFAULT_MAX = 3
LONGEST_DELAY = 30 * 86_400.0
"""Seconds; what every broker can delay (law 8)."""
_log = logging.getLogger("anybroker.retry")


def seconds(value: Seconds) -> float:
    """A duration as seconds. Raises ``ConfigurationError`` for what is none."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    number: object = value  # the type checker believes the annotation, this function does not
    if isinstance(number, int | float) and math.isfinite(number):
        return float(number)
    message = f"{value!r} is no duration; give seconds or a timedelta"
    raise ConfigurationError(message)


def fixed(delay: Seconds, *, jitter: float = 0.0) -> BackoffSpec:
    """The same delay before every retry."""
    return _backoff("fixed", delay, cap=delay, jitter=jitter)


def exponential(base: Seconds = 1.0, *, factor: float = 2.0, cap: Seconds = 3600.0, jitter: float = 0.5) -> BackoffSpec:
    """``base``, then ``factor`` times longer before each retry, at most ``cap``.

    ``jitter`` is the share of each delay that is left to chance (0.5: between half of it and the whole), so that
    tasks that failed together do not come back together.
    """
    return _backoff("exponential", base, factor=factor, cap=cap, jitter=jitter)


def fibonacci(base: Seconds = 1.0, *, cap: Seconds = 3600.0, jitter: float = 0.0) -> BackoffSpec:
    """``base`` times 1, 1, 2, 3, 5, 8, ..., at most ``cap``."""
    return _backoff("fibonacci", base, cap=cap, jitter=jitter)


def _backoff(
    kind: Literal["fixed", "exponential", "fibonacci"],
    base: Seconds,
    *,
    factor: float = 2.0,
    cap: Seconds = 3600.0,
    jitter: float,
) -> BackoffSpec:
    spec = BackoffSpec(kind=kind, base=seconds(base), factor=factor, cap=seconds(cap), jitter=jitter)
    if not (spec.base >= 0 and spec.cap >= 0 and 1 <= spec.factor < math.inf and 0 <= jitter <= 1):
        message = f"{kind}(): base and cap must not be negative, factor must be 1 or more, jitter between 0 and 1"
        raise ConfigurationError(message)
    return spec


class Retry(Exception):
    """When to try again: as ``@app.task(retry=Retry(max=5))`` for every failure, or raised from inside for this one.

    Raised, it takes the place of the declared policy for this failure alone: ``raise Retry(after=60)`` waits a minute,
    still bounded by the declared ``max`` (3 where nothing is declared); ``raise Retry(after=60, max=100)`` brings a
    bound of its own.

    - ``max``: how many retries at most. None: the default, 3.
    - ``after``: seconds, a timedelta, :func:`fixed`, :func:`exponential`, :func:`fibonacci`, or a function from the
      number of the retry (1 for the first) to seconds or a timedelta. None: ``exponential()``.
    - ``on``: exceptions to retry; empty: all.
    - ``give_up_on``: exceptions not to retry, whatever ``on`` says.
    """

    def __init__(
        self,
        max: int | None = None,
        *,
        after: After | None = None,
        on: Errors = (),
        give_up_on: Errors = (),
    ) -> None:
        super().__init__(max)
        self.max: int | None = max
        self.after: After | None = fixed(after) if isinstance(after, int | float | timedelta) else after
        self.on: tuple[type[BaseException], ...] = on if isinstance(on, tuple) else (on,)
        never = give_up_on if isinstance(give_up_on, tuple) else (give_up_on,)
        self.give_up_on: tuple[type[BaseException], ...] = never
        self._check(max, self.after, (*self.on, *never))

    @staticmethod
    def _check(max: object, after: object, kinds: tuple[object, ...]) -> None:
        """For those who do not run a type checker. Raises ``ConfigurationError``."""
        if max is not None and (not isinstance(max, int) or max < 0):
            message = f"Retry(max={max!r}): give the number of retries, 0 or more"
            raise ConfigurationError(message)
        if not (after is None or callable(after) or isinstance(after, BackoffSpec)):
            message = f"Retry(after={after!r}): give seconds, a timedelta, exponential() and the like, or a function"
            raise ConfigurationError(message)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            message = "Retry(on=, give_up_on=): give exception classes"
            raise ConfigurationError(message)

    def __repr__(self) -> str:
        """As it was written."""
        return f"Retry(max={self.max}, after={self.after!r}, on={self.on!r}, give_up_on={self.give_up_on!r})"

    __str__ = __repr__

    def spec(self) -> RetrySpec:
        """This policy in the form that a message can carry.

        Raises ``ConfigurationError`` where it holds Python functions or classes, which cannot travel.
        """
        after = self.after or exponential()
        if not isinstance(after, BackoffSpec) or self.on or self.give_up_on:
            message = "options(retry=...) cannot carry functions, on= and give_up_on=; use @app.task(retry=...)"
            raise ConfigurationError(message)
        most = DEFAULT_MAX if self.max is None else min(self.max, MAX_COUNT)  # more cannot travel, nor be reached
        return RetrySpec(max=most, after=after)


def retry_delay(declared: Retry | None, task: Task, error: BaseException) -> float | None:
    """Seconds until the task is tried again after ``error``; None when it has failed for good."""
    policy = Retry(task.retry.max, after=task.retry.after) if task.retry else declared
    if isinstance(error, Retry):
        limit = error.max if error.max is not None else policy.max if policy else None
        after = error.after or (policy.after if policy else None)
    elif policy is None or isinstance(error, policy.give_up_on) or (policy.on and not isinstance(error, policy.on)):
        return None
    else:
        limit, after = policy.max, policy.after
    if task.retries >= (DEFAULT_MAX if limit is None else limit):
        return None
    return _delay(after or exponential(), task.retries + 1)


def _delay(after: After, retry: int) -> float:
    if isinstance(after, BackoffSpec):
        return backoff_delay(after, retry)
    try:
        delay = seconds(after(retry)) if callable(after) else seconds(after)
    except Exception:
        _log.exception("the retry delay function raised for retry %d; using exponential()", retry)
        return backoff_delay(exponential(), retry)
    return min(max(delay, 0.0), LONGEST_DELAY)


def backoff_delay(spec: BackoffSpec, retry: int) -> float:
    """Seconds before retry number ``retry`` (1 for the first)."""
    delay = min(_unbounded(spec, retry), spec.cap, LONGEST_DELAY)
    return delay * (1 - spec.jitter * random.random())  # noqa: S311  spreads load, guards nothing


def _unbounded(spec: BackoffSpec, retry: int) -> float:
    if spec.kind == "exponential":
        try:
            return spec.base * spec.factor ** (retry - 1)
        except OverflowError:
            return spec.cap
    if spec.kind == "fibonacci":
        current, following = spec.base, spec.base
        for _ in range(min(retry - 1, 1000)):
            current, following = following, current + following
        return current
    return spec.base
