"""Threads that start at the same moment, again and again."""

from __future__ import annotations

import random
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HANGS = 60.0
"""Seconds after which a call that does not return is said to hang."""
_RESTLESS = 1e-5
"""Seconds between two switches of threads: what is not atomic shows."""
_SPREAD = 60
"""Up to so many steps of nothing lie between the starts."""

Finished = tuple[int, Any, BaseException | None]


class Racers:
    """So many threads, which do different things at once: ``race(first, second)`` returns what each returned."""

    def __init__(self, number: int) -> None:
        self._orders: list[SimpleQueue[Callable[[], Finished] | None]] = [SimpleQueue() for _ in range(number)]
        self._finished: SimpleQueue[Finished] = SimpleQueue()
        self._interval = sys.getswitchinterval()

    def __enter__(self) -> Self:
        sys.setswitchinterval(_RESTLESS)
        for number, orders in enumerate(self._orders):
            threading.Thread(target=self._serve, args=[orders], name=f"racer {number + 1}", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        sys.setswitchinterval(self._interval)
        for orders in self._orders:
            orders.put(None)

    def race(self, *functions: Callable[[], Any], within: float = HANGS) -> list[Any]:
        """Call all functions at once; raises what the first of them has raised, and when one does not return."""
        barrier = threading.Barrier(len(functions))
        for number, (orders, function) in enumerate(zip(self._orders, functions, strict=False)):
            orders.put(_order(number, function, barrier))
        found: dict[int, Any] = {}
        errors: list[BaseException] = []
        deadline = time.monotonic() + within
        while len(found) < len(functions):
            try:
                number, result, error = self._finished.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise LawBroken(f"a call did not return within {within:g} s while others were made") from None
            found[number] = result
            errors += [error] if error is not None else []
        if errors:
            raise errors[0]
        return [found[number] for number in range(len(functions))]

    def _serve(self, orders: SimpleQueue[Callable[[], Finished] | None]) -> None:
        while order := orders.get():
            self._finished.put(order())


def _order(number: int, function: Callable[[], Any], barrier: threading.Barrier) -> Callable[[], Finished]:
    def order() -> Finished:
        barrier.wait(HANGS)
        for _ in range(random.randrange(_SPREAD)):  # noqa: S311 (spreads who comes first)
            pass
        try:
            return number, function(), None
        except BaseException as error:
            return number, None, error

    return order


def at_once(*functions: Callable[[], Any], within: float = HANGS) -> list[Any]:
    """Call functions at once, each in a thread of its own; returns what they returned."""
    with Racers(len(functions)) as racers:
        return racers.race(*functions, within=within)


def rounds(at_most: int, *, seconds: float, at_least: int = 5) -> Iterator[int]:
    """Count rounds until there are enough, or time is up."""
    deadline = time.monotonic() + seconds
    for number in range(at_most):
        if number >= at_least and time.monotonic() > deadline:
            return
        yield number
