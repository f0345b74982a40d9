"""Law 10: any number of threads, processes and hosts; a fork after use is safe."""

from __future__ import annotations

import os
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from anybroker.backend import Result, State
from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_conformance.backend.racing import Running, hasty_threads, one_within_another, race
from anybroker_conformance.backend.subject import KEPT, shown
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.backend import ResultBackend
    from anybroker_conformance.backend.subject import BackendSubject

THREADS = 8
SECONDS = 1.5
"""How long random work goes on, at most."""
TURNS = 40
FORKS = 15
LINES = 250
"""Lines of an adapter at which other calls are made, at most."""
HANGING = 30.0


class Concurrent:
    """Law 10."""

    def test_law10_concurrent__threads_on_one_object(self, realtime_results: BackendSubject) -> None:
        """Each does everything with results, groups and locks of its own, and notices nothing of the others."""
        results = realtime_results
        prefix = results.id("thread")
        race([partial(work, results.backend, f"{prefix}.{number}", number) for number in range(THREADS)])

    def test_law10_concurrent__threads_on_several_objects(self, realtime_results: BackendSubject) -> None:
        results = realtime_results
        objects = results.objects(4)
        prefix = results.id("thread")
        race([partial(work, objects[number % 4], f"{prefix}.{number}", number) for number in range(THREADS)])

    def test_law10_concurrent__one_call_within_another(self, realtime_results: BackendSubject) -> None:
        """Whatever an object does between two lines of a call, in another thread, does not disturb that call."""
        results = realtime_results
        for objects in ([results.backend] * 2, results.objects(2)):
            for outer in (_results, _group, _lock):
                keys = [results.id("line") for _ in range(LINES)]
                first = partial(_once, outer, objects[0], "outer")
                second = partial(_once, _everything, objects[1], "inner")
                for _ in one_within_another(first, second, keys, seconds=SECONDS / 3):
                    pass

    def test_law10_concurrent__processes(self, realtime_results: BackendSubject) -> None:
        results = realtime_results
        others = [results.peer() for _ in range(3)]
        prefix = results.id("process")
        for number, other in enumerate(others):
            arguments = {"prefix": f"{prefix}.{number}", "seed": number}
            other.ask("run", function="anybroker_conformance.backend.law10_concurrent:work", arguments=arguments)
        work(results.backend, f"{prefix}.here", 99)
        for other in others:
            other.answer()

    def test_law10_concurrent__batches_of_many_threads(self, realtime_results: BackendSubject) -> None:
        """All that all have stored at the same time is there."""
        results = realtime_results
        objects = results.objects(3)
        batches = [[results.result(b"%d %d" % (number, n)) for n in range(240)] for number in range(THREADS)]

        def store(number: int) -> None:
            for start, size in ((0, 1), (1, 1), (2, 70), (72, 1), (73, 127), (200, 40)):
                results.put(*batches[number][start : start + size], backend=objects[number % 3])

        race([partial(store, number) for number in range(THREADS)])
        results.assert_there([one for batch in batches for one in batch], why="it was stored by one of many threads")

    def test_law10_concurrent__close_races_calls(self, realtime_results: BackendSubject) -> None:
        """Calls that are under way when another thread closes the object return, or raise ``BrokerUnavailable``."""
        results = realtime_results
        for _ in range(5):
            backend = results.open() if results.objects_share else results.adopt(results.suite.connect())
            prefix = results.id("closed")

            def use(number: int, backend: ResultBackend = backend, prefix: str = prefix) -> None:
                try:
                    work(backend, f"{prefix}.{number}", number)
                except BrokerUnavailable:
                    return
                except (AnybrokerError, LawBroken):
                    raise
                except Exception as error:
                    raise LawBroken(f"a call raised {error!r} while another thread closed the object") from error

            with hasty_threads():
                users = [Running(partial(use, number), "a call of a closed object") for number in range(4)]
                time.sleep(0.02)
                closing = [Running(backend.close, "close") for _ in range(2)]
                for one in [*closing, *users]:
                    one.result(HANGING)

    def test_law10_concurrent__a_fork_after_use(self, results: BackendSubject) -> None:
        """The child uses what it has inherited, or is told at once that it cannot; its parent notices nothing."""
        in_child = _fork(results)
        first, second = results.result(b"of the parent"), results.result(b"of the child")
        key, group = results.id("lock"), results.id("group")
        results.put(first)
        token = results.claim(key, why="nobody holds it")
        results.backend.join(group, "parent", size=2)
        backend, shared = results.backend.recorded, results.capabilities.shared

        def child() -> bool:
            try:
                found = backend.fetch([first.id])
                stored = backend.store([second], ttl=KEPT)
                taken = backend.claim(key, ttl=KEPT)
                complete = backend.join(group, "child", size=2)
                backend.close()
            except AnybrokerError:
                return False
            assert found == [first], f"the child of a fork fetched {found} instead of what its parent had stored"
            assert stored == [True], "the child of a fork could not store"
            assert taken is None, "the child of a fork got a lock that its parent holds"
            assert complete, "the child of a fork has joined after its parent, and the group of two is not complete"
            return True

        used = in_child(child)
        results.assert_there([first], why="only a child was forked")
        if used and shared:
            results.assert_there([second], why="a child of this process has stored it")
            if not results.backend.join(group, "parent", size=2):
                raise LawBroken("the child of a fork has joined, and the group of two is not complete", group)
        elif not shared:
            results.assert_none([second.id], why="the child of a fork stored it in a copy of its own")
        if not results.backend.release(key, token):
            raise LawBroken("a lock of the parent is lost since a child was forked and has closed its copy", key)

    def test_law10_concurrent__forks_while_threads_work(self, realtime_results: BackendSubject) -> None:
        """Whatever other threads were in the middle of, the child does not hang, and its parent goes on."""
        results = realtime_results
        in_child = _fork(results)
        backend = results.backend.recorded
        prefix = results.id("fork")
        stop = threading.Event()

        def keep_working(number: int) -> None:
            turn = 0
            while not stop.is_set():
                work(backend, f"{prefix}.{number}.{turn}", turn, turns=3)
                turn += 1

        def child() -> None:
            # The forking thread itself could pass a reentrant lock that was left locked.
            Running(lambda: _use_as_a_child(backend, f"{prefix}.child{os.getpid()}"), "the child of a fork").result(15)

        waiting = Running(lambda: backend.wait([f"{prefix}.never"], timeout=2), "wait")
        working = [Running(partial(keep_working, number), "a thread of the parent") for number in range(4)]
        try:
            for _ in range(FORKS):
                in_child(child)
        finally:
            stop.set()
        waiting.result(HANGING)
        for one in working:
            one.result(HANGING)


def _fork(results: BackendSubject) -> Callable[[Callable[[], Any]], Any]:
    if not hasattr(os, "fork"):
        results.untested("a fork: this operating system has none")
    from anybroker_conformance.faults.fork import in_child

    return in_child


def _use_as_a_child(backend: ResultBackend, prefix: str) -> None:
    try:
        for use in (_results, _group, _lock):
            use(backend, [f"{prefix}.{n}" for n in range(3)], random.Random(1))  # noqa: S311 (any order will do)
    except AnybrokerError:
        return  # it says that it cannot be used after a fork


def work(backend: ResultBackend, prefix: str, seed: int, turns: int = TURNS) -> None:
    """Everything that a backend does, with ids that nobody else uses; each answer must be right."""
    chance = random.Random(seed)  # noqa: S311 (any order will do)
    end = time.monotonic() + SECONDS
    for turn in range(turns):
        if time.monotonic() > end:
            return
        ids = [f"{prefix}.{turn}.{n}" for n in range(chance.choice((1, 2, 20)))]
        chance.choice((_results, _group, _lock))(backend, ids, chance)


def _once(use: Any, backend: ResultBackend, label: str, key: str) -> None:
    use(backend, [f"{key}.{label}.{n}" for n in range(2)], random.Random(1))  # noqa: S311 (any order will do)


def _everything(backend: ResultBackend, ids: Sequence[str], chance: random.Random) -> None:
    for use in (_results, _group, _lock):
        use(backend, ids, chance)


def _results(backend: ResultBackend, ids: Sequence[str], chance: random.Random) -> None:
    running = [Result(id_, State.RUNNING, 1) for id_ in ids]
    final = [Result(id_, State.SUCCEEDED, 1, f"{id_} {chance.random()}".encode() * 20) for id_ in ids]
    later = [Result(id_, State.RETRYING, 2, id_.encode()) for id_ in ids]
    for batch, refused in ((running, []), (final, running), (later, final)):
        _same(backend.store(batch, ttl=KEPT), [True] * len(ids), "store answered", ids[0])
        _same(backend.fetch(ids), batch, "fetch answered", ids[0])
        _same(backend.store(refused, ttl=KEPT), [False] * len(refused), "store answered", ids[0])
        expected = batch if batch is final else []
        found = backend.wait(ids, timeout=0.002)
        in_order = sorted(found, key=lambda one: ids.index(one.id) if one.id in ids else -1)
        _same(in_order, expected, "wait answered", ids[0])
    backend.forget(ids[::2])
    expected_left = [None if n % 2 == 0 else one for n, one in enumerate(later)]
    _same(backend.fetch(ids), expected_left, "after forget, fetch answered", ids[0])
    backend.forget(ids)


def _group(backend: ResultBackend, ids: Sequence[str], chance: random.Random) -> None:
    group, size = ids[0], len(ids) + 1
    repeats = 2 if backend.capabilities.exact_join else 1
    for member in chance.sample(ids, len(ids)) * repeats:
        _same(backend.join(group, member, size=size), expected=False, what="join answered", key=group)
    _same(backend.join(group, "last", size=size), expected=True, what="join of the last answered", key=group)
    backend.seal(group)
    _same(backend.join(group, "last", size=size), expected=False, what="join answered, after seal,", key=group)


def _lock(backend: ResultBackend, ids: Sequence[str], _: random.Random) -> None:
    for key in ids[:3]:
        token = backend.claim(key, ttl=KEPT)
        if token is None:
            raise LawBroken("a lock that nobody else uses could not be claimed", key)
        _same(backend.claim(key, ttl=KEPT), None, "claim of a lock that is held answered", key)
        _same(backend.release(key, "made up"), expected=False, what="release with a made-up token answered", key=key)
        _same(backend.release(key, token), expected=True, what="release answered", key=key)


def _same(found: object, expected: object, what: str, key: str) -> None:
    if found != expected:
        raise LawBroken(f"{what} {_worded(found)} instead of {_worded(expected)} while other threads were at work", key)


def _worded(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(shown(one) if one is None or isinstance(one, Result) else str(one) for one in value[:4])}]"
    return repr(value)
