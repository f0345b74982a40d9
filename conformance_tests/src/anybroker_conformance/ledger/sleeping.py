"""Wrong result backends of law 6: they sleep too long, wake too early, or never sleep."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from anybroker.backend import Result, State
from anybroker.memory import MemoryBackend
from anybroker_conformance.ledger.registry import wrong_backend

if TYPE_CHECKING:
    from collections.abc import Sequence


# Law 6: wait


class Polling(MemoryBackend):
    """Looks, sleeps, and looks again."""

    sleep = 0.01

    def found(self, ids: Sequence[str]) -> list[Result]:
        """What ends a wait."""
        return super().wait(ids, timeout=0)

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        now = self._store.clock.time
        deadline = now() + timeout
        while True:
            found = self.found(ids)
            left = deadline - now()
            if found or left <= 0 or self._closed:
                return found
            time.sleep(min(self.pause(), left))

    def pause(self) -> float:
        """Seconds until the next look."""
        return self.sleep


@wrong_backend("wait", "retrying ends a wait")
class RetryingEndsWait(Polling):
    def found(self, ids: Sequence[str]) -> list[Result]:
        return [one for one in self.fetch(ids) if one and (one.state.final or one.state is State.RETRYING)]


@wrong_backend("wait", "a cancelled task does not end a wait")
class DeafToCancelled(Polling):
    def found(self, ids: Sequence[str]) -> list[Result]:
        return [one for one in super().found(ids) if one.state is not State.CANCELLED]


@wrong_backend("wait", "looks every second, and declares more")
class LooksEverySecond(Polling):
    sleep = 1.0


@wrong_backend("wait", "spins")
class WaitSpins(Polling):
    sleep = 0.0


@wrong_backend("wait", "spins while it waits for more than ten")
class SpinsForMany(Polling):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        if len(ids) <= 10:
            return super().wait(ids, timeout=timeout)
        deadline = time.monotonic() + timeout
        while not (found := self.found(ids)) and time.monotonic() < deadline and not self._closed:
            time.sleep(0)
        return found


@wrong_backend("wait", "looks every second for those who wait on when another one has left")
class ForgetsThoseWhoStay(Polling):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.left = 0
        self.waiter = threading.local()

    def pause(self) -> float:
        return self.sleep if self.waiter.began == self.left else 1.0

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        self.waiter.began = self.left
        try:
            return super().wait(ids, timeout=timeout)
        finally:
            self.left += 1


@wrong_backend("wait", "waits for the first of several only")
class WaitsForFirst(Polling):
    def found(self, ids: Sequence[str]) -> list[Result]:
        return super().found(ids[:1])


@wrong_backend("wait", "waits for the first 32 of several only")
class WaitsForThirtyTwo(Polling):
    def found(self, ids: Sequence[str]) -> list[Result]:
        return super().found(ids[:32])


@wrong_backend("wait", "brings one of those that are final")
class BringsOne(Polling):
    def found(self, ids: Sequence[str]) -> list[Result]:
        return super().found(ids)[:1]


@wrong_backend("wait", "waits until all are final")
class WaitsForAllResults(Polling):
    def found(self, ids: Sequence[str]) -> list[Result]:
        found = super().found(ids)
        return found if len(found) == len(set(ids)) else []


@wrong_backend("wait", "does not wait")
class WaitsNever(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:  # noqa: ARG002
        return super().wait(ids, timeout=0)


@wrong_backend("wait", "waits for whole seconds only")
class WaitsWholeSeconds(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        return super().wait(ids, timeout=float(int(timeout)))


@wrong_backend("wait", "waits for a second at least")
class WaitsASecond(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        return super().wait(ids, timeout=max(timeout, 1.0) if timeout else 0)


@wrong_backend("wait", "knows no timeout")
class WaitsForEver(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        return super().wait(ids, timeout=3600 if timeout else 0)


class Signalled(MemoryBackend):
    """Wakes waiters by a condition of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.signal = self._store.__dict__.setdefault("signal", threading.Condition())

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        answers = super().store(results, ttl=ttl)
        with self.signal:
            self.wake()
        return answers

    def wake(self) -> None:
        """Something was stored."""
        self.signal.notify_all()

    def close(self) -> None:
        super().close()
        with self.signal:
            self.signal.notify_all()


@wrong_backend("wait", "whatever is stored ends every wait")
class EndsEveryWait(Signalled):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        with self.signal:
            found = super().wait(ids, timeout=0)
            if found or timeout <= 0:
                return found
            self.signal.wait(timeout)
        return super().wait(ids, timeout=0)


@wrong_backend("wait", "misses what is stored between its look and its sleep")
class MissesBetween(Signalled):
    longest_sleep = float("inf")

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        clock = self._store.clock
        deadline = clock.time() + timeout
        while True:
            found = super().wait(ids, timeout=0)
            left = deadline - clock.time()
            if found or left <= 0 or self._closed:
                return found
            with self.signal:
                clock.wait(self.signal, min(left, self.longest_sleep))


@wrong_backend("wait", "misses what is stored before its sleep, and looks again after a second")
class NoticesASecondLate(MissesBetween):
    longest_sleep = 1.0


class Looping(Signalled):
    """Looks again whenever it is woken, and misses nothing."""

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        clock = self._store.clock
        deadline = clock.time() + timeout
        with self.signal:
            while True:
                found = super().wait(ids, timeout=0)
                left = deadline - clock.time()
                if found or left <= 0 or self._closed:
                    return found
                clock.wait(self.signal, left)


@wrong_backend("wait", "wakes one of several waiters")
class WakesOne(Looping):
    def wake(self) -> None:
        self.signal.notify(1)


@wrong_backend("wait", "wakes at most 40 waiters")
class WakesForty(Looping):
    def wake(self) -> None:
        self.signal.notify(40)


@wrong_backend("wait", "is not woken by what another object stores")
class DeafToOtherObjects(Looping):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.signal = threading.Condition()


@wrong_backend("wait", "of many ids, it is woken for the first twenty, and looks each 0.3 seconds for the others")
class WakesForFirstTwenty(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        until = self._store.clock.time() + timeout
        while True:
            left = until - self._store.clock.time()
            if len(ids) <= 20 or left <= 0 or self._closed:
                return super().wait(ids, timeout=max(0.0, left))
            if found := super().wait(ids, timeout=0) or super().wait(ids[:20], timeout=min(left, 0.3)):
                return found


@wrong_backend("wait", "the pause between two looks is a tenth of the time that it has waited")
class LooksEverMoreRarelyForResults(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        began = time.monotonic()
        while True:
            found, waited = super().wait(ids, timeout=0), time.monotonic() - began
            if found or waited >= timeout or not ids or self._closed:
                return found
            time.sleep(min(timeout - waited, max(0.005, waited / 10)))
