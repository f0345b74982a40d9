"""Whether a call that should sleep works."""

from __future__ import annotations

import resource
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 4
"""An idle call is idle in one of them at least, whatever else the machine does."""
BUSY = 0.2
"""Of what is attainable."""
LEAST_SHARE, LEAST_WAKES = 0.08, 1000.0
"""What nobody is blamed for, on however loaded a machine."""


class Activity(NamedTuple):
    """What this process does during a call."""

    share: float
    """Of one processor."""
    wakes: float
    """How often a second it lets go of a processor, and comes back."""


def assert_idle(call: Callable[[], object]) -> None:
    """Make a call that should sleep. Raises ``LawBroken`` if it works, measured by what is attainable just now."""
    complaint = _complaint(call)
    for _ in range(TRIES - 1):
        complaint = complaint and _complaint(call)
    if complaint:
        raise LawBroken(complaint)


def _complaint(call: Callable[[], object]) -> str | None:
    before, during, after = _attainable(), _activity(call), _attainable()
    share = max(LEAST_SHARE, BUSY * max(before.share, after.share))
    wakes = max(LEAST_WAKES, BUSY * max(before.wakes, after.wakes))
    if during.share < share and during.wakes < wakes:
        return None
    return (
        f"an idle wait used {during.share:.0%} of a processor and woke {during.wakes:.0f} times a second; "
        f"{share:.0%} and {wakes:.0f} are the most"
    )


def _attainable() -> Activity:
    """What one who does nothing but work gets just now, and one who does nothing but let go of the processor."""
    working, dozing = _activity(partial(_repeat, time.monotonic)), _activity(partial(_repeat, partial(time.sleep, 0)))
    return Activity(max(working.share, dozing.share), dozing.wakes)


def _repeat(call: Callable[[], object]) -> None:
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        call()


def _activity(call: Callable[[], object]) -> Activity:
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    call()
    lasted, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Activity(worked / lasted, (after.ru_nvcsw - before.ru_nvcsw) / lasted)
