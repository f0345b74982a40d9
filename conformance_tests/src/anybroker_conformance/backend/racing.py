"""Calls that run at the same time: threads that nobody waits for longer than a deadline."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
ENDLESS = 30.0
"""Seconds after which a call that should return at once is held to be stuck."""


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
        """What it returned, which must be within so many seconds, or what it raised. ``key``: whose timeline to show."""
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
        running = [Running(lambda act=act: start(act), "one of the racing calls") for act in acts]  # type: ignore[misc]
        return [one.result(within) for one in running]


@contextmanager
def hasty_threads() -> Iterator[None]:
    """Threads take turns so often that what is not atomic is seen in halves."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
