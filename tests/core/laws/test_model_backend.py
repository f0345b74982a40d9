"""All verbs of a backend in any order against a model: dictionaries of (value, end)."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from anybroker.backend import Result, State
from anybroker.clock import ManualClock
from anybroker.loading import load_backend
from anybroker.memory import MemoryBackend

if TYPE_CHECKING:
    from anybroker.backend import ResultBackend

pytestmark = pytest.mark.slow


FOREVER = float("inf")
KEYS = st.sampled_from(["a", "b", "🦊"])
MEMBERS = st.sampled_from(["1", "2", "3"])
RESULTS = st.builds(Result, KEYS, st.sampled_from(State), st.integers(1, 3), st.binary(max_size=3))
TTLS = st.sampled_from([10.0, 60.0, 3600.0])


class BackendMachine(RuleBasedStateMachine):
    """The memory backend, by a manual clock: every answer is the model's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(datetime.now(UTC))
        self.backend = self.open()
        self.results: dict[str, tuple[Result, float]] = {}
        self.members: dict[str, set[str]] = {}
        self.sealed: set[str] = set()
        self.claims: dict[str, tuple[str, float]] = {}
        self.tokens: list[str] = ["made up"]

    def open(self) -> ResultBackend:
        return MemoryBackend(clock=self.clock)

    def teardown(self) -> None:
        self.backend.close()

    def live(self, items: dict[str, tuple[Any, float]], key: str) -> Any:
        value, end = items.get(key, (None, FOREVER))
        return value if end > self.clock.time() else None

    @rule(results=st.lists(RESULTS, max_size=3), ttl=st.none() | TTLS)
    def store(self, results: list[Result], ttl: float | None) -> None:
        answers = self.backend.store(results, ttl=ttl)
        for result, answer in zip(results, answers, strict=True):
            stored = self.live(self.results, result.id)
            wins = stored is None or result.replaces(stored)
            assert answer == wins
            if wins:
                self.results[result.id] = result, FOREVER if ttl is None else self.clock.time() + ttl

    @rule(ids=st.lists(KEYS, max_size=4))
    def fetch(self, ids: list[str]) -> None:
        assert self.backend.fetch(ids) == [self.live(self.results, id_) for id_ in ids]

    @rule(ids=st.lists(KEYS, min_size=1, max_size=3, unique=True))
    def wait(self, ids: list[str]) -> None:
        stored = [self.live(self.results, id_) for id_ in ids]
        final = [one for one in stored if one is not None and one.state.final]
        assert sorted(self.backend.wait(ids, timeout=0), key=lambda one: one.id) == sorted(
            final, key=lambda one: one.id
        )

    @rule(ids=st.lists(KEYS, max_size=2))
    def forget(self, ids: list[str]) -> None:
        self.backend.forget(ids)
        for id_ in ids:
            self.results.pop(id_, None)

    @rule(group=KEYS, member=MEMBERS)
    def join(self, group: str, member: str) -> None:
        members = self.members.setdefault(group, set())
        members.add(member)
        complete = len(members) == 3 and group not in self.sealed
        assert self.backend.join(group, member, size=3) == complete

    @rule(group=KEYS)
    def seal(self, group: str) -> None:
        self.backend.seal(group)
        self.sealed.add(group)

    @rule(key=KEYS, ttl=TTLS)
    def claim(self, key: str, ttl: float) -> None:
        token = self.backend.claim(key, ttl=ttl)
        assert (token is None) == (self.live(self.claims, key) is not None)
        if token is not None:
            assert token not in self.tokens, "a token that was given before fences nothing"
            self.tokens.append(token)
            self.claims[key] = token, self.clock.time() + ttl

    @rule(key=KEYS, data=st.data())
    def release(self, key: str, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        held = self.live(self.claims, key) == token
        assert self.backend.release(key, token) == held
        if held:
            del self.claims[key]

    @rule(seconds=st.sampled_from([1.0, 11.0, 61.0, 3601.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class SqliteMachine(BackendMachine):
    """The same on SQLite, in real time: every ttl is longer than the test, and time does not leap."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        super().__init__()

    def open(self) -> ResultBackend:
        return load_backend(f"sqlite:///{self.directory.name}/model.db")

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()

    def advance(self, seconds: float) -> None:  # no rule here
        raise NotImplementedError


BackendMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
SqliteMachine.TestCase.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMemoryBackend = BackendMachine.TestCase
TestSqliteBackend = SqliteMachine.TestCase
