"""Calls that run at the same time: threads that nobody waits for longer than a deadline."""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

T = TypeVar("T")
U = TypeVar("U")
ENDLESS = 30.0
"""Seconds after which a call that should return at once is held to be stuck."""
RACING = 1.0
"""Seconds that a series of races goes on, where a test says nothing else."""

PAUSE = 0.01
"""Seconds for which a call stands still while another one is made."""
REACHED = 0.1
"""Seconds within which a call comes to the line where it stops, if it does at all."""
ASLEEP = 3
"""How often a call may sleep before it comes to that line; later lines are not tried then."""
MORE_LINES = 30
"""Lines that a call may have beyond those that it had when it was counted."""
_OURS = {str(path) for path in Path(__file__).parent.glob("*.py") if path.stem != "networked"}
"""Files whose lines are not those of an adapter."""


class Running(Generic[T]):
    """A call in a thread of its own. A stuck one does not keep the process alive."""

    def __init__(self, act: Callable[[], T], what: str = "the call") -> None:
        self._act = act
        self._what = what
        self._answer: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._act()
        except BaseException as error:  # raised where the answer is asked for
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it has returned or raised."""
        return not self._thread.is_alive()

    def result(self, within: float = ENDLESS, *, key: str | None = None) -> T:
        """What it returned, which must be in time, or what it raised. ``key``: whose timeline to show."""
        self._thread.join(within)
        if self._thread.is_alive():
            raise LawBroken(f"{self._what} has not returned within {within:g} s", key)
        if self._error is not None:
            raise self._error
        return self._answer


def race(acts: Sequence[Callable[[], T]], *, within: float = 2 * ENDLESS) -> list[T]:
    """Start calls at the same moment, each in a thread, and return what they returned."""
    barrier = threading.Barrier(len(acts))

    def start(act: Callable[[], T]) -> T:
        barrier.wait(ENDLESS)
        return act()

    with hasty_threads():
        running = [Running(partial(start, act), "one of the racing calls") for act in acts]
        return [one.result(within) for one in running]


def race_for_each(
    acts: Sequence[Callable[[str], T]], keys: Sequence[str], *, seconds: float = RACING
) -> dict[str, list[T]]:
    """Start calls at the same moment, again and again, for one key after another, as many as ``seconds`` suffice for.

    Returns what they returned, by key.
    """
    meeting = threading.Barrier(len(acts))
    end = time.monotonic() + seconds
    raced: list[str] = []

    def run(number: int) -> list[T]:
        chance = random.Random(number)  # noqa: S311 (any moment will do)
        answers = []
        try:
            for key in keys:
                if meeting.wait(ENDLESS) == 0 and time.monotonic() < end:
                    raced.append(key)
                meeting.wait(ENDLESS)
                if not raced or raced[-1] != key:
                    break
                dawdle(chance)
                answers.append(acts[number](key))
        except BaseException:
            meeting.abort()  # nobody waits for who does not come
            raise
        return answers

    with hasty_threads():
        running = [Running(partial(run, number), "one of the racing calls") for number in range(len(acts))]
        answers = _all_of(running, seconds + 2 * ENDLESS)
    return {key: [one[place] for one in answers] for place, key in enumerate(raced)}


def one_within_another(
    outer: Callable[[str], T], inner: Callable[[str], U], keys: Sequence[str], *, seconds: float = RACING
) -> Iterator[tuple[str, T, U]]:
    """Stop one call at one of its lines, another line each time, and make another call meanwhile.

    Finds what two threads do to each other at whatever moment, as far as the adapter is written in Python: not by
    chance, but line by line. Yields the key, and what both calls returned. The second one may have to wait for the
    first: then the first goes on after a moment.
    """
    lines = _Stopping(None)
    inner(keys[0])
    Running(partial(lines.call, partial(outer, keys[0])), "one of two calls").result()
    total = lines.seen + MORE_LINES
    stops = range(0, total, 1 + total // (len(keys) - 1))
    end = time.monotonic() + seconds
    asleep = 0
    for stop, key in zip(stops, keys[1:], strict=False):
        if time.monotonic() > end or asleep > ASLEEP:
            return
        stopping = _Stopping(stop)
        first = Running(partial(stopping.call, partial(outer, key)), "a call that another one came into")
        asleep += not stopping.reached.wait(REACHED)
        second = Running(partial(inner, key), "a call within another one")
        try:
            answer = second.result(key=key)
        finally:
            stopping.resume.set()
        yield key, first.result(key=key), answer


class _Stopping:
    """A call that stops at one line of its code until it is told to go on, or a moment has passed."""

    def __init__(self, stop: int | None) -> None:
        self.seen = 0
        self.reached = threading.Event()
        self.resume = threading.Event()
        self._stop = stop

    def call(self, act: Callable[[], T]) -> T:
        """Make the call in this thread."""
        sys.settrace(self._trace)
        try:
            return act()
        finally:
            sys.settrace(None)
            self.reached.set()

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and frame.f_code.co_filename not in _OURS:
            if self.seen == self._stop:
                self.reached.set()
                self.resume.wait(PAUSE)
            self.seen += 1
        return self._trace


def _all_of(running: Sequence[Running[T]], within: float) -> list[T]:
    """What all returned; where some raised, what the first raised that did not only miss the others."""
    answers, missed = [], None
    for one in running:
        try:
            answers.append(one.result(within))
        except threading.BrokenBarrierError as error:
            missed = error
    if missed is not None:
        raise missed
    return answers


def dawdle(chance: random.Random) -> None:
    """Let a moment pass, of microseconds mostly: a sleep is too coarse for that."""
    length = chance.choice((0, 0, 0.00001, 0.00003, 0.0001, 0.0003)) * chance.random()
    end = time.perf_counter() + length
    while time.perf_counter() < end:
        pass


@contextmanager
def hasty_threads() -> Iterator[None]:
    """Threads take turns so often that what is not atomic is seen in halves."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
