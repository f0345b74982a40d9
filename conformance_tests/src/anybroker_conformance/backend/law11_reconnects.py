"""Law 11: when the server goes and returns, calls raise ``BrokerUnavailable`` meanwhile, then work again."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.backend import Result, State
from anybroker.capabilities import Durability
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.backend.racing import Running
from anybroker_conformance.backend.subject import KEPT, shown
from anybroker_conformance.faults.proxy import TO_CLIENT, TO_SERVER, Direction, Proxy
from anybroker_conformance.faults.route import NoRoute, route, upstream
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

PROMPT = 30.0
"""Seconds within which a call must have noticed that nobody answers."""
RETURN = 30.0
"""Seconds within which calls must work again once the server is back."""
CUTS = 5
"""Places in each direction at which the connection is cut."""
VERBS = ("store", "fetch", "wait", "forget", "join", "seal", "claim", "release")


class Reconnects:
    """Law 11."""

    def test_law11_reconnects__refused(self, realtime_results: BackendSubject) -> None:
        """Nobody listens for a while: every verb says so, in time, and the same object works again afterwards."""
        results = realtime_results
        with _proxied(results) as (proxy, backend):
            kept = _Kept(results, backend)
            for reset in (False, True):
                proxy.refuse(reset=reset)
                _assert_unavailable(results, backend)
                proxy.accept()
                assert proxy.fired, "the proxy has refused nothing"
                kept.assert_there(backend)

    def test_law11_reconnects__a_waiter(self, realtime_results: BackendSubject) -> None:
        """Who waits while the connection ends finds the result, or is told; it does not sleep on."""
        results = realtime_results
        with _proxied(results) as (proxy, backend):
            for reset in (False, True):
                final = results.result(b"stored while there was no connection")
                waiting = Running(lambda: backend.wait([final.id], timeout=20), "a wait whose connection was cut")  # noqa: B023
                time.sleep(0.2)
                proxy.cut_now(reset=reset)
                results.put(final)
                try:
                    found = waiting.result(results.capabilities.wake_bound + 10 + PATIENCE, key=final.id)
                except BrokerUnavailable:
                    found = _again(lambda: backend.wait([final.id], timeout=1))  # noqa: B023
                if found != [final]:
                    raise LawBroken(f"wait returned {found} after its connection was cut", final.id)

    @pytest.mark.parametrize("verb", VERBS)
    def test_law11_reconnects__cut_within(self, realtime_results: BackendSubject, verb: str) -> None:
        """The connection ends before, within or after the request or the reply: done or not done, never half."""
        results = realtime_results
        with _proxied(results) as (proxy, backend):
            places = _places(results, proxy, backend, verb)
            fired = 0
            for direction, after, reset in places:
                use = _Use(results, backend)
                use.prepare(verb)
                proxy.cut(direction, after, reset=reset)
                try:
                    answer = Running(getattr(use, verb), f"{verb} whose connection was cut").result(PROMPT)
                except BrokerUnavailable:
                    answer = None
                except LawBroken:
                    raise
                except Exception as error:
                    raise LawBroken(f"{verb} raised {error!r} when its connection was cut", use.result.id) from error
                fired += proxy.fired
                proxy.mark()
                use.check(verb, answer)
            assert fired > len(places) / 2, f"of {len(places)} cuts {fired} were made"

    def test_law11_reconnects__stalled(self, realtime_results: BackendSubject) -> None:
        """Nothing passes for a while, with the connection open: calls are late, or say that they cannot."""
        results = realtime_results
        with _proxied(results) as (proxy, backend):
            kept = _Kept(results, backend)
            proxy.stall()
            uses = [_Use(results, backend) for _ in VERBS]
            running = [
                Running(getattr(use, verb), verb) for use, verb in zip(uses, VERBS, strict=True) if verb != "release"
            ]
            time.sleep(1)
            assert proxy.fired, "nothing wanted to pass the proxy"
            proxy.flow()
            for one in running:
                try:
                    one.result(PROMPT)
                except BrokerUnavailable:
                    continue
            kept.assert_there(backend)

    @pytest.mark.parametrize("by", ["KILL", "TERM"])
    def test_law11_reconnects__the_server_restarts(self, realtime_results: BackendSubject, by: str) -> None:
        results = realtime_results
        server = results.suite.server
        if server is None:
            results.untested("a restart: the suite has no `server` that it may stop and start")
        backend = results.backend
        kept = _Kept(results, backend)
        never = results.id("never")
        waiting = Running(lambda: backend.wait([never], timeout=5), "a wait while the server went")
        if by == "KILL":
            server.kill()
        else:
            server.stop()
        try:
            _assert_unavailable(results, backend)
        finally:
            server.start()
        try:
            found = waiting.result(PROMPT + 5)
        except BrokerUnavailable:
            found = []
        if found:
            raise LawBroken(f"wait returned {found} when the server went", never)
        if results.capabilities.durability is Durability.PROCESS:
            _again(lambda: backend.fetch([never]))
            results.put(results.result(b"after the restart"), backend=backend)
        else:
            kept.assert_there(backend)


class _Kept:
    """What was there before the server went."""

    def __init__(self, results: BackendSubject, backend: RecordedBackend) -> None:
        self._results = results
        self._stored = [results.result(b"%d" % n, state=state) for n, state in enumerate(State)]
        results.put(*self._stored, backend=backend)
        self._key, self._group = results.id("lock"), results.id("group")
        self._token = results.claim(self._key, why="nobody holds it", backend=backend)
        backend.join(self._group, "a", size=2)

    def assert_there(self, backend: RecordedBackend) -> None:
        """All of it is there when the same object works again, and it is by itself that it does."""
        _again(lambda: backend.fetch([self._stored[0].id]))
        self._results.assert_there(self._stored, why="it was stored before the server went", backend=backend)
        self._results.assert_held(self._key, why="it was claimed before the server went", backend=backend)
        if backend.join(self._group, "a", size=2):
            raise LawBroken("a group of two is complete although only one member has joined, again", self._group)


class _Use(msgspec.Struct):
    """One call of each verb, and what may have come of it."""

    results: Any
    backend: Any
    result: Result = Result("", State.RUNNING, 1)
    token: str = ""

    def __post_init__(self) -> None:
        self.result = self.results.result(b"new" * 50)

    @property
    def id(self) -> str:
        return self.result.id

    def prepare(self, verb: str) -> None:
        """What must be there before the call."""
        old = Result(self.id, State.RUNNING if verb == "store" else State.SUCCEEDED, 1, b"old" * 50)
        if verb in {"store", "fetch", "wait", "forget"}:
            self.results.put(old, backend=self.backend)
        if verb == "release":
            self.token = self.results.claim(self.id, why="nobody holds it", backend=self.backend)
        if verb in {"join", "seal"}:
            self.backend.join(self.id, "a", size=2)

    def store(self) -> Any:
        return self.backend.store([self.result], ttl=KEPT)

    def fetch(self) -> Any:
        return self.backend.fetch([self.id])

    def wait(self) -> Any:
        return self.backend.wait([self.id], timeout=2)

    def forget(self) -> Any:
        self.backend.forget([self.id])
        return True

    def join(self) -> Any:
        return self.backend.join(self.id, "b", size=2)

    def seal(self) -> Any:
        self.backend.seal(self.id)
        return True

    def claim(self) -> Any:
        return self.backend.claim(self.id, ttl=KEPT)

    def release(self) -> Any:
        return self.backend.release(self.id, self.token)

    def check(self, verb: str, answer: Any) -> None:  # noqa: C901 (one per verb)
        """What the call said is true, and where it said nothing it has happened, or it has not. None: it raised."""
        old = Result(self.id, State.SUCCEEDED, 1, b"old" * 50)
        if verb == "store":
            self._check_store(answer)
        elif verb == "fetch":
            self._expect(answer is None or answer == [old], f"fetch answered {answer}")
            self._expect(_again(self.fetch) == [old], "a result is lost that was only fetched")
        elif verb == "wait":
            self._expect(answer is None or answer == [old], f"wait answered {answer}")
            self._expect(_again(self.wait) == [old], "a result is lost that was only waited for")
        elif verb == "forget":
            if answer is None:
                _again(self.forget)
            self._expect(_again(self.fetch) == [None], "a forgotten result is there")
        elif verb == "join":
            self._expect(answer in {None, True}, "join of the last member answered False")
            self._expect(_again(self.join) is True, "join of the last member, repeated, answered False")
            self._expect(self.backend.join(self.id, "a", size=3) is False, "a member that was repeated counts twice")
        elif verb == "seal":
            if answer is None:
                _again(self.seal)
            self._expect(_again(self.join) is False, "a group is not sealed")
        elif verb == "claim":
            self._check_claim(answer)
        else:
            self._expect(answer in {None, True}, "release answered False to the holder's token")
            if answer is None:
                _again(self.release)
            self._expect(_again(self.claim) is not None, "a lock is held although it was released")

    def _check_store(self, answer: list[bool] | None) -> None:
        [found] = _again(self.fetch)
        self._expect(answer != [False], "store answered False although nothing forbids it")
        self._expect(answer is None or found == self.result, f"store answered True, and there is {shown(found)}")
        old = Result(self.id, State.RUNNING, 1, b"old" * 50)
        self._expect(found in (old, self.result), f"there is {shown(found)}, which nobody has stored")
        _again(self.store)
        self._expect(
            self.backend.fetch([self.id]) == [self.result], "a result is not there although it was stored again"
        )

    def _check_claim(self, token: str | None) -> None:
        """The lock may be held by a token that nobody has heard of; then its ttl ends it."""
        if token is None:
            token = _again(self.claim)
        if token is not None:
            self._expect(_again(self.claim) is None, "two have claimed a lock")
            self._expect(self.backend.release(self.id, token), "release answered False to the holder's token")

    def _expect(self, right: object, text: str) -> None:
        if not right:
            raise LawBroken(f"{text}, since its connection was cut", self.id)


@contextmanager
def _proxied(results: BackendSubject) -> Iterator[tuple[Proxy, RecordedBackend]]:
    """An object whose connections pass a proxy, beside the one of the subject, whose connections do not."""
    url = results.suite.url
    try:
        host, port = upstream(url)
    except NoRoute as why:
        results.untested(f"a cut connection: {why}")
    assert url is not None
    with Proxy(host, port) as proxy:
        suite = type(results.suite)()
        suite.namespace = results.namespace
        try:
            suite.__dict__["url"] = route(url, proxy.host, proxy.port)
        except NoRoute as why:
            results.untested(f"a cut connection: {why}")
        _ = results.backend
        backend = results.adopt(suite.connect())
        backend.fetch([results.id()])
        if not proxy.count(TO_SERVER):
            results.untested("a cut connection: what connect() makes does not go where `url` says")
        yield proxy, backend


def _places(
    results: BackendSubject, proxy: Proxy, backend: RecordedBackend, verb: str
) -> list[tuple[Direction, int, bool]]:
    """Where to cut: learnt from a call that nothing happened to."""
    use = _Use(results, backend)
    use.prepare(verb)
    proxy.mark()
    getattr(use, verb)()
    found: list[tuple[Direction, int, bool]] = []
    directions: tuple[Direction, ...] = (TO_SERVER, TO_CLIENT)
    for direction in directions:
        ends = [chunk.end for chunk in proxy.chunks if chunk.direction == direction]
        total = max(ends, default=0)
        places = sorted({0, 1, total // 2, total - 1, total, *(end + more for end in ends for more in (-1, 0, 1))})
        places = [one for one in places if 0 <= one <= total]
        step = max(1, len(places) // CUTS)
        found.extend((direction, one, number % 2 == 1) for number, one in enumerate(places[::step]))
    return found


def _assert_unavailable(results: BackendSubject, backend: RecordedBackend) -> None:
    """Every verb raises ``BrokerUnavailable``, and nothing else, in time."""
    use = _Use(results, backend, token="of nobody")  # noqa: S106 (of a lock)
    started = time.monotonic()
    running = {verb: Running(getattr(use, verb), f"{verb} while the server is away") for verb in VERBS}
    for verb, one in running.items():
        try:
            answer = one.result(max(0.1, started + PROMPT - time.monotonic()), key=use.id)
        except BrokerUnavailable:
            continue
        except LawBroken:
            raise
        except Exception as error:
            raise LawBroken(
                f"{verb} raised {error!r} while the server was away, not BrokerUnavailable", use.id
            ) from error
        raise LawBroken(f"{verb} answered {answer!r} while the server was away", use.id)


def _again(act: Callable[[], Any]) -> Any:
    """Repeat a call until the server is found again."""
    deadline = time.monotonic() + RETURN
    while True:
        try:
            return act()
        except BrokerUnavailable as error:
            if time.monotonic() > deadline:
                raise LawBroken(f"{RETURN:g} s after the server came back, calls still raise {error!r}") from error
            time.sleep(0.05)
