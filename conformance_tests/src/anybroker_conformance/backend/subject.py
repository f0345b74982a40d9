"""What a law test of a result backend works with: the backend, the time it lives in, and ids that nobody else uses."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, NoReturn

from anybroker.backend import Result, State
from anybroker.clock import ManualClock
from anybroker.errors import AnybrokerError
from anybroker_conformance.backend.recorder import BackendJournal, RecordedBackend
from anybroker_conformance.subject import LawBroken, Untested

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from anybroker.backend import ResultBackend
    from anybroker.capabilities import BackendCapabilities
    from anybroker_conformance.backend.peer import BackendPeer
    from anybroker_conformance.backend.suite import BackendConformance

KEPT = 600.0
"""Seconds of a ttl that no test outlives in real time."""
BRIEF = 0.4
"""Seconds of a ttl that a test outlives, in real time; a manual clock has 10."""
SLACK = 0.2
"""Seconds that a real clock may differ from the backend's."""
BATCH = 500
"""Results of one call, where a test says nothing else."""


class BackendSubject:
    """One result backend under test, as one test sees it."""

    def __init__(self, suite: BackendConformance, scratch: Path, *, realtime: bool = False) -> None:
        self.suite = suite
        self.clock = None if realtime or not suite.takes_clock() else ManualClock()
        self.namespace = suite.namespace = f"c{secrets.token_hex(4)}"
        """A part of every id, group and key of this test: nothing else on the server has it."""
        self.journal = BackendJournal()
        self.figures: dict[str, list[float]] = {}
        self._scratch = scratch
        self.opened: list[RecordedBackend] = []
        self._peers: list[BackendPeer] = []
        self._ids = count(1)

    # The backend

    @property
    def backend(self) -> RecordedBackend:
        """The first object; the backend under test where one is enough."""
        return self.opened[0] if self.opened else self._open()

    @property
    def capabilities(self) -> BackendCapabilities:
        """What the backend declares."""
        return self.backend.capabilities

    def open(self) -> RecordedBackend:
        """One more object on the same results."""
        if not self.objects_share:
            self.untested("the objects that the factory makes share no results, and declare so (shared=False)")
        return self._open()

    def objects(self, number: int) -> list[RecordedBackend]:
        """So many objects on the same results; the same one again and again where objects share nothing."""
        others = [self._open() if self.objects_share else self.backend for _ in range(number - 1)]
        return [self.backend, *others]

    @property
    def objects_share(self) -> bool:
        """Whether several objects see the same results."""
        return self.capabilities.shared or self.suite.objects_share()

    def adopt(self, backend: ResultBackend) -> RecordedBackend:
        """Record what is done with a backend that a test has made in its own way; it is closed after the test."""
        recorded = RecordedBackend(backend, self.journal, f"backend {len(self.opened) + 1}", self.time)
        self.opened.append(recorded)
        return recorded

    def _open(self) -> RecordedBackend:
        return self.adopt(self.suite.connect() if self.clock is None else self.suite.connect_by(self.clock))

    def peer(self) -> BackendPeer:
        """Another process with an object of its own on the same results."""
        from anybroker_conformance.backend.peer import BackendPeer

        if not self.capabilities.shared:
            self.untested("other processes cannot use this backend, and it declares so (shared=False)")
        started = BackendPeer(self.suite, self._scratch / f"peer{len(self._peers)}")
        self._peers.append(started)
        return started

    # Time

    @property
    def brief(self) -> float:
        """Seconds of a ttl that a test can outlive."""
        return 10.0 if self.clock else BRIEF

    def time(self) -> float:
        """The time by which the backend judges; seconds since 1970."""
        return self.clock.time() if self.clock else time.time()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds > 0:
            (self.clock.advance if self.clock else time.sleep)(seconds)

    def outlive(self, ttl: float | None = None) -> None:
        """Let so much time pass that a ttl (:attr:`brief`) that began before has ended."""
        self.advance((self.brief if ttl is None else ttl) + self.capabilities.ttl_precision + self.slack)

    @property
    def slack(self) -> float:
        """Seconds by which a right backend may differ from what it declares, because clocks and machines do."""
        return 0.01 if self.clock else SLACK

    # Results, groups and locks

    def id(self, label: str = "r") -> str:
        """An id, a group or a key that nobody has used yet."""
        return f"{self.namespace}.{label}{next(self._ids)}"

    def result(
        self, body: bytes = b"", *, state: State = State.SUCCEEDED, attempt: int = 1, label: str = "r"
    ) -> Result:
        """A result, not stored yet, with an id that nobody has used."""
        return Result(self.id(label), state, attempt, body)

    def put(
        self, *results: Result, ttl: float | None = KEPT, backend: RecordedBackend | None = None, batch: int = BATCH
    ) -> None:
        """Store results, which must be accepted."""
        for start in range(0, len(results), batch):
            some = results[start : start + batch]
            answers = (backend or self.backend).store(some, ttl=ttl)
            for result, answer in zip(some, answers, strict=True):
                if not answer:
                    raise LawBroken("store answered False although nothing forbids it", result.id)

    def assert_there(self, results: Iterable[Result], *, why: str, backend: RecordedBackend | None = None) -> None:
        """The results are fetched as they are."""
        self.assert_fetched({result.id: result for result in results}, why=why, backend=backend)

    def assert_none(self, ids: Iterable[str], *, why: str, backend: RecordedBackend | None = None) -> None:
        """There is nothing under these ids: it is neither fetched nor waited for."""
        ids = list(ids)
        self.assert_fetched(dict.fromkeys(ids), why=why, backend=backend)
        for start in range(0, len(ids), BATCH):
            if found := (backend or self.backend).wait(ids[start : start + BATCH], timeout=0):
                raise LawBroken(f"wait returned {shown(found[0])} although {why}", found[0].id)

    def assert_fetched(
        self, expected: dict[str, Result | None], *, why: str, backend: RecordedBackend | None = None
    ) -> None:
        """What is fetched is what is expected; ``why`` says why."""
        ids = list(expected)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            for id_, found in zip(some, (backend or self.backend).fetch(some), strict=True):
                if found != expected[id_] or (found is not None and type(found.body) is not bytes):
                    raise LawBroken(f"fetched {shown(found)} instead of {shown(expected[id_])}, although {why}", id_)

    def join(self, group: str, member: str, *, size: int, backend: RecordedBackend | None = None) -> bool:
        """Join by the object given, or the first."""
        return (backend or self.backend).join(group, member, size=size)

    def claim(self, key: str, *, ttl: float = KEPT, why: str, backend: RecordedBackend | None = None) -> str:
        """Take a lock that must be free; ``why`` says why."""
        token = (backend or self.backend).claim(key, ttl=ttl)
        if token is None:
            raise LawBroken(f"a lock could not be claimed although {why}", key)
        return token

    def assert_held(self, key: str, *, why: str, backend: RecordedBackend | None = None) -> None:
        """A lock is not given to anybody."""
        if (backend or self.backend).claim(key, ttl=KEPT) is not None:
            raise LawBroken(f"a lock was given away although {why}", key)

    # The report

    def untested(self, reason: str) -> NoReturn:
        """Say that this cannot be tested here, and why."""
        raise Untested(reason)

    def figure(self, name: str, seconds: float) -> None:
        """Add a measurement to the report, which shows the median and the 99th percentile of all with this name."""
        self.figures.setdefault(name, []).append(seconds)

    def timeline(self, key: str) -> list[str]:
        """What was done with one result, group or lock, a line for each call."""
        return self.journal.timeline(key)

    def close(self) -> None:
        """Leave nothing behind: no process, no result, no connection."""
        for peer in self._peers:
            peer.end()
        with suppress(AnybrokerError):
            if self.clock is None and self.capabilities.shared:
                self._forget()
        for backend in self.opened:
            with suppress(AnybrokerError):
                backend.recorded.close()

    def _forget(self) -> None:
        cleaner = self.suite.connect()
        try:
            ids = sorted(self.journal.kept)
            for start in range(0, len(ids), BATCH):
                cleaner.forget(ids[start : start + BATCH])
        finally:
            cleaner.close()


def shown(result: Result | None) -> str:
    """A result in few words."""
    if result is None:
        return "nothing"
    body = repr(result.body) if len(result.body) <= 40 else f"{len(result.body):,} bytes {result.body[:16]!r}..."
    return f"({result.state.value}, attempt {result.attempt}, {body})"
