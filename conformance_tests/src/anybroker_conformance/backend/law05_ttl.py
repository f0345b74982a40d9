"""Law 5: a ttl is kept within the declared precision."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from anybroker.backend import Result, State
from anybroker_conformance.backend.subject import shown
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BRIEF = (0.3, 1.0, 1.5, 2.25)
"""Seconds of the ttls that are outlived, in real time too."""
LEAPT = (
    *(0.05, 0.5, 2, 10, 59.5, MINUTE, 61, 90.25, HOUR, 5 * HOUR, DAY - 1, DAY, DAY + 1, 7 * DAY, 8 * DAY),
    *(30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 31 * DAY, 90 * DAY, 365 * DAY, 5 * 365 * DAY),
)
"""Seconds of the ttls that are outlived by a clock that leaps: units, and limits that services have."""
DISTANT = (
    HOUR,
    DAY,
    7 * DAY,
    25 * DAY,
    30 * DAY - 1,
    30 * DAY,
    30 * DAY + 1,
    31 * DAY,
    60 * DAY,
    365 * DAY,
    10 * 365 * DAY,
)
"""Seconds of the ttls that are never outlived in real time: they must not end at once."""
STEP = 0.1
"""Seconds between two looks, in real time."""


class Kept(msgspec.Struct):
    """A result and when it was stored, by the clock that judges."""

    result: Result
    ttl: float | None
    began: float
    ended: float
    gone: bool = False
    looked: int = 0

    def judge(self, found: Result | None, began: float, ended: float, late: float, early: float) -> None:
        """What a fetch from ``began`` to ``ended`` found must be what the ttl says."""
        self.looked += 1
        id_ = self.result.id
        if found is None:
            self.gone = True
            if self.ttl is None:
                raise LawBroken(f"gone after {ended - self.began:.2f} s although it was stored for ever", id_)
            if ended < self.began + self.ttl - early:
                raise LawBroken(
                    f"gone {ended - self.began:.2f} s after it was stored with a ttl of {self.ttl:g} s", id_
                )
            return
        if found != self.result:
            raise LawBroken(f"fetched {shown(found)} instead of {shown(self.result)}", id_)
        if self.gone:
            raise LawBroken("it has expired, and came back", id_)
        if self.ttl is not None and began > self.ended + self.ttl + late:
            since = began - self.ended
            raise LawBroken(f"still there {since:.2f} s after it was stored with a ttl of {self.ttl:g} s", id_)


class Ttl:
    """Law 5."""

    def test_law05_ttl__of_every_length(self, results: BackendSubject) -> None:
        """Not gone before its end, gone soon after it; alone, in a batch, in any state, looked at or not."""
        watch = Watch(results)
        for ttl in LEAPT if results.clock else BRIEF:
            watch.put(results.result(b"alone"), ttl=ttl)
            watch.put(*(results.result(b"batch", state=state) for state in State for _ in range(12)), ttl=ttl)
        watch.put(*(results.result(b"not at all", state=state) for state in State), ttl=0)
        for other in results.objects(3)[1:]:
            watch.put(results.result(b"by another object"), ttl=BRIEF[1], backend=other)
        for ttl in DISTANT:
            watch.put(*(results.result(b"for long", state=state) for state in State), ttl=ttl)
        watch.put(*(results.result(b"for ever", state=state) for state in State), ttl=None)
        watch.put(results.result(b"a whole number"), ttl=int(BRIEF[1]))
        watch.until_all_are_gone()

    def test_law05_ttl__set_anew_by_each_accepted_write(self, results: BackendSubject) -> None:
        """And by nothing else: not by a refused write, not by reading or waiting, not by others."""
        brief, long = (10.0, 40 * DAY) if results.clock else (0.8, HOUR)
        watch = Watch(results)
        for first, second in ((brief, long), (long, brief), (brief, None), (None, brief), (brief, brief * 2)):
            running, final = results.result(state=State.RUNNING), results.result(b"1")
            results.put(running, final, ttl=first)
            watch.put(Result(running.id, State.SUCCEEDED, 1, b"final"), ttl=second)
            watch.put(Result(final.id, State.RETRYING, 2, b"later"), ttl=second)
        refused = [results.result(b"%d" % n, state=State.FAILED, attempt=2) for n in range(4)]
        watch.put(*refused[2:], ttl=long)
        watch.put(*refused[:2], ttl=brief)
        zombies = [Result(one.id, State.SUCCEEDED, 1, b"zombie") for one in refused]
        zombies += [Result(one.id, State.RUNNING, 2, b"zombie") for one in refused]
        for ttl in (long, None, brief / 8):
            watch.put_in_vain(*zombies, ttl=ttl)
        watch.put(results.result(b"waited for"), results.result(b"waited for"), ttl=brief)
        again = results.result(b"forgotten")
        results.put(again, ttl=brief)
        results.backend.forget([again.id])
        watch.put(Result(again.id, State.RUNNING, 1, b"new"), ttl=long)
        watch.until_all_are_gone(waiting=True)

    def test_law05_ttl__without_being_looked_at(self, results: BackendSubject) -> None:
        """Reading makes nothing expire, and nothing stay."""
        ttl = results.brief
        watch = Watch(results)
        watch.put(*(results.result(b"brief", state=state) for state in State), ttl=ttl)
        watch.put(*(results.result(b"long", state=state) for state in State), ttl=DAY)
        results.advance(ttl + results.capabilities.ttl_precision + results.slack)
        watch.look()
        if not all(one.gone for one in watch.kept[: len(State)]):  # a look that came too early says nothing
            results.advance(2 * results.slack)
            watch.look()


class Watch:
    """Results of which is watched how long they are there."""

    def __init__(self, results: BackendSubject) -> None:
        self.kept: list[Kept] = []
        self._results = results
        self._now = results.clock.time if results.clock else time.monotonic

    def put(self, *stored: Result, ttl: float | None, backend: RecordedBackend | None = None) -> None:
        """Store results of which nothing is there, or which replace what is there."""
        began = self._now()
        self._results.put(*stored, ttl=ttl, backend=backend)
        self.kept += [Kept(one, ttl, began, self._now()) for one in stored]

    def put_in_vain(self, *zombies: Result, ttl: float | None) -> None:
        """Store results that must be refused, unless what forbids them has expired meanwhile."""
        answers = self._results.backend.store(zombies, ttl=ttl)
        for zombie, answer in zip(zombies, answers, strict=True):
            if answer:
                there = next((one for one in self.kept if one.result.id == zombie.id), None)
                if there is None:
                    continue
                if there.ttl is None or self._now() < there.began + there.ttl:
                    raise LawBroken("store accepted what it must refuse", zombie.id)
                self.kept.remove(there)

    def look(self, kept: Iterable[Kept] | None = None) -> None:
        """Fetch, and judge what is found."""
        every = list(self.kept if kept is None else kept)
        late = self._results.capabilities.ttl_precision + self._results.slack
        early = 0.0 if self._results.clock else 0.05
        for start in range(0, len(every), 500):
            some = every[start : start + 500]
            began = self._now()
            found = self._results.backend.fetch([one.result.id for one in some])
            ended = self._now()
            for one, result in zip(some, found, strict=True):
                one.judge(result, began, ended, late, early)

    def until_all_are_gone(self, *, waiting: bool = False) -> None:
        """Look again and again until all have expired that do so within the test, half of them not before the end."""
        watched, others = self.kept[::2], self.kept[1::2]
        self.look()
        for moment in self._moments():
            self._results.advance(moment - self._now())
            self.look(watched)
            if waiting:
                self._results.backend.wait([one.result.id for one in watched], timeout=0)
        self._results.advance(STEP)
        self.look()
        self.look(others)
        never = DAY * 100_000 if self._results.clock else 2 * max(BRIEF)
        left = [one for one in self.kept if one.ttl is not None and one.ttl <= never and not one.gone]
        if left:
            raise LawBroken(f"still there long after its ttl of {left[0].ttl:g} s", left[0].result.id)

    def _moments(self) -> list[float]:
        """When to look: with a clock that leaps just before and just after each end, otherwise all the time."""
        late = self._results.capabilities.ttl_precision + self._results.slack
        if self._results.clock:
            ends = {one.ended + one.ttl for one in self.kept if one.ttl is not None}
            return sorted({end + more for end in ends for more in (-0.01, late + 0.001)})
        last = max(one.ended + one.ttl for one in self.kept if one.ttl is not None and one.ttl <= 2 * max(BRIEF)) + late
        start = self._now()
        return [start + STEP * n for n in range(1, 1 + int((last - start) / STEP) + 1)] + [last + STEP]
