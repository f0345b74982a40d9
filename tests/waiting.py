"""Waiting for a condition."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 60.0
"""Seconds that a busy machine may take for what usually happens at once."""


def until(condition: Callable[[], object], within: float = LONGEST, *, why: str | Callable[[], str] = "") -> None:
    """Return as soon as a condition holds; fail when it does not within so many seconds.

    ``why``: what was waited for, or what says so afterwards.
    """
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {(why() if callable(why) else why) or condition}"
        time.sleep(0.005)
