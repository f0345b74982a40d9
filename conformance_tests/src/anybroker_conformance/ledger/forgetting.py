"""Wrong result backends of laws 4 and 5: what is gone comes back, and the clock is misread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anybroker.memory import MemoryBackend
from anybroker_conformance.ledger.backends import FOREVER, Open
from anybroker_conformance.ledger.registry import wrong_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.backend import Result

DAY = 86400.0


# Law 4: gone


@wrong_backend("gone", "forgets the first of several only")
class ForgetsFirst(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        super().forget(ids[:1])


@wrong_backend("gone", "forgets at most 1000 at once")
class ForgetsThousand(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        super().forget(ids[:1000])


@wrong_backend("gone", "forget with no ids forgets all")
class ForgetsAllForNone(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        super().forget(ids or list(self._store.results._items))


@wrong_backend("gone", "forgets what is final only")
class ForgetsFinal(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        found = self.fetch(ids)
        super().forget([one.id for one in found if one is not None and one.state.final])


@wrong_backend("gone", "an unknown id keeps those behind it from being forgotten")
class StopsAtUnknown(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        for id_, found in zip(ids, self.fetch(ids), strict=True):
            if found is None:
                return
            super().forget([id_])


@wrong_backend("gone", "what is forgotten is still waited for with success")
class WaitRemembers(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.forgotten: dict[str, Result] = {}

    def forget(self, ids: Sequence[str]) -> None:
        self.forgotten |= {one.id: one for one in self.fetch(ids) if one is not None and one.state.final}
        super().forget(ids)

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        return super().wait(ids, timeout=0) or [
            one for id_ in ids if (one := self.forgotten.get(id_))
        ] or super().wait(ids, timeout=timeout)  # fmt: skip


@wrong_backend("gone", "a forgotten result refuses those of earlier attempts")
class ForgottenIsRival(Open):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attempts: dict[str, int] = {}

    def store_one(self, result: Result, ttl: float | None) -> bool:
        if result.attempt < self.attempts.get(result.id, 0):
            return False
        return super().store_one(result, ttl)

    def forget(self, ids: Sequence[str]) -> None:
        self.attempts |= {one.id: one.attempt for one in self.fetch(ids) if one is not None}
        super().forget(ids)


@wrong_backend("gone", "an expired result refuses those of earlier attempts")
class ExpiredIsRival(Open):
    def store_one(self, result: Result, ttl: float | None) -> bool:
        there, _ = self._store.results._items.get(result.id, (None, 0))
        if there is not None and not result.replaces(there):
            return False
        self.keep(result, ttl)
        return True


@wrong_backend("gone", "the end of a first ttl takes what was written later with a longer one")
class FirstEndCounts(Open):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ends: dict[str, float] = {}

    def keep(self, result: Result, ttl: float | None) -> None:
        super().keep(result, ttl)
        if ttl is not None and self.there(result.id):
            self.ends.setdefault(result.id, self._store.clock.time() + ttl)

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        now = self._store.clock.time()
        ended = [id_ for id_ in ids if self.ends.get(id_, FOREVER) <= now]
        for id_ in ended:
            del self.ends[id_]
        super().forget(ended)
        return super().fetch(ids)


@wrong_backend("gone", "what has expired comes back when somebody stores something")
class StoreResurrects(Open):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        now = self._store.clock.time()
        expired = [one for one, end in self._store.results._items.values() if end <= now]
        answers = super().store(results, ttl=ttl)
        for one in expired:
            if self.there(one.id) is None:
                self.keep(one, ttl)
        return answers


# Law 5: ttl


def misreads_ttl(text: str, name: str, change: Callable[[float | None], float | None]) -> None:
    """Register a backend that keeps results for another time."""

    class Misreads(Open):
        def keep(self, result: Result, ttl: float | None) -> None:
            super().keep(result, change(ttl))

    Misreads.__name__ = name
    wrong_backend("ttl", text)(Misreads)


misreads_ttl("keeps everything for ever", "KeepsForEver", lambda _: None)
misreads_ttl("takes seconds for milliseconds", "Milliseconds", lambda ttl: None if ttl is None else ttl / 1000)
misreads_ttl("a second short", "ASecondShort", lambda ttl: None if ttl is None else ttl - 1)
misreads_ttl("a second long", "ASecondLong", lambda ttl: None if ttl is None else ttl + 1)
misreads_ttl("a ttl of 0 is for ever", "TtlOfZeroIsForEver", lambda ttl: ttl or None)
misreads_ttl("whole seconds only", "TtlInWholeSeconds", lambda ttl: None if ttl is None else float(int(ttl)))
misreads_ttl(
    "rounds up to whole seconds, and declares more precision",
    "TtlRoundedUp",
    lambda ttl: None if ttl is None else float(-int(-ttl // 1)),
)
misreads_ttl("for ever is a day", "ForEverIsADay", lambda ttl: DAY if ttl is None else ttl)
misreads_ttl("never longer than a week", "AtMostAWeek", lambda ttl: None if ttl is None else min(ttl, 7 * DAY))
misreads_ttl(
    "more than 30 days is a date long ago",
    "ThirtyDaysIsADate",
    lambda ttl: None if ttl is None else ttl if ttl <= 30 * DAY else 0,
)
misreads_ttl(
    "more than 30 days is for ever", "ThirtyDaysIsForEver", lambda ttl: None if ttl is None or ttl > 30 * DAY else ttl
)
misreads_ttl(
    "milliseconds in 32 bits", "TtlOverflows", lambda ttl: None if ttl is None else int(ttl * 1000) % 2**32 / 1000
)


@wrong_backend("ttl", "reading prolongs")
class ReadingProlongs(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        found = super().fetch(ids)
        now = self._store.clock.time()
        for one in found:
            if one is not None and self._store.results._items[one.id][1] < FOREVER:
                self._store.results.put(one.id, one, self._store.results._items[one.id][1] + 2, now)
        return found


@wrong_backend("ttl", "a refused write prolongs")
class RefusedProlongs(Open):
    def store_one(self, result: Result, ttl: float | None) -> bool:
        stored, there = super().store_one(result, ttl), self.there(result.id)
        if not stored and there is not None:
            self.keep(there, ttl)
        return stored


@wrong_backend("ttl", "the first ttl of an id stays, whoever writes")
class FirstTtlStays(Open):
    def keep(self, result: Result, ttl: float | None) -> None:
        _, end = self._store.results._items.get(result.id, (None, None))
        now = self._store.clock.time()
        super().keep(result, ttl if end is None or end <= now else end - now)


@wrong_backend("ttl", "only final results expire")
class UnfinishedStay(Open):
    def keep(self, result: Result, ttl: float | None) -> None:
        super().keep(result, ttl if result.state.final else None)


@wrong_backend("ttl", "only the first of a batch expires")
class FirstExpires(Open):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        self.first = results[0].id if results else ""
        return super().store(results, ttl=ttl)

    def keep(self, result: Result, ttl: float | None) -> None:
        super().keep(result, ttl if result.id == self.first else None)
