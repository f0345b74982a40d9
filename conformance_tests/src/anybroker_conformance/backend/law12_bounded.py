"""Law 12: memory, connections and threads do not grow with the results that were processed."""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from anybroker.backend import Result, State
from anybroker_conformance.backend.subject import KEPT
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.backend.subject import BackendSubject

ROUNDS = 5
NUMBER = 1_000
"""Results or locks of one round."""
BODY = b"x" * 1_000
PAD = "i" * 150
"""Makes names so long that it shows when they are kept."""
SETTLE = 5.0
"""Seconds within which threads and connections that are no longer needed must have ended."""
GROUPS = 150
YEAR = 366 * 86400.0
AFFORDABLE = 2.0
"""Seconds that a round may take; a slower service has smaller rounds."""


class Bounded:
    """Law 12."""

    def test_law12_bounded__expired_results(self, results: BackendSubject) -> None:
        """What has expired takes no memory."""
        _in_process(results)

        def use(turn: int) -> None:
            stored = [
                Result(f"{results.namespace}.{turn}.{n}", State.SUCCEEDED, 1, BODY + b"%d" % n) for n in range(NUMBER)
            ]
            results.backend.recorded.store(stored, ttl=results.brief / 4)
            results.backend.recorded.store(stored[:10], ttl=results.brief / 4)
            results.outlive(results.brief / 4)
            results.backend.recorded.store(stored[:1], ttl=results.brief / 4)

        _assert_bounded(use, NUMBER * len(BODY), "results that have expired")

    def test_law12_bounded__expired_locks(self, results: BackendSubject) -> None:
        _in_process(results)

        def use(turn: int) -> None:
            for n in range(NUMBER):
                results.backend.recorded.claim(f"{results.namespace}{PAD}.{turn}.{n}", ttl=results.brief / 4)
            results.outlive(results.brief / 4)
            results.backend.recorded.claim(f"{results.namespace}.{turn}", ttl=results.brief / 4)

        _assert_bounded(use, NUMBER * len(PAD), "locks whose ttl has passed")

    def test_law12_bounded__old_groups(self, results: BackendSubject) -> None:
        """A year after the last of it was heard a group takes no memory, whether it was sealed or given up."""
        if results.clock is None:
            results.untested("what is kept of a group after a year: time is real here")

        def use(turn: int) -> None:
            for n in range(GROUPS):
                group = f"{results.namespace}.{turn}.{n}"
                for member in range(3):
                    results.backend.recorded.join(group, f"{member}{PAD}{turn}.{n}", size=3 + n % 2)
                if n % 2 == 0:
                    results.backend.recorded.seal(group)
            results.advance(YEAR)
            results.backend.recorded.join(f"{results.namespace}.{turn}", "somebody", size=2)
            results.backend.recorded.seal(f"{results.namespace}.{turn}")

        _assert_bounded(use, GROUPS * 3 * len(PAD), "groups of which nothing was heard for a year")

    def test_law12_bounded__forgotten_results(self, results: BackendSubject) -> None:
        """What is forgotten takes no memory, also not on the side of the client."""
        backend = results.backend.recorded
        number = _affordable(lambda: backend.forget([results.id()]))

        def use(turn: int) -> None:
            ids = [f"{results.namespace}{PAD}.{turn}.{n}" for n in range(number)]
            for state in (State.RUNNING, State.SUCCEEDED):
                backend.store([Result(id_, state, 1, BODY) for id_ in ids], ttl=600)
            backend.fetch(ids)
            backend.wait(ids, timeout=0)
            backend.forget(ids)
            backend.fetch(ids)

        _assert_bounded(use, number * len(PAD), "results that were forgotten")

    def test_law12_bounded__released_locks(self, results: BackendSubject) -> None:
        backend = results.backend.recorded
        number = _affordable(lambda: backend.claim(results.id(), ttl=1))

        def use(turn: int) -> None:
            for n in range(number):
                key = f"{results.namespace}{PAD}.{turn}.{n}"
                token = backend.claim(key, ttl=600)
                if token is None or not backend.release(key, token):
                    raise LawBroken("a lock that nobody else uses cannot be claimed and released", key)

        _assert_bounded(use, number * len(PAD), "locks that were released")

    def test_law12_bounded__calls_that_change_nothing(self, results: BackendSubject) -> None:
        """What is refused, held, sealed or done already."""
        backend = results.backend.recorded
        number = _affordable(lambda: backend.claim(results.id(), ttl=1))
        final, lock, group = (f"{results.id()}{PAD}" for _ in range(3))
        backend.store([Result(final, State.SUCCEEDED, 2)], ttl=KEPT)
        backend.claim(lock, ttl=KEPT)
        backend.join(group, "only", size=2)

        def use(turn: int) -> None:
            for n in range(number):
                backend.store([Result(final, State.FAILED, 1, PAD.encode() + b"%d %d" % (turn, n))], ttl=KEPT)
                backend.claim(lock, ttl=KEPT)
                backend.release(lock, f"{PAD}.{turn}.{n}")
                backend.join(group, "only", size=2)

        _assert_bounded(use, number * len(PAD), "calls that change nothing")

    def test_law12_bounded__waiting(self, realtime_results: BackendSubject) -> None:
        """Waits leave nothing behind: no memory, no thread, no connection; whether in vain or not."""
        results = realtime_results
        backend = results.backend.recorded
        number = min(150, _affordable(lambda: backend.wait([results.id()], timeout=0)))
        final = results.id()
        backend.store([Result(final, State.SUCCEEDED, 1)], ttl=600)

        def use(turn: int) -> None:
            for n in range(number):
                backend.wait([f"{results.namespace}{PAD * 8}.{turn}.{n}", results.namespace], timeout=0.0005)
                backend.wait([f"{results.namespace}{PAD * 8}.{turn}.{n}", final], timeout=1)

        use(-1)
        before = _held()
        _assert_bounded(use, number * 8 * len(PAD), "waits that are over")
        _assert_returned(before, f"{2 * number * ROUNDS} waits")

    def test_law12_bounded__threads_and_connections(self, realtime_results: BackendSubject) -> None:
        """They do not grow with what is done, by however many threads in turn."""
        results = realtime_results
        backend = results.backend.recorded

        def use(turn: int) -> None:
            for n in range(40):
                id_ = f"{results.namespace}.{turn}.{n}"
                backend.store([Result(id_, State.SUCCEEDED, 1)], ttl=600)
                backend.wait([id_], timeout=1)
                backend.join(id_, "a", size=1)
                backend.seal(id_)
                token = backend.claim(id_, ttl=600)
                backend.release(id_, token or "")
                backend.forget([id_])

        def in_thread(turn: int) -> None:
            thread = threading.Thread(target=use, args=(turn,))
            thread.start()
            thread.join()

        for turn in range(3):
            in_thread(turn)
        before = _held()
        for turn in range(3, 12):
            in_thread(turn)
        _assert_returned(before, "360 times everything, by nine threads in turn")

    def test_law12_bounded__objects_that_were_closed(self, realtime_results: BackendSubject) -> None:
        """They leave no thread and no connection."""
        results = realtime_results

        def use() -> None:
            backend = results.suite.connect()
            id_ = results.id()
            backend.store([Result(id_, State.SUCCEEDED, 1)], ttl=60)
            backend.wait([id_], timeout=1)
            backend.wait([id_ + "x"], timeout=0.01)
            backend.close()

        for _ in range(3):
            use()
        before = _held()
        for _ in range(12):
            use()
        _assert_returned(before, "twelve objects that were used and closed")


def _in_process(results: BackendSubject) -> None:
    if results.capabilities.shared:
        results.untested("what a service keeps of that which has expired: it cannot be seen by its clients")


def _affordable(act: Callable[[], object]) -> int:
    started = time.monotonic()
    for _ in range(5):
        act()
    each = (time.monotonic() - started) / 5
    return max(50, min(NUMBER, int(AFFORDABLE / ROUNDS / max(each, 1e-6) / 2)))


def _assert_bounded(use: Callable[[int], None], size: int, what: str) -> None:
    """After some rounds, more rounds take no more memory; ``size``: bytes that one would take if all were kept."""
    own = not tracemalloc.is_tracing()
    if own:
        tracemalloc.start()
    try:
        for turn in range(2):
            use(turn)
        before = _traced()
        for turn in range(2, 2 + ROUNDS):
            use(turn)
        grown = _traced() - before
    finally:
        if own:
            tracemalloc.stop()
    if grown > size * ROUNDS / 2:
        raise LawBroken(f"memory has grown by {grown:,} bytes in {ROUNDS} rounds, with {what}")


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _held() -> tuple[int, int]:
    """How many threads and open files this process has."""
    gc.collect()
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    return threading.active_count(), len(list(folder.iterdir())) if folder.is_dir() else 0


def _assert_returned(before: tuple[int, int], after: str) -> None:
    """Threads and connections are as many as before, or fewer, or two more: a pool may have grown by chance."""
    deadline = time.monotonic() + SETTLE
    threads, files = _held()
    while threads > before[0] + 2 or files > before[1] + 2:
        if time.monotonic() > deadline:
            raise LawBroken(
                f"after {after} there are {threads} threads and {files} open files; before there were {before[0]} and "
                f"{before[1]}"
            )
        time.sleep(0.05)
        threads, files = _held()
