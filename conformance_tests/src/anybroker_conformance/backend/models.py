"""Random calls of a result backend against models: dictionaries that do by the letter what the contract says.

A failing sequence is shrunk, and found again by its seed. Each has ids of its own, so that its timeline is short.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from anybroker.backend import Result, State
from anybroker_conformance.backend.subject import KEPT, shown
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.backend.subject import BackendSubject

T = TypeVar("T")
FOREVER = float("inf")
KEYS = st.sampled_from(["a", "b", "A", "🦊"])
MEMBERS = st.sampled_from(["1", "2", "3", "4"])
SIZE = 3
TTLS = st.sampled_from([10.0, 60.0, 3600.0])
STEPS = st.sampled_from([1.0, 9.5, 11.0, 61.0, 3601.0])
OBJECTS = st.integers(0, 1)


class Lasting(msgspec.Struct, Generic[T]):
    """A value and when it ends."""

    value: T
    end: float


class Model(RuleBasedStateMachine):
    """What all models share: the objects under test, ids of their own, and the time."""

    subject: BackendSubject
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"{self.subject.namespace}.model{next(self.numbers)}."
        self.objects = self.subject.objects(2) if len(self.subject.opened) < 2 else self.subject.opened[:2]

    def key(self, name: str) -> str:
        return self.prefix + name

    @rule(seconds=STEPS)
    def advance(self, seconds: float) -> None:
        """Time passes where it may leap; elsewhere every ttl is longer than the test."""
        if self.subject.clock:
            self.subject.clock.advance(seconds)

    def ttl(self, wanted: float) -> float:
        return wanted if self.subject.clock else KEPT

    def live(self, items: dict[str, Lasting[Any]], key: str) -> Any:
        """The value of a key; what has ended is taken away."""
        found = items.get(key)
        if found is None or found.end <= self.subject.time():
            items.pop(key, None)
            return None
        return found.value

    def settle_time(self, ends: list[float]) -> None:
        """Leap over the moment in which something has ended but may still be seen, as declared."""
        precision = self.subject.capabilities.ttl_precision
        while self.subject.clock:
            now = self.subject.time()
            pending = [end + precision + 0.01 - now for end in ends if end <= now <= end + precision]
            if not pending:
                return
            self.subject.clock.advance(max(pending))

    @staticmethod
    def expect(actual: object, expected: object, what: str, key: str) -> None:
        if actual != expected:
            raise LawBroken(f"{what} answered {_worded(actual)}; by the contract it is {_worded(expected)}", key)


class ResultsModel(Model):
    """``store``, ``fetch``, ``wait`` and ``forget``."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Lasting[Result]] = {}

    def now(self, key: str) -> Result | None:
        self.settle_time([one.end for one in self.results.values()])
        found: Result | None = self.live(self.results, key)
        return found

    @rule(
        stored=st.lists(st.tuples(KEYS, st.sampled_from(State), st.integers(1, 3), st.binary(max_size=3)), max_size=4),
        ttl=st.none() | TTLS,
        by=OBJECTS,
    )
    def store(self, stored: list[tuple[str, State, int, bytes]], ttl: float | None, by: int) -> None:
        batch = [Result(self.key(name), state, attempt, body) for name, state, attempt, body in stored]
        for one in batch:
            self.now(one.id)
        lasting = None if ttl is None else self.ttl(ttl)
        end = FOREVER if lasting is None else self.subject.time() + lasting
        answers = self.objects[by].store(batch, ttl=lasting)
        for result, answer in zip(batch, answers, strict=True):
            there = self.now(result.id)
            wins = there is None or result.replaces(there)
            self.expect(answer, wins, f"store of {shown(result)} where {shown(there)} was", result.id)
            if wins:
                self.results[result.id] = Lasting(result, end)

    @rule(names=st.lists(KEYS, max_size=5), by=OBJECTS)
    def fetch(self, names: list[str], by: int) -> None:
        ids = [self.key(name) for name in names]
        expected = [self.now(id_) for id_ in ids]
        for id_, found, wanted in zip(ids, self.objects[by].fetch(ids), expected, strict=True):
            self.expect(found, wanted, "fetch", id_)

    @rule(names=st.lists(KEYS, min_size=1, max_size=4, unique=True), by=OBJECTS)
    def wait(self, names: list[str], by: int) -> None:
        wanted = {id_: one for name in names if (one := self.now(id_ := self.key(name))) and one.state.final}
        found = self.objects[by].wait([self.key(name) for name in names], timeout=0)
        for one in found:
            self.expect(one, wanted.get(one.id), "wait", one.id)
        for id_ in wanted.keys() - {one.id for one in found}:
            raise LawBroken(f"wait did not find {shown(wanted[id_])}", id_)

    @rule(names=st.lists(KEYS, max_size=2), by=OBJECTS)
    def forget(self, names: list[str], by: int) -> None:
        self.objects[by].forget([self.key(name) for name in names])
        for name in names:
            self.results.pop(self.key(name), None)


class GroupsModel(Model):
    """``join`` and ``seal``."""

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[str, set[str]] = {}
        self.sealed: set[str] = set()

    @rule(name=KEYS, member=MEMBERS, by=OBJECTS)
    def join(self, name: str, member: str, by: int) -> None:
        group = self.key(name)
        members = self.members.setdefault(group, set())
        if member in members and not self.subject.capabilities.exact_join:
            return  # a repeated member may be counted again
        members.add(member)
        complete = len(members) >= SIZE and group not in self.sealed
        self.expect(self.objects[by].join(group, member, size=SIZE), complete, "join", group)

    @rule(name=KEYS, by=OBJECTS)
    def seal(self, name: str, by: int) -> None:
        self.objects[by].seal(self.key(name))
        self.sealed.add(self.key(name))


class LocksModel(Model):
    """``claim`` and ``release``."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[str, Lasting[str]] = {}
        self.tokens: list[tuple[str, str]] = [("", "made up")]

    def holder(self, key: str) -> str | None:
        self.settle_time([one.end for one in self.claims.values()])
        found: str | None = self.live(self.claims, key)
        return found

    @rule(name=KEYS, ttl=TTLS, by=OBJECTS)
    def claim(self, name: str, ttl: float, by: int) -> None:
        key = self.key(name)
        held = self.holder(key) is not None
        token = self.objects[by].claim(key, ttl=self.ttl(ttl))
        self.expect("None" if token is None else "a token", "None" if held else "a token", "claim", key)
        if token is not None:
            if (key, token) in self.tokens:
                raise LawBroken("claim gave a token that was given before: it fences nothing", key)
            self.tokens.append((key, token))
            self.claims[key] = Lasting(token, self.subject.time() + self.ttl(ttl))

    @rule(name=KEYS, data=st.data(), by=OBJECTS)
    def release(self, name: str, data: st.DataObject, by: int) -> None:
        key = self.key(name)
        _, token = data.draw(st.sampled_from(self.tokens[-6:]))
        held = self.holder(key) == token
        self.expect(self.objects[by].release(key, token), held, f"release with token {token!r}", key)
        if held:
            del self.claims[key]


def check_model(model: type[Model], subject: BackendSubject) -> None:
    """Run random sequences of calls, each of whose answers must be the model's."""
    leaping = subject.clock is not None
    machine: Any = type(model.__name__, (model,), {"subject": subject})
    chosen = settings(
        max_examples=40 if leaping else 20,
        stateful_step_count=40 if leaping else 30,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    run_state_machine_as_test(seed(subject.suite.seed)(machine), settings=chosen)


def _worded(value: object) -> str:
    return shown(value) if value is None or isinstance(value, Result) else str(value)
