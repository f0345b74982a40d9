"""How late something wakes that waits, beside what is attainable in the same moments."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from statistics import median

WORK = 0.005
"""Seconds of processor time for what an adapter does between a wake-up and its return."""
TIMES = 3
"""Others are involved as well: a server, and who wakes."""


class Lateness:
    """Wake-ups that were measured one by one; after every other one, what somebody else attains."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._attained: list[float] = []

    def add(self, seconds: float) -> None:
        """Take note of so late a wake-up."""
        if len(self._late) % 2 == 0:
            self._attained.append(_attainable())
        self._late.append(seconds)

    def excess(self, bound: float, *, share: float) -> str | None:
        """What is wrong if more than this share of the wake-ups were later than declared; None if they were not."""
        late, allowed = _quantile(self._late, share), bound + TIMES * median(self._attained)
        if late <= allowed:
            return None
        return (
            f"{1 - share:.0%} of {len(self._late)} waits returned {late:.3f} s late, or more;"
            f" declared are {bound:g} s, and {allowed:.3f} s are allowed on this machine just now"
        )


def _quantile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))]


def _attainable() -> float:
    """Seconds that a thread takes to wake up and do a little work."""
    bell: SimpleQueue[None] = SimpleQueue()
    ended: SimpleQueue[float] = SimpleQueue()

    def work() -> None:
        bell.get()
        until = time.thread_time() + WORK
        while time.thread_time() < until:
            pass
        ended.put(time.monotonic())

    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.001)
    rung = time.monotonic()
    bell.put(None)
    return ended.get() - rung
