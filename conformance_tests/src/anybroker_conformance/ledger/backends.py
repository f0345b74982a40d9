"""Wrong result backends of laws 1 to 3: they lose, mangle, and let zombies write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.backend import Result, State
from anybroker.errors import MessageTooLarge
from anybroker.memory import MemoryBackend
from anybroker_conformance.ledger.registry import wrong_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

replace = msgspec.structs.replace
FOREVER = float("inf")


class Open(MemoryBackend):
    """Writes as it likes, without asking the law."""

    def keep(self, result: Result, ttl: float | None) -> None:
        """Store a result, whatever is there."""
        now = self._store.clock.time()
        self._store.results.put(result.id, result, FOREVER if ttl is None else now + ttl, now)

    def there(self, id_: str) -> Result | None:
        """What is stored."""
        return self._store.results.get(id_, self._store.clock.time())

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Store those that win, by :meth:`wins`."""
        for result in results:
            if len(result.body) > self.capabilities.max_body:
                raise MessageTooLarge(result.id)
        with self._store.changed:
            self._refuse_if_closed()
            answers = [self.store_one(result, ttl) for result in results]
            self._store.changed.notify_all()
        return answers

    def store_one(self, result: Result, ttl: float | None) -> bool:
        """Store one if it wins."""
        there = self.there(result.id)
        if there is not None and not self.wins(result, there):
            return False
        self.keep(result, ttl)
        return True

    def wins(self, result: Result, there: Result) -> bool:
        """Whether one may overwrite another."""
        return result.replaces(there)


class Sifting(Open):
    """Says that it has stored what it has not."""

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        kept = self.sifted(results)
        answers = iter(super().store(kept, ttl=ttl))
        names = {id(one) for one in kept}
        return [next(answers) if id(one) in names else True for one in results]

    def sifted(self, results: Sequence[Result]) -> Sequence[Result]:
        """Those of a batch that it stores."""
        raise NotImplementedError


# Law 1: durable


@wrong_backend("durable", "loses one result in 1000")
class LosesOneResultInThousand(Sifting):
    number = 0

    def sifted(self, results: Sequence[Result]) -> Sequence[Result]:
        first, self.number = self.number, self.number + len(results)
        return [one for number, one in enumerate(results, first + 1) if number % 1000]


@wrong_backend("durable", "stores the first 64 results of a batch only")
class StoresSixtyFourResults(Sifting):
    def sifted(self, results: Sequence[Result]) -> Sequence[Result]:
        return results[:64]


@wrong_backend("durable", "loses the last of a large batch of odd size")
class LosesLastOfOddBatch(Sifting):
    def sifted(self, results: Sequence[Result]) -> Sequence[Result]:
        return results[:-1] if len(results) > 500 and len(results) % 2 else results


@wrong_backend("durable", "an object remembers what it has read, and does not look again")
class CachesReads(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cache: dict[str, Result] = {}

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        for result in results:
            self.cache.pop(result.id, None)
        return super().store(results, ttl=ttl)

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        for id_, found in zip(ids, super().fetch(ids), strict=True):
            if found is not None:
                self.cache.setdefault(id_, found)
        return [self.cache.get(id_) for id_ in ids]


@wrong_backend("durable", "an object remembers which ids are unknown, and does not look again")
class CachesUnknown(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unknown: set[str] = set()

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        self.unknown.difference_update(one.id for one in results)
        return super().store(results, ttl=ttl)

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        found = [None if id_ in self.unknown else one for id_, one in zip(ids, super().fetch(ids), strict=True)]
        self.unknown.update(id_ for id_, one in zip(ids, found, strict=True) if one is None)
        return found


@wrong_backend("durable", "close forgets what the object has stored")
class CloseForgets(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.own: set[str] = set()

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        self.own.update(one.id for one in results)
        return super().store(results, ttl=ttl)

    def close(self) -> None:
        if not self._closed:
            self.forget([*self.own])
        super().close()


# Law 2: exact


class Mangling(Open):
    """Changes what it is given."""

    def mangled(self, result: Result) -> Result:
        """What it stores."""
        raise NotImplementedError

    def keep(self, result: Result, ttl: float | None) -> None:
        super().keep(self.mangled(result), ttl)


def mangles_bodies(text: str, name: str, change: Callable[[bytes], bytes]) -> None:
    """Register a backend that changes bodies."""

    class Mangles(Mangling):
        def mangled(self, result: Result) -> Result:
            return replace(result, body=change(result.body))

    Mangles.__name__ = name
    wrong_backend("exact", text)(Mangles)


mangles_bodies("cuts bodies off at 64 KiB", "CutsBodiesAt64K", lambda body: body[:65536])
mangles_bodies("a zero byte at the end is lost", "LosesLastZero", lambda body: body.removesuffix(b"\0"))
mangles_bodies(
    "bodies are text: what is not UTF-8 is replaced",
    "BodiesAreText",
    lambda body: body.decode(errors="replace").encode(),
)
mangles_bodies("line ends are made uniform", "UniformLineEnds", lambda body: body.replace(b"\r\n", b"\n"))
mangles_bodies("an empty body comes back as null", "EmptyIsNull", lambda body: body or b"null")
mangles_bodies("a byte order mark is taken away", "StripsMark", lambda body: body.removeprefix(b"\xef\xbb\xbf"))


@wrong_backend("exact", "an attempt has 16 bits")
class ShortAttempts(Mangling):
    def mangled(self, result: Result) -> Result:
        return replace(result, attempt=result.attempt & 0xFFFF or 1)

    def wins(self, result: Result, there: Result) -> bool:
        return super().wins(self.mangled(result), there)


@wrong_backend("exact", "retrying comes back as running")
class NeverRetrying(Mangling):
    def mangled(self, result: Result) -> Result:
        return replace(result, state=State.RUNNING) if result.state is State.RETRYING else result


@wrong_backend("exact", "a shorter body leaves the rest of the longer one before it")
class LeavesRest(Open):
    def store_one(self, result: Result, ttl: float | None) -> bool:
        there = self.there(result.id)
        rest = b"" if there is None else there.body[len(result.body) :]
        return super().store_one(replace(result, body=result.body + rest), ttl)


@wrong_backend("exact", "fetch answers in the order of the ids")
class FetchSorts(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        return super().fetch(sorted(ids))


@wrong_backend("exact", "fetch answers an id that is asked for twice only once")
class FetchOnce(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        once = list(dict.fromkeys(ids))
        return [*super().fetch(once), *[None] * (len(ids) - len(once))]


@wrong_backend("exact", "of more than 500 ids fetch knows the first 500")
class FetchesFiveHundred(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        return [*super().fetch(ids[:500]), *[None] * len(ids[500:])]


@wrong_backend("exact", "wait brings large results without their body")
class WaitWithoutBody(MemoryBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        found = super().wait(ids, timeout=timeout)
        return [one if len(one.body) <= 4096 else replace(one, body=b"") for one in found]


class Limited(MemoryBackend):
    """Checks the size of a body in its own way."""

    def checked(self, body: bytes) -> bool:
        """Whether it takes a body."""
        raise NotImplementedError

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        shown = self.capabilities
        if not all(self.checked(one.body) for one in results):
            raise MessageTooLarge("too large")
        self.capabilities = replace(shown, max_body=2**40)
        try:
            return super().store(results, ttl=ttl)
        finally:
            self.capabilities = shown


@wrong_backend("exact", "takes one byte more than it declares")
class TakesLargerBody(Limited):
    def checked(self, body: bytes) -> bool:
        return len(body) <= self.capabilities.max_body + 1


@wrong_backend("exact", "refuses the largest body that it declares")
class RefusesLargestBody(Limited):
    def checked(self, body: bytes) -> bool:
        return len(body) < self.capabilities.max_body


@wrong_backend("exact", "stores what stands before a body that is too large, and then refuses")
class StoresBeforeItRefuses(MemoryBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        return [answer for one in results for answer in super(StoresBeforeItRefuses, self).store([one], ttl=ttl)]


# Law 3: one writer


@wrong_backend("one_writer", "whoever writes last wins")
class LastWins(Open):
    def wins(self, result: Result, there: Result) -> bool:  # noqa: ARG002
        return True


@wrong_backend("one_writer", "a final result is overwritten by one of its attempt that is not")
class FinalIsNotFinal(Open):
    def wins(self, result: Result, there: Result) -> bool:
        return (
            result.attempt > there.attempt
            or (result.attempt == there.attempt and not result.state.final)
            or result.replaces(there)
        )


@wrong_backend("one_writer", "an attempt may end twice")
class EndsTwice(Open):
    def wins(self, result: Result, there: Result) -> bool:
        return result.replaces(there) or (result.attempt == there.attempt and result.state.final)


@wrong_backend("one_writer", "a result that expired in the queue is not taken for final")
class ExpiredIsNotFinal(Open):
    def wins(self, result: Result, there: Result) -> bool:
        return result.replaces(there) or (result.attempt == there.attempt and there.state is State.EXPIRED)


@wrong_backend("one_writer", "a zombie overwrites what is not final")
class ZombieOverwritesRunning(Open):
    def wins(self, result: Result, there: Result) -> bool:
        return result.replaces(there) or not there.state.final


@wrong_backend("one_writer", "nothing follows a final result, not even a later attempt")
class NothingFollows(Open):
    def wins(self, result: Result, there: Result) -> bool:
        return result.replaces(there) and not there.state.final


@wrong_backend("one_writer", "attempts are compared as text")
class AttemptsAreText(Open):
    def wins(self, result: Result, there: Result) -> bool:
        new, old = str(result.attempt), str(there.attempt)
        return new > old or (new == old and not there.state.final)


@wrong_backend("one_writer", "only the next attempt is taken for a later one")
class OnlyTheNext(Open):
    def wins(self, result: Result, there: Result) -> bool:
        return result.replaces(there) and result.attempt <= there.attempt + 1


@wrong_backend("one_writer", "always answers that it has stored")
class StoreSaysTrue(MemoryBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        return [True for _ in super().store(results, ttl=ttl)]


@wrong_backend("one_writer", "answers for a batch what is true of its first")
class AnswersOfFirst(MemoryBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        answers = super().store(results, ttl=ttl)
        return answers[:1] * len(answers)


@wrong_backend("one_writer", "a later attempt is stored, and answered as if it was not")
class StoresAndDenies(Open):
    def store_one(self, result: Result, ttl: float | None) -> bool:
        there = self.there(result.id)
        return super().store_one(result, ttl) and (there is None or not there.state.final)


@wrong_backend("one_writer", "results of one batch are not compared with each other")
class BlindToItsBatch(Open):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        self.before = {one.id: self.there(one.id) for one in results}
        return super().store(results, ttl=ttl)

    def store_one(self, result: Result, ttl: float | None) -> bool:
        there = self.before[result.id]
        if there is not None and not result.replaces(there):
            return False
        self.keep(result, ttl)
        return True


@wrong_backend("one_writer", "a refused result leaves its body")
class TakesTheBody(Open):
    def store_one(self, result: Result, ttl: float | None) -> bool:
        there = self.there(result.id)
        stored = super().store_one(result, ttl)
        if not stored and there is not None and result.attempt == there.attempt and result.body:
            self.keep(replace(there, body=result.body), ttl)
        return stored


@wrong_backend("one_writer", "looks first and writes then: who comes between is overwritten")
class LooksThenWrites(Open):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        answers = []
        for result in results:
            [there] = self.fetch([result.id])
            answers.append(there is None or result.replaces(there))
            with self._store.changed:
                if answers[-1]:
                    self.keep(result, ttl)
                self._store.changed.notify_all()
        return answers
