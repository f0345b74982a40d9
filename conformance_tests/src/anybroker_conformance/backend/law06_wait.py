"""Law 6: a waiter wakes when a result is final, and returns in time."""

from __future__ import annotations

import random
import statistics
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from anybroker.backend import Result, State
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.backend.peer import RemoteBackend
from anybroker_conformance.backend.racing import Running, one_within_another, race_for_each
from anybroker_conformance.backend.subject import shown
from anybroker_conformance.idleness import assert_idle
from anybroker_conformance.lateness import Lateness
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.backend import ResultBackend
    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

LONG = 60.0
"""Seconds of a timeout that nobody should wait for."""
TYPICAL = 0.15
"""Seconds that a loaded machine adds to what usually happens: half of all measurements are within it."""
ROUNDS = 3
"""How often wake-ups that were late are measured again."""
PATIENT = 10
"""Waiters that wait for long."""
LONG_IDLE = 2.0
"""Seconds after which who polls ever more rarely has become slow."""
APART = 0.06
"""Seconds between waiters that begin to wait."""
WAITERS = 70
RACES = 500
SPREAD = 16
"""Ids that are hardly ever in one place of a cluster."""
LINES = 400
"""Lines of an adapter at which something is stored, at most."""
RACING = 2.0
"""Seconds that this may take."""
FINAL = [state for state in State if state.final]
UNFINISHED = [state for state in State if not state.final]


class Waits:
    """Law 6."""

    def test_law06_wait__what_is_final_already(self, results: BackendSubject) -> None:
        """At once: all that are final, each as it is, and nothing else."""
        stored = [results.result(state.value.encode(), state=state, attempt=2) for _ in range(20) for state in State]
        bystander = results.result(b"nobody waits for it")
        results.put(*stored, bystander)
        ids = [one.id for one in stored]
        unknown = [results.id("unknown") for _ in range(3)]
        for timeout in (0.0, 0, LONG):
            for asked in (
                ids,
                ids[::-1],
                [*unknown, *ids],
                ids * 2,
                ids[-1:],
                ids[-1:] + unknown,
                unknown[:1] + ids[9:],
            ):
                found = _wait(results.backend, asked, timeout).result(PATIENCE)
                _assert_found(found, [one for one in stored if one.state.final and one.id in asked])

    def test_law06_wait__nothing_is_final(self, results: BackendSubject) -> None:
        unfinished = [results.result(b"x", state=state, attempt=n) for state in UNFINISHED for n in (1, 2)]
        again = [results.result(b"x", state=state) for state in FINAL]
        results.put(*unfinished, *again)
        tried_again = [Result(one.id, State.RUNNING, 2) for one in again]
        results.put(*tried_again)
        ids = [one.id for one in (*unfinished, *tried_again)]
        for timeout in (0.0, 0) if results.clock else (0.0, 0.05):
            for one in _wait(results.backend, [*ids, results.id("unknown")], timeout).result(PATIENCE):
                raise LawBroken(f"wait returned {shown(one)}, which is not final", one.id)

    def test_law06_wait__wakes_for_every_end(self, realtime_results: BackendSubject) -> None:
        """In every final state, by an object of its own or the waiter's, alone or in a batch, at any place."""
        results = realtime_results
        bound = results.capabilities.wake_bound
        writers = [results.backend, results.objects(2)[1]]
        excess: dict[int, str | None] = {}
        asleep = {number: 0.02 + _looking(results, number) for number in (1, 3, 250)}
        for _ in range(ROUNDS):
            late = {number: Lateness() for number in (1, 3, 250)}
            for turn in range(18):
                number = (1, 3, 250)[turn % 3]
                late[number].add(_wakes_for_end(results, writers[turn % 2], number, turn, asleep[number]))
            excess = {number: one.excess(bound, share=0.5) for number, one in late.items()}
            if not any(excess.values()):
                return
        number, found = next((number, one) for number, one in excess.items() if one)
        raise LawBroken(f"who waits for one of {number} results: {found}")

    def test_law06_wait__every_object_wakes_for_every_state(self, realtime_results: BackendSubject) -> None:
        """And not one of them a little later than the others."""
        results = realtime_results
        bound = results.capabilities.wake_bound + 2 * TYPICAL
        for state in FINAL:
            for waiter in results.objects(2):
                late = _wakes_for_state(results, waiter, state)
                for _ in range(ROUNDS):
                    if late > bound:
                        late = _wakes_for_state(results, waiter, state)
                if late > bound:
                    raise LawBroken(f"an object had a result that is {state.value} {late:.2f} s late, again and again")

    def test_law06_wait__wakes_after_a_long_wait(self, realtime_results: BackendSubject) -> None:
        """Those who poll ever more rarely become no slower than they declare."""
        results = realtime_results
        found = None
        for _ in range(ROUNDS):
            late = Lateness()
            waiting = []
            for _ in range(PATIENT):  # one after the other, for those who poll do not all poll at the same moment
                final = results.result(b"at last")
                waiting.append((final, _wait(results.backend, [results.id(), final.id])))
                time.sleep(APART)
            time.sleep(LONG_IDLE)
            for final, waiter in waiting[::-1]:
                late.add(_woken(results, waiter, [final], partial(results.put, final)))
            found = late.excess(results.capabilities.wake_bound, share=0.8)
            if not found:
                return
        raise LawBroken(f"after {LONG_IDLE:g} idle seconds {found}")

    def test_law06_wait__wakes_by_another_process(self, realtime_results: BackendSubject) -> None:
        results = realtime_results
        writer = results.adopt(RemoteBackend(results.peer(), results.capabilities))
        late = []
        for turn in range(9):
            final = results.result(b"%d" % turn)
            waiting = _wait(results.backend, [results.id(), final.id])
            time.sleep(0.02)
            late.append(_woken(results, waiting, [final], partial(results.put, final, backend=writer)))
        _assert_typical(late, results.capabilities.wake_bound, "a waiter was woken", "after another process had stored")

    def test_law06_wait__not_for_others(self, realtime_results: BackendSubject) -> None:
        """Not by other results, by other states of this one, by what is refused, forgotten or expires."""
        results = realtime_results
        wanted = results.result(b"wanted", label="wanted")
        old = results.result(b"old")
        results.put(old)
        results.put(Result(old.id, State.RUNNING, 2))
        gone, forgotten = results.result(b"gone"), results.result(b"forgotten")
        results.put(gone, ttl=0.05)
        results.put(forgotten)
        results.backend.forget([forgotten.id])
        results.outlive(0.05)
        ids = [wanted.id, old.id, gone.id, forgotten.id]
        waiting = [_wait(results.backend, ids), _wait(results.objects(2)[1], ids[::-1])]
        for turn in range(12):
            results.put(results.result(b"other"), *(Result(wanted.id, state, 1) for state in UNFINISHED))
            results.put(
                Result(f"{wanted.id}0", State.SUCCEEDED, turn + 1), Result(wanted.id[:-1], State.FAILED, turn + 1)
            )
            results.backend.store([Result(old.id, State.SUCCEEDED, 1, b"zombie")], ttl=60)
            results.backend.forget([forgotten.id, gone.id])
            time.sleep(WATCH / 12)
        for one in waiting:
            if one.done:
                raise LawBroken(
                    f"wait returned {one.result()} although nothing of what it waits for is final", wanted.id
                )
        results.put(wanted)
        for one in waiting:
            _assert_found(one.result(results.capabilities.wake_bound + PATIENCE, key=wanted.id), [wanted])

    def test_law06_wait__returns_in_time(self, realtime_results: BackendSubject) -> None:
        """With nothing, not before the timeout and soon after it, also where other results come and go."""
        results = realtime_results
        running = results.result(state=State.RUNNING)
        results.put(running)
        bound = results.capabilities.wake_bound
        for timeout, repeats in ((0.0, 5), (0.02, 5), (0.3, 3), (1.2, 2)):
            lasted = []
            for turn in range(repeats):
                began = time.monotonic()
                waiting = _wait(results.backend, [running.id, results.id("unknown")][: 1 + turn % 2], timeout)
                if timeout > 0.5:
                    _disturb(results, running, timeout)
                found = waiting.result(timeout + bound + PATIENCE, key=running.id)
                lasted.append(time.monotonic() - began)
                if found:
                    raise LawBroken(f"wait returned {shown(found[0])}, which is not final", found[0].id)
            if min(lasted) < timeout - 0.01:
                raise LawBroken(
                    f"wait(timeout={timeout:g}) returned with nothing after {min(lasted):.3f} s", running.id
                )
            if min(lasted) > timeout + bound + TYPICAL:
                raise LawBroken(
                    f"wait(timeout={timeout:g}) took {min(lasted):.3f} s, {repeats} times at least", running.id
                )

    def test_law06_wait__never_busy_loops(self, realtime_results: BackendSubject) -> None:
        """An idle second costs next to no processor time, in whichever thread, wherever in a cluster the ids are."""
        results = realtime_results
        running = [results.result(state=State.RUNNING) for _ in range(SPREAD)]
        results.put(*running)
        ids = [one.id for one in running] + [results.id("unknown") for _ in range(SPREAD)]
        assert_idle(partial(results.backend.wait, ids, timeout=0.5))

    def test_law06_wait__many_waiters(self, realtime_results: BackendSubject) -> None:
        """Nobody is forgotten: of those who wait for one result, nor of those who wait each for its own."""
        results = realtime_results
        for objects in ([results.backend], results.objects(3)):
            shared = results.result(b"shared")
            own = [results.result(b"own %d" % n) for n in range(WAITERS)]
            for wanted in ([shared] * WAITERS, own):
                _assert_all_woken(results, objects, wanted)

    def test_law06_wait__those_who_stay(self, realtime_results: BackendSubject) -> None:
        """Who waits on is woken as soon as ever after others, who got what they waited for, have left."""
        results = realtime_results
        late = []
        for turn in range(8):
            first, last = results.result(b"first"), results.result(b"last")
            leaving = [_wait(results.backend, [first.id]) for _ in range(1 + turn % 3)]
            staying = _wait(results.backend, [last.id])
            leaving.append(_wait(results.backend, [first.id]))
            time.sleep(0.05)
            results.put(first)
            for one in leaving:
                one.result(results.capabilities.wake_bound + PATIENCE, key=first.id)
            time.sleep(0.05)
            late.append(_woken(results, staying, [last], partial(results.put, last)))
        _assert_typical(late, results.capabilities.wake_bound, "who waits on was woken", "after the result was stored")

    def test_law06_wait__stored_while_it_looks(self, realtime_results: BackendSubject) -> None:
        """A result that is stored at whichever line of a waiter's code is not missed."""
        results = realtime_results
        late = []

        def store(id_: str) -> float:
            results.put(Result(id_, State.SUCCEEDED, 1))
            return time.monotonic()

        for backend in dict.fromkeys(results.objects(2)):
            ids = [results.id() for _ in range(LINES)]
            for id_, noticed, stored in one_within_another(
                partial(_noticed, results, backend), store, ids, seconds=RACING
            ):
                late.append(_not_missed(results, id_, noticed - stored))
        _assert_seldom_late(results, late)

    def test_law06_wait__stored_when_it_begins(self, realtime_results: BackendSubject) -> None:
        """The same at any moment, for several waiters."""
        results = realtime_results
        chance = random.Random(6)  # noqa: S311 (any moment will do)

        def store(id_: str) -> float:
            if chance.random() < 0.1:
                time.sleep(chance.random() * 0.02)
            results.put(Result(id_, State.SUCCEEDED, 1))
            return time.monotonic()

        racers: list[Callable[[str], float]] = [store]
        racers += [partial(_noticed, results, backend) for backend in results.objects(3)]
        raced = race_for_each(racers, [results.id() for _ in range(RACES)], seconds=RACING)
        late = [_not_missed(results, id_, max(noticed) - stored) for id_, (stored, *noticed) in raced.items()]
        _assert_seldom_late(results, late)

    def test_law06_wait__one_after_another(self, realtime_results: BackendSubject) -> None:
        """Waiting for the rest of several results finds each of them in its turn."""
        results = realtime_results
        every = [results.result(b"%d" % n, state=FINAL[n % len(FINAL)]) for n in range(12)]
        left = {one.id: one for one in every}

        def write() -> None:
            for start in range(0, len(every), 2):
                results.put(*every[start : start + 2])
                time.sleep(0.01)

        writing = Running(write, "the writer")
        while left:
            found = _wait(results.backend, [*left]).result(results.capabilities.wake_bound + 2 * PATIENCE)
            if not found:
                raise LawBroken("wait returned nothing long before its timeout", next(iter(left)))
            for one in found:
                if left.pop(one.id, None) != one:
                    raise LawBroken(f"wait returned {shown(one)}, which nobody waits for", one.id)
        writing.result()

    def test_law06_wait__close_ends_it(self, realtime_results: BackendSubject) -> None:
        """Who waits by an object that another thread closes waits no longer than was asked for."""
        results = realtime_results
        closing = results.open() if results.objects_share else results.backend
        waiting = _wait(closing, [results.id("never")], 1.0)
        time.sleep(0.05)
        closing.close()
        closing.close()
        try:
            found = waiting.result(1.0 + results.capabilities.wake_bound + PATIENCE)
        except BrokerUnavailable:
            return
        assert found == [], "a wait that close has ended finds nothing"

    def test_law06_wait__as_long_as_it_takes(self, results: BackendSubject) -> None:
        """A timeout of a month ends when the clock says so, where a clock can be moved, and not before."""
        if results.clock is None:
            results.untested("a wait of a month: time is real here (the suite defines no connect_by)")
        waiting = _wait(results.backend, [results.id("never")], 30 * 86400.0)
        for _ in range(29):
            results.clock.advance(86400)
        time.sleep(WATCH)
        if waiting.done:
            raise LawBroken("a wait of 30 days ended in less than 29")
        for _ in range(200):
            results.clock.advance(86400)
            time.sleep(0.005)
        assert waiting.result(PATIENCE) == [], "nothing was stored"


def _wait(
    backend: ResultBackend,
    ids: Sequence[str],
    timeout: float = LONG,
    *,
    ready: threading.Semaphore | None = None,
) -> Running[list[Result]]:
    """Wait in a thread; returns when it is about to begin."""
    begun = ready or threading.Semaphore(0)

    def act() -> list[Result]:
        begun.release()
        return backend.wait(ids, timeout=timeout)

    running = Running(act, f"wait(timeout={timeout:g})")
    if ready is None:
        begun.acquire()
    return running


def _looking(results: BackendSubject, number: int) -> float:
    """Seconds until who waits for so many results has looked for each of them."""
    began = time.monotonic()
    results.backend.wait([results.id() for _ in range(number)], timeout=0)
    return time.monotonic() - began


def _wakes_for_end(results: BackendSubject, writer: RecordedBackend, number: int, turn: int, after: float) -> float:
    """Wait for so many results, of which one becomes final ``after`` some seconds; how late the waiter has it."""
    ids = [results.id() for _ in range(number)]
    id_ = ids[(-1, 0, 2 * number // 5)[turn // 3 % 3]]
    final = Result(id_, FINAL[turn % len(FINAL)], 1 + turn % 2, b"%d" % turn)
    before = [Result(final.id, state, 1) for state in UNFINISHED[: turn % 4]]
    for one in before[:1]:
        results.put(one)
    waiting = _wait(results.backend, ids)
    time.sleep(after)
    others = [results.result(b"other") for _ in range(turn % 3)]
    results.put(*others, *before, backend=writer)
    if waiting.done:
        raise LawBroken(f"wait returned {waiting.result()} before the result was final", final.id)
    return _woken(results, waiting, [final], partial(results.put, final, backend=writer))


def _wakes_for_state(results: BackendSubject, waiter: ResultBackend, state: State) -> float:
    """Wait for one result; how late the waiter has it."""
    final = results.result(b"at last", state=state)
    waiting = _wait(waiter, [final.id])
    time.sleep(0.02)
    return _woken(results, waiting, [final], partial(results.put, final))


def _assert_all_woken(results: BackendSubject, objects: Sequence[ResultBackend], wanted: list[Result]) -> None:
    """One waiter for each, and one call that stores all."""
    ready = threading.Semaphore(0)
    unwanted = results.id("never")
    waiting = [_wait(objects[n % len(objects)], [unwanted, one.id], ready=ready) for n, one in enumerate(wanted)]
    for _ in waiting:
        ready.acquire()
    time.sleep(0.1)
    results.put(*dict.fromkeys(wanted))
    within = time.monotonic() + results.capabilities.wake_bound + 2 * PATIENCE
    for one, result in zip(waiting, wanted, strict=True):
        _assert_found(one.result(max(0.1, within - time.monotonic()), key=result.id), [result])


def _noticed(results: BackendSubject, backend: ResultBackend, id_: str) -> float:
    """When somebody who waits has noticed that it is final."""
    found = backend.wait([id_], timeout=results.capabilities.wake_bound + 2 * PATIENCE)
    if [one.id for one in found] != [id_]:
        raise LawBroken("a waiter has missed a result that was stored when it began to wait", id_)
    return time.monotonic()


def _not_missed(results: BackendSubject, id_: str, late: float) -> float:
    if late > results.capabilities.wake_bound + PATIENCE:
        raise LawBroken("a waiter has missed a result that was stored when it began to wait", id_)
    return late


def _assert_seldom_late(results: BackendSubject, late: list[float]) -> None:
    """A loaded machine stands still now and then; who often looks again only after a second has missed something."""
    missed = [one for one in late if one > results.capabilities.wake_bound + 0.8]
    if len(missed) > 2:
        raise LawBroken(f"{len(missed)} of {len(late)} times a waiter noticed up to {max(missed):.1f} s late")


def _woken(
    results: BackendSubject, waiting: Running[list[Result]], expected: list[Result], store: Callable[[], None]
) -> float:
    """Store, and return the seconds from then on that the waiter took to return what is expected."""
    store()
    stored = time.monotonic()
    _assert_found(waiting.result(results.capabilities.wake_bound + PATIENCE, key=expected[0].id), expected)
    late = time.monotonic() - stored
    results.figure("wake-up of wait", late)
    return late


def _assert_found(found: list[Result], expected: list[Result]) -> None:
    wanted = {one.id: one for one in expected}
    for one in found:
        if wanted.get(one.id) != one or type(one.body) is not bytes:
            raise LawBroken(f"wait returned {shown(one)} instead of {shown(wanted.get(one.id))}", one.id)
    if missing := wanted.keys() - {one.id for one in found}:
        raise LawBroken("wait returned without a result that is final", min(missing))


def _assert_typical(late: list[float], bound: float, what: str, when: str) -> None:
    typical = statistics.median(late)
    if typical > bound + TYPICAL:
        raise LawBroken(f"{what} typically {typical:.3f} s {when}, of {len(late)} times; declared are {bound:g} s")


def _disturb(results: BackendSubject, running: Result, timeout: float) -> None:
    """Other results, and states of this one that are not final, while somebody waits."""
    end = time.monotonic() + 0.8 * timeout
    while time.monotonic() < end:
        results.put(results.result(b"other"), Result(running.id, State.RETRYING, running.attempt))
        time.sleep(0.05)
