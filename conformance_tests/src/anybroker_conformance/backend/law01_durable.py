"""Law 1: what store accepted is read at once, by everybody, and survives what is declared."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.capabilities import Durability
from anybroker.errors import AnybrokerError
from anybroker_conformance.backend.peer import RemoteBackend
from anybroker_conformance.backend.subject import KEPT
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

MANY = 3_000
FEW = 300
"""What is stored even where that takes long."""
AFFORDABLE = 8.0
"""Seconds that storing many may take."""
SIZES = (1, 65, 1001, 2, 500, 1, 1, 128, 257, 1, 1, 1, 10, 99, 33)
STATES = tuple(State)


class Durable:
    """Law 1."""

    def test_law01_durable__each_of_many(self, results: BackendSubject) -> None:
        """Of thousands, one by one and in batches of many sizes, none is missing, at once and in the end."""
        stored: list[Result] = []
        started = time.monotonic()
        sizes = cycle(SIZES)
        while len(stored) < MANY and (len(stored) < FEW or time.monotonic() - started < AFFORDABLE):
            states = islice(cycle(STATES), next(sizes))
            batch = [results.result(b"%d" % (len(stored) + n), state=state) for n, state in enumerate(states)]
            results.put(*batch, batch=len(batch))
            results.assert_there(batch, why="it was stored")
            stored += batch
        results.assert_there(stored, why="it was stored, and others after it")
        _assert_final(results, stored)

    def test_law01_durable__each_change_of_many(self, results: BackendSubject) -> None:
        """Each state that replaces another is read, also by those who read the ones before."""
        reader = results.objects(2)[1]
        ids = [results.id() for _ in range(250)]
        for attempt, state in ((1, State.RUNNING), (1, State.RETRYING), (2, State.RUNNING), (2, State.SUCCEEDED)):
            stored = [Result(id_, state, attempt, f"{state.value} {n}".encode()) for n, id_ in enumerate(ids)]
            results.put(*stored, batch=83)
            results.assert_there(stored, why="it replaced another", backend=reader)
            _assert_final(results, stored)

    def test_law01_durable__asked_for_twice_in_one_call(self, results: BackendSubject) -> None:
        """As many answers as questions, each in its place."""
        known, other = results.result(b"1"), results.result(b"2")
        results.put(known, other)
        asked = [known.id, other.id, known.id, results.id(), known.id]
        found = results.backend.fetch(asked)
        if found != [known, other, known, None, known]:
            raise LawBroken(f"an id that fetch was asked for thrice is answered {found.count(known)} times", known.id)

    def test_law01_durable__read_by_other_objects(self, results: BackendSubject) -> None:
        objects = results.objects(3)
        for turn in range(12):
            _write_and_read(results, objects[turn % 3], objects[(turn + 1) % 3])

    def test_law01_durable__read_by_other_processes(self, results: BackendSubject) -> None:
        other = _remote(results)
        for _ in range(5):
            _write_and_read(results, results.backend, other)
            _write_and_read(results, other, results.backend)

    def test_law01_durable__the_writer_closes(self, results: BackendSubject) -> None:
        """What an object wrote stays when it is closed; and where it is declared, when all are."""
        writer = results.open()
        reader = results.backend
        written, more = _Written(results, writer), _Written(results, writer)
        writer.close()
        writer.close()
        written.assert_there(results, reader, why="only its writer was closed")
        if results.capabilities.shared or results.capabilities.durability is not Durability.PROCESS:
            reader.close()
            more.assert_there(results, results.open(), why="nothing but objects were closed")

    def test_law01_durable__the_writer_is_closed_already(self, results: BackendSubject) -> None:
        """It refuses, or what it has accepted is there; and what it says is there."""
        closed, known, late = results.open(), results.result(b"known"), results.result(b"late")
        results.put(known)
        closed.close()
        with suppress(AnybrokerError):
            if closed.store([late], ttl=KEPT) != [False]:
                results.assert_there([late], why="an object that was closed has stored it")
        with suppress(AnybrokerError):
            assert closed.fetch([known.id]) == [known], "an object that was closed fetched something else"
        with suppress(AnybrokerError):
            closed.forget([known.id])
            results.assert_none([known.id], why="an object that was closed has forgotten it")

    def test_law01_durable__the_writer_is_killed(self, results: BackendSubject) -> None:
        writer = results.peer()
        remote = results.adopt(RemoteBackend(writer, results.capabilities))
        written = _Written(results, remote)
        writer.kill()
        written.assert_there(results, results.backend, why="it was stored before the process was killed")

    @pytest.mark.parametrize("by", ["KILL", "TERM"])
    def test_law01_durable__the_server_restarts(self, results: BackendSubject, by: str) -> None:
        server = results.suite.server
        if results.capabilities.durability is Durability.PROCESS:
            results.untested("durability: process is declared: nothing has to survive a restart")
        if server is None:
            results.untested("a restart: the suite has no `server` that it may stop and start")
        written = _Written(results, results.backend)
        if by == "KILL":
            server.kill()
        else:
            server.stop()
        server.start()
        written.assert_there(results, results.open(), why=f"it was stored before the server was restarted by {by}")


class _Written:
    """Results, a lock and two groups, one of them sealed."""

    def __init__(self, results: BackendSubject, writer: RecordedBackend) -> None:
        self.stored = [results.result(b"%d" % n, state=STATES[n % len(STATES)], attempt=1 + n) for n in range(200)]
        results.put(*self.stored[:100], backend=writer, batch=33)
        results.put(*self.stored[100:], backend=writer, ttl=None)
        self.key = results.id("lock")
        self.token = results.claim(self.key, why="nobody holds it", backend=writer)
        self.group, self.sealed = results.id("group"), results.id("group")
        for member in "ab":
            writer.join(self.group, member, size=3)
            writer.join(self.sealed, member, size=2)
        writer.seal(self.sealed)

    def assert_there(self, results: BackendSubject, reader: RecordedBackend, *, why: str) -> None:
        results.assert_there(self.stored, why=why, backend=reader)
        results.assert_held(self.key, why=f"somebody holds it: {why}", backend=reader)
        if not reader.release(self.key, self.token):
            raise LawBroken(f"a lock is no longer held although {why}", self.key)
        if any(reader.join(self.sealed, member, size=2) for member in "ab"):
            raise LawBroken(f"a group is no longer sealed although {why}", self.sealed)
        if reader.join(self.group, "b", size=3) or not reader.join(self.group, "c", size=3):
            raise LawBroken(f"the members of a group have changed although {why}", self.group)


def _remote(results: BackendSubject) -> RecordedBackend:
    return results.adopt(RemoteBackend(results.peer(), results.capabilities))


def _assert_final(results: BackendSubject, stored: list[Result]) -> None:
    """``wait`` finds all that are final."""
    for start in range(0, len(stored), 400):
        some = stored[start : start + 400]
        found = {one.id: one for one in results.backend.wait([one.id for one in some], timeout=0)}
        for result in some:
            if result.state.final and found.get(result.id) != result:
                raise LawBroken("wait does not find a result that is final", result.id)


def _write_and_read(results: BackendSubject, writer: RecordedBackend, reader: RecordedBackend) -> None:
    """What one writes the other reads at once, also where it has read before."""
    id_ = results.id()
    results.assert_none([id_], why="it was never stored", backend=reader)
    for result in (
        Result(id_, State.RUNNING, 1, b"1"),
        Result(id_, State.SUCCEEDED, 1, b"two"),
        Result(id_, State.RETRYING, 2),
        Result(id_, State.FAILED, 2, b"4"),
    ):
        results.put(result, backend=writer)
        for one in (reader, writer):
            results.assert_there([result], why="it was stored just now", backend=one)
            if one.wait([id_], timeout=0) != ([result] if result.state.final else []):
                raise LawBroken("wait does not know what was stored just now", id_)
    writer.forget([id_])
    results.assert_none([id_], why="it was forgotten just now", backend=reader)
