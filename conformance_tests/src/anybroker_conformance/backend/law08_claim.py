"""Law 8: a lock has one holder, until it is released with its token or its ttl has passed."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError
from anybroker_conformance.backend.models import LocksModel, check_model
from anybroker_conformance.backend.peer import RemoteBackend
from anybroker_conformance.backend.racing import one_within_another, race, race_for_each
from anybroker_conformance.backend.subject import KEPT
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

THREADS = 8
KEYS = 250
RACING_FOR_EXPIRED = 3.0
"""Seconds, in which a moment that is seldom met is met more often."""
LINES = 250
"""Lines of an adapter at which a call is overtaken, at most."""
DAY = 86400.0
LENGTHS = (0.3, 1.0, 1.5, 2.25)
LEAPT = (0.05, 0.5, 2, 10, 59.5, 60, 61, 3600, DAY, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 31 * DAY, 365 * DAY)


class Claim:
    """Law 8."""

    def test_law08_claim__one_holder(self, results: BackendSubject) -> None:
        """Nobody else gets a lock, nor does its holder again, by whichever object, whatever ttl they ask for."""
        objects = results.objects(3)
        for ttl in (results.brief * 100, KEPT, 3600, 31 * DAY, 365 * DAY):
            key = results.id("lock")
            results.claim(key, ttl=ttl, why="nobody holds it")
            for asked in (KEPT, 0.001, ttl, 1):
                for backend in objects:
                    if backend.claim(key, ttl=asked) is not None:
                        raise LawBroken("claim gave a lock to somebody although it is held", key)

    def test_law08_claim__free_after_release(self, results: BackendSubject) -> None:
        """For everybody, at once, again and again; each time with a new token."""
        objects = results.objects(3)
        key = results.id("lock")
        tokens: list[str] = []
        for turn in range(30):
            holder, releaser, other = (objects[(turn + n) % 3] for n in range(3))
            token = results.claim(key, why="it was released", backend=holder)
            if token in tokens:
                raise LawBroken(f"claim gave a token for the second time: {token!r}", key)
            results.assert_held(key, why="somebody holds it", backend=other)
            for stale in tokens[-3:]:
                if holder.release(key, stale):
                    raise LawBroken("a token of an earlier holder has released a lock", key)
            results.assert_held(key, why="only stale tokens came to release it", backend=other)
            if not releaser.release(key, token):
                raise LawBroken("release answered False to the holder's token", key)
            for backend in (releaser, holder, other):
                if backend.release(key, token):
                    raise LawBroken("release answered True although the lock had been released", key)
            tokens.append(token)

    def test_law08_claim__a_token_fences_one_lock(self, results: BackendSubject) -> None:
        """Only its own token releases a lock: none of another lock, none that is like it."""
        objects = results.objects(3)
        held: list[tuple[str, str]] = []
        for number in range(200):
            key = results.id("lock")
            held.append((key, results.claim(key, why="nobody holds it", backend=objects[number % 3])))
        for (key, token), (_, other) in pairwise(held):
            for wrong in {other, "", "made up", f"{token}0", f" {token}", token[:-1]} - {token}:
                if objects[0].release(key, wrong):
                    raise LawBroken(f"release with token {wrong!r} answered True; the holder has {token!r}", key)
        for key, token in held:
            results.assert_held(key, why="nobody has released it by its token", backend=objects[1])
            if not objects[2].release(key, token):
                raise LawBroken("release answered False to the holder's token", key)

    def test_law08_claim__what_nobody_holds(self, results: BackendSubject) -> None:
        key = results.id("lock")
        for token in ("made up", "", "1", "None"):
            if results.backend.release(key, token):
                raise LawBroken("release answered True although nobody holds the lock", key)
        results.claim(key, why="nobody holds it")

    def test_law08_claim__until_its_ttl_has_passed(self, results: BackendSubject) -> None:
        """Not before, and soon after; then its token is worth nothing, and another holder is safe from it."""
        groups = [[_Held(results, ttl) for _ in range(4)] for ttl in (LEAPT if results.clock else LENGTHS)]
        distant = [] if results.clock else [_Held(results, ttl) for ttl in (DAY, 30 * DAY + 1, 400 * DAY)]
        for number, group in enumerate(groups):
            for later in [*distant, *(group[0] for group in groups[number:])]:
                later.assert_held()
            first = group[0]
            results.advance(first.earliest - first.now() - (0.01 if results.clock else 0.15))
            first.assert_held()
            last = max(one.latest for one in group)
            results.advance(last + results.capabilities.ttl_precision + results.slack - first.now())
            for place, held in enumerate(group):
                held.assert_free(late_release=place % 2 == 0)  # the first one, too: a claim may clear others away
        for held in distant:
            held.assert_held()

    def test_law08_claim__nothing_but_a_claim_sets_the_ttl(self, results: BackendSubject) -> None:
        """A refused claim or release neither prolongs nor shortens, nor does it change who holds."""
        now = results.clock.time if results.clock else time.monotonic
        brief, prolonged = results.brief, [results.id("lock") for _ in range(4)]
        shortened = [results.id("lock") for _ in range(4)]
        tokens = {key: results.claim(key, why="nobody holds it") for key in shortened}
        ends = []
        for key in prolonged:
            began = now()
            results.claim(key, ttl=brief, why="nobody holds it")
            ends.append(now() + brief)
            token = results.backend.claim(key, ttl=KEPT)
            results.backend.release(key, "made up")
            if token is not None:
                if now() < began + brief:
                    raise LawBroken("claim gave a lock to somebody although it is held", key)
                results.backend.release(key, token)  # the machine was so slow that the ttl had passed
        for key in shortened:
            for ttl in (0.001, brief / 2):
                results.backend.claim(key, ttl=ttl)
            results.backend.release(key, "made up")
        results.advance(max(ends) + results.capabilities.ttl_precision + results.slack - now())
        for key in prolonged:
            results.claim(key, why="its ttl has passed; refused claims do not prolong it")
        for key, token in tokens.items():
            results.assert_held(key, why="refused claims, of a short ttl, do not end that of the holder")
            if not results.backend.release(key, token):
                raise LawBroken("release answered False to the holder's token, after others were refused", key)

    def test_law08_claim__a_new_ttl_for_a_new_holder(self, results: BackendSubject) -> None:
        """The ttl of a former holder does not end the lock of the next one."""
        brief = results.brief
        keys = [results.id("lock") for _ in range(10)]
        for key in keys:
            results.backend.release(key, results.claim(key, ttl=brief, why="nobody holds it"))
            results.claim(key, why="it was released")
        results.outlive()
        for key in keys:
            results.assert_held(key, why="the ttl that has passed was that of a former holder")

    def test_law08_claim__many_race_for_it(self, realtime_results: BackendSubject) -> None:
        """One gets it; by one object and by several."""
        for objects in ([realtime_results.backend], realtime_results.objects(4)):
            keys = [realtime_results.id("lock") for _ in range(KEYS)]
            _assert_one_holder(realtime_results, objects, keys, "nobody held it")

    def test_law08_claim__many_race_for_what_was_released(self, realtime_results: BackendSubject) -> None:
        """Each takes and gives back, again and again: nobody ever holds what another one has."""
        results = realtime_results
        objects = results.objects(4)
        key = results.id("lock")
        inside: list[int] = []
        crowded: list[int] = []

        def work(number: int) -> int:
            taken = 0
            deadline = time.monotonic() + 2
            while taken < 20 and time.monotonic() < deadline:
                token = objects[number % 4].claim(key, ttl=KEPT)
                if token is None:
                    time.sleep(0.0005)
                    continue
                inside.append(number)
                time.sleep(0)
                crowded.append(len(inside))
                inside.remove(number)
                taken += objects[number % 4].release(key, token)
            return taken

        taken = race([partial(work, number) for number in range(THREADS)])
        if results.capabilities.exact_claim and max(crowded) > 1:
            raise LawBroken(f"{max(crowded)} held a lock at the same time", key)
        if results.capabilities.exact_claim and sum(taken) != len(crowded):
            raise LawBroken(f"of {len(crowded)} holders {sum(taken)} could release it", key)

    def test_law08_claim__many_race_for_what_has_expired(self, realtime_results: BackendSubject) -> None:
        """One gets what its holder has lost, and the holder's token does no harm meanwhile."""
        results = realtime_results
        objects = results.objects(4)
        enough = time.monotonic() + RACING_FOR_EXPIRED
        while True:
            keys = [results.id("lock") for _ in range(KEYS)]
            stale = {key: results.claim(key, ttl=results.brief, why="nobody holds it") for key in keys}
            results.outlive()
            _assert_one_holder(results, objects, keys[::2], "the ttl of its holder had passed")
            _assert_one_holder(results, objects, keys[1::2], "the ttl of its holder had passed", stale)
            if time.monotonic() > enough:
                break

    def test_law08_claim__two_releases_race(self, realtime_results: BackendSubject) -> None:
        """One of them is told that it has given the lock back."""
        results = realtime_results
        objects = results.objects(4)
        tokens = {key: results.claim(key, why="nobody holds it") for key in (results.id("lock") for _ in range(KEYS))}

        def release(backend: RecordedBackend) -> Callable[[str], bool]:
            return lambda key: backend.release(key, tokens[key])

        for key, answers in race_for_each([release(backend) for backend in objects], [*tokens]).items():
            if sum(answers) != 1 and (results.capabilities.exact_claim or not sum(answers)):
                raise LawBroken(f"release answered True to {sum(answers)} of 4 at the same time, with one token", key)

    def test_law08_claim__one_call_within_another(self, realtime_results: BackendSubject) -> None:
        """Who claims or releases is overtaken by another one, at whichever line of an adapter's code."""
        results = realtime_results
        first, second = results.objects(2)
        free = [results.id("lock") for _ in range(LINES)]
        expired = [results.id("lock") for _ in range(LINES)]
        for key in expired:
            first.claim(key, ttl=results.brief)
        results.outlive()
        for keys in (free, expired):
            for key, *tokens in one_within_another(
                partial(first.claim, ttl=KEPT), partial(second.claim, ttl=KEPT), keys
            ):
                if len(holders := [token for token in tokens if token]) != 1:
                    self._refute(results, f"of two who claimed a lock at the same time {len(holders)} got it", key)
                elif not second.release(key, holders[0]):
                    self._refute(results, "release answered False to the one of two that got a lock", key)
        held = {key: results.claim(key, why="nobody holds it") for key in (results.id("lock") for _ in range(LINES))}
        releases = [lambda key: first.release(key, held[key]), lambda key: second.release(key, held[key])]
        for key, *answers in one_within_another(releases[0], releases[1], [*held]):
            if sum(answers) != 1:
                self._refute(results, f"release answered True to {sum(answers)} of 2 at the same time", key)
        keys = [results.id("lock") for _ in range(LINES)]
        stale = {key: results.claim(key, ttl=results.brief, why="nobody holds it") for key in keys}
        results.outlive()
        late = [lambda key: first.release(key, stale[key]), lambda key: second.claim(key, ttl=KEPT)]
        for key, released, token in one_within_another(late[0], late[1], keys):
            if released or not token or second.claim(key, ttl=KEPT) is not None:
                self._refute(results, "a stale token has released a lock that another one claimed meanwhile", key)

    def _refute(self, results: BackendSubject, text: str, key: str) -> None:
        """What is exact is broken; where ``exact_claim`` is not declared, races may go wrong."""
        if results.capabilities.exact_claim:
            raise LawBroken(text, key)

    def test_law08_claim__processes_race(self, realtime_results: BackendSubject) -> None:
        results = realtime_results
        others = [results.peer() for _ in range(2)]
        keys = [results.id("lock") for _ in range(60)]
        function = "anybroker_conformance.backend.law08_claim:claim_each"
        for other in others:
            other.ask("run", function=function, arguments={"keys": keys, "ttl": KEPT})
        taken = [claim_each(results.backend, keys, KEPT), *(other.answer() for other in others)]
        _assert_one_of_each(results, keys, taken, "nobody held it")
        remote = results.adopt(RemoteBackend(others[0], results.capabilities))
        for key, token in zip(keys[:10], (next(filter(None, one)) for one in zip(*taken, strict=True)), strict=False):
            results.assert_held(key, why="a process holds it", backend=remote)
            if not remote.release(key, token):
                raise LawBroken("release answered False to the holder's token, in another process", key)

    def test_law08_claim__objects_are_closed(self, results: BackendSubject) -> None:
        """A lock outlives the object that it was claimed by, and all the more another one."""
        watching, holding, bystander = results.objects(3)
        keys = [results.id("lock") for _ in range(4)]
        tokens = [results.claim(key, why="nobody holds it", backend=holding) for key in keys]
        for number, closing in enumerate((bystander, holding) if results.objects_share else ()):
            closing.close()
            for key in keys:
                results.assert_held(key, why="closing an object releases no lock", backend=watching)
            if not watching.release(keys[number], tokens[number]):
                raise LawBroken(
                    "release answered False to the holder's token, after an object was closed", keys[number]
                )
            results.claim(keys[number], why="it was released", backend=watching)
            key, token = results.id("lock"), None
            with suppress(AnybrokerError):
                token = closing.claim(key, ttl=KEPT)
            if token is not None:
                results.assert_held(key, why="an object that was closed has given out a token", backend=watching)

    def test_law08_claim__the_holder_is_killed(self, results: BackendSubject) -> None:
        """Its lock is free when the ttl has passed, and not before."""
        holder = results.peer()
        remote = results.adopt(RemoteBackend(holder, results.capabilities))
        brief, long = results.id("lock"), results.id("lock")
        results.claim(long, why="nobody holds it", backend=remote)
        results.claim(brief, ttl=results.brief, why="nobody holds it", backend=remote)
        holder.kill()
        results.outlive()
        results.claim(brief, why="its holder is dead and the ttl has passed")
        results.assert_held(long, why="its holder is dead but the ttl has not passed")

    def test_law08_claim__any_order_of_calls(self, results: BackendSubject) -> None:
        """Random calls, whose every answer is that of a model."""
        check_model(LocksModel, results)


class _Held:
    """A lock that was claimed for a while, and between which moments its ttl passes."""

    def __init__(self, results: BackendSubject, ttl: float) -> None:
        self.now = results.clock.time if results.clock else time.monotonic
        self._results = results
        self._key = results.id("lock")
        self.earliest = self.now() + ttl
        self._token = results.claim(self._key, ttl=ttl, why="nobody holds it")
        self.latest = self.now() + ttl

    def assert_held(self) -> None:
        """Nobody else gets it before its ttl has passed."""
        token = self._results.backend.claim(self._key, ttl=KEPT) if self.now() < self.earliest else None
        if token is not None and self.now() < self.earliest:
            raise LawBroken("claim gave a lock to somebody before the ttl of its holder had passed", self._key)
        if token is not None:  # the machine was slow, and the ttl has passed meanwhile
            self._results.backend.release(self._key, token)

    def assert_free(self, *, late_release: bool) -> None:
        """The ttl has passed: others get the lock, and are safe from the token of its former holder."""
        backend, key = self._results.backend, self._key
        if late_release and backend.release(key, self._token):
            raise LawBroken("release answered True although the ttl had passed", key)
        fresh = self._results.claim(key, why="the ttl of its holder has passed")
        if fresh == self._token:
            raise LawBroken(f"claim gave the token of the former holder again: {fresh!r}", key)
        if backend.release(key, self._token):
            raise LawBroken("a token whose ttl has passed has released the lock of another holder", key)
        self._results.assert_held(key, why="only a token whose ttl has passed came to release it")
        if not backend.release(key, fresh):
            raise LawBroken("release answered False to the holder's token, after a stale one", key)


def claim_each(backend: RecordedBackend, keys: Sequence[str], ttl: float) -> list[str | None]:
    """Claim one lock after another; also called in other processes."""
    return [backend.claim(key, ttl=ttl) for key in keys]


def _assert_one_holder(
    results: BackendSubject,
    objects: Sequence[RecordedBackend],
    keys: list[str],
    why: str,
    stale: dict[str, str] | None = None,
) -> None:
    """Race for locks; while another one comes to release them with stale tokens."""

    def claim(backend: RecordedBackend) -> Callable[[str], str | None]:
        return lambda key: backend.claim(key, ttl=KEPT)

    def release(key: str) -> None:
        if stale and objects[0].release(key, stale[key]):
            raise LawBroken("a token whose ttl has passed has released a lock", key)

    racers: list[Callable[[str], str | None]] = [claim(objects[number % len(objects)]) for number in range(4)]
    raced = race_for_each([*racers, release] if stale else racers, keys)
    _assert_one_of_each(results, [*raced], list(zip(*raced.values(), strict=True)), why)
    for key in raced:
        results.assert_held(key, why="one of those who raced holds it")


def _assert_one_of_each(
    results: BackendSubject, keys: Sequence[str], taken: Sequence[Sequence[str | None]], why: str
) -> None:
    for place, key in enumerate(keys):
        holders = sum(one[place] is not None for one in taken)
        if not holders:
            raise LawBroken(f"of {len(taken)} who raced for a lock nobody got it although {why}", key)
        if holders > 1 and results.capabilities.exact_claim:
            raise LawBroken(f"of {len(taken)} who raced for a lock {holders} got it", key)
