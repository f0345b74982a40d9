"""A result backend that writes down what is done with it, and the timeline of one result, group or lock."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.backend import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.backend import ResultBackend
    from anybroker.capabilities import BackendCapabilities

TIMELINE = 40
"""Lines of a timeline at most; what is left out is said."""


class BackendCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a backend. Times are seconds: of a clock that no test moves, and of the one that judges every ttl."""

    process: int
    client: str
    """Which object: a name such as ``backend 2``."""
    verb: str
    keys: tuple[str, ...]
    """The results, the group or the lock that it is about."""
    asked: tuple[str, ...]
    """In words, for each key."""
    answers: tuple[str, ...] | None
    """In words, for each key; None where the call answers for all of them at once."""
    answer: str
    began: float
    began_at: float
    ended: float | None
    """None: it has not returned."""

    def said(self, key: str) -> list[str]:
        """In words, everything that the call asked and was told about one key."""
        found = [number for number, one in enumerate(self.keys) if one == key]
        if self.answers is None:
            return [f"{self.verb} {self.asked[found[0]]} -> {self.answer}"]
        return [f"{self.verb} {self.asked[number]} -> {self.answers[number]}" for number in found]


class BackendJournal:
    """Where calls are written down. Thread-safe. Calls are kept as they came and put into words when asked for."""

    def __init__(self) -> None:
        self._pending: list[Callable[[], BackendCall]] = []
        self._lock = threading.Lock()
        self.kept: set[str] = set()
        """Ids of results that were stored, for whoever cleans up."""

    def add(self, call: Callable[[], BackendCall]) -> None:
        """Write a call down."""
        with self._lock:
            self._pending.append(call)

    def calls(self) -> list[BackendCall]:
        """All calls so far, in the order in which they began."""
        with self._lock:
            pending = list(self._pending)
        return sorted((one() for one in pending), key=lambda call: call.began)

    def timeline(self, key: str) -> list[str]:
        """What was done with one result, group or lock, a line for each call, the last ones where they are many."""
        calls = [call for call in self.calls() if key in call.keys]
        if not calls:
            return []
        start, start_at = calls[0].began, calls[0].began_at
        lines = []
        for call in calls:
            leapt = call.began_at - start_at
            passed = leapt if abs(leapt - (call.began - start)) > 1 else call.began - start
            lines += [f"{passed:+11.3f} s  {call.client:<12} {said}" for said in call.said(key)]
        left_out = len(lines) - TIMELINE
        return lines if left_out <= 0 else [f"({left_out} calls before)", *lines[-TIMELINE:]]


class WrongAnswer(AssertionError):
    """A backend's method returned what its protocol does not allow."""


class RecordedBackend:
    """A backend that does what another one does, writes it down, and checks the types of what is returned."""

    def __init__(
        self, backend: ResultBackend, journal: BackendJournal, client: str, now: Callable[[], float] = time.time
    ) -> None:
        self.recorded = backend
        """The backend itself."""
        self.client = client
        self._journal = journal
        self._now = now

    @property
    def capabilities(self) -> BackendCapabilities:
        """Those of the backend."""
        return self.recorded.capabilities

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """See ``ResultBackend.store``."""
        kept = tuple(results)
        self._journal.kept.update(one.id for one in kept)
        answer = self._call(
            "store",
            lambda: tuple(one.id for one in kept),
            lambda: tuple(f"{_shown(one)}, {_lasting(ttl)}" for one in kept),
            lambda: self.recorded.store(results, ttl=ttl),
            each=True,
        )
        right = isinstance(answer, list) and len(answer) == len(kept) and all(type(one) is bool for one in answer)
        _expect(right, "store", answer, f"a list of {len(kept)} bools")
        return answer  # type: ignore[no-any-return]

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """See ``ResultBackend.fetch``."""
        answer = self._about(ids, "fetch", "", lambda: self.recorded.fetch(ids), each=True)
        right = isinstance(answer, list) and len(answer) == len(ids)
        right = right and all(one is None or isinstance(one, Result) for one in answer)
        _expect(right, "fetch", answer, f"a list of {len(ids)} results or None")
        return answer  # type: ignore[no-any-return]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """See ``ResultBackend.wait``."""
        asked = f"for at most {timeout:g} s"
        answer = self._about(ids, "wait", asked, lambda: self.recorded.wait(ids, timeout=timeout))
        right = isinstance(answer, list) and all(isinstance(one, Result) for one in answer)
        _expect(right, "wait", answer, "a list of results")
        return answer  # type: ignore[no-any-return]

    def forget(self, ids: Sequence[str]) -> None:
        """See ``ResultBackend.forget``."""
        answer = self._about(ids, "forget", "", lambda: self.recorded.forget(ids))
        _expect(answer is None, "forget", answer, "None")

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """See ``ResultBackend.join``."""
        asked = f"member {member_id!r}, size {size}"
        answer = self._about([group_id], "join", asked, lambda: self.recorded.join(group_id, member_id, size=size))
        _expect(type(answer) is bool, "join", answer, "a bool")
        return answer  # type: ignore[no-any-return]

    def seal(self, group_id: str) -> None:
        """See ``ResultBackend.seal``."""
        answer = self._about([group_id], "seal", "", lambda: self.recorded.seal(group_id))
        _expect(answer is None, "seal", answer, "None")

    def claim(self, key: str, *, ttl: float) -> str | None:
        """See ``ResultBackend.claim``."""
        answer = self._about([key], "claim", _lasting(ttl), lambda: self.recorded.claim(key, ttl=ttl))
        _expect(answer is None or (type(answer) is str and answer != ""), "claim", answer, "a token or None")
        return answer  # type: ignore[no-any-return]

    def release(self, key: str, token: str) -> bool:
        """See ``ResultBackend.release``."""
        asked = f"with token {token!r}"
        answer = self._about([key], "release", asked, lambda: self.recorded.release(key, token))
        _expect(type(answer) is bool, "release", answer, "a bool")
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """See ``ResultBackend.close``."""
        answer: object = self.recorded.close()  # type: ignore[func-returns-value]  # a wrong one may
        _expect(answer is None, "close", answer, "None")

    def _about(self, keys: Sequence[str], verb: str, asked: str, act: Callable[[], Any], *, each: bool = False) -> Any:
        named = tuple(keys)
        return self._call(verb, lambda: named, lambda: (asked,) * len(named), act, each=each)

    def _call(
        self,
        verb: str,
        keys: Callable[[], tuple[str, ...]],
        asked: Callable[[], tuple[str, ...]],
        act: Callable[[], Any],
        *,
        each: bool = False,
    ) -> Any:
        pending = _Pending(self.client, verb, keys, asked, time.monotonic(), self._now(), each=each)
        self._journal.add(pending.call)
        try:
            pending.answer = act()
            pending.raised = None
        except BaseException as error:
            pending.raised = f"raised {type(error).__name__}: {error}"
            raise
        finally:
            pending.ended = time.monotonic()
        return pending.answer


class _Pending:
    """A call from its beginning on. What it was about and what came of it is put into words when asked for."""

    def __init__(
        self,
        client: str,
        verb: str,
        keys: Callable[[], tuple[str, ...]],
        asked: Callable[[], tuple[str, ...]],
        began: float,
        began_at: float,
        *,
        each: bool,
    ) -> None:
        self.answer: Any = None
        self.raised: str | None = "(has not returned)"
        self.ended: float | None = None
        self._client, self._verb, self._keys, self._asked = client, verb, keys, asked
        self._began, self._began_at, self._each = began, began_at, each

    def call(self) -> BackendCall:
        keys = self._keys()
        each = self._each and self.raised is None and isinstance(self.answer, list) and len(self.answer) == len(keys)
        return BackendCall(
            process=os.getpid(),
            client=self._client,
            verb=self._verb,
            keys=keys,
            asked=self._asked(),
            answers=tuple(map(_shown, self.answer)) if each else None,
            answer=self.raised or _shown(self.answer),
            began=self._began,
            began_at=self._began_at,
            ended=self.ended,
        )


def _shown(value: object) -> str:
    if isinstance(value, Result):
        body = repr(value.body) if len(value.body) <= 24 else f"{len(value.body):,} bytes"
        return f"{value.state.value}, attempt {value.attempt}, {body}"
    if isinstance(value, list):
        return f"[{'; '.join(f'{one.id}: {_shown(one)}' for one in value[:5] if isinstance(one, Result))}]"
    return repr(value)


def _lasting(ttl: float | None) -> str:
    return "for ever" if ttl is None else f"for {ttl:g} s"


def _expect(right: bool, verb: str, answer: object, expected: str) -> None:  # noqa: FBT001 (what is expected, in words)
    if not right:
        raise WrongAnswer(f"{verb} returned {answer!r:.200}; expected {expected}")
