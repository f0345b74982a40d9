"""All verbs in any order against a model of twenty lines: lists, sorted when needed."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from anybroker.broker import Delivery, Message
from anybroker.clock import ManualClock
from anybroker.loading import load_broker
from anybroker.memory import MemoryBroker

if TYPE_CHECKING:
    from tests.core.laws.conftest import FullBroker

pytestmark = pytest.mark.slow


QUEUES = ["a", "b", "a.dead"]
IDS = [f"m{n}" for n in range(8)]
LEASES = st.sampled_from([10.0, 60.0, 3600.0])
DELAYS = st.sampled_from([None, None, None, timedelta(0), timedelta(seconds=90), timedelta(days=30)])
MESSAGES = st.tuples(
    st.sampled_from(IDS),
    st.sampled_from(QUEUES),
    st.binary(max_size=3),
    st.none(),
    st.sampled_from([0, 0, 0, 1, 7, -1, -(2**31)]),
    st.sampled_from([None, None, "k", "l"]),
).map(lambda fields: Message(*fields))
DATED = st.tuples(MESSAGES, DELAYS)
"""A message, and in how long it is due."""


@dataclass
class Stored:
    """What the model knows of a message."""

    message: Message
    seq: int
    held_until: float | None = None
    token: object = None
    deliveries: int = 0

    def due(self, now: float) -> bool:
        return self.message.eta is None or self.message.eta.timestamp() <= now

    def leased(self, now: float) -> bool:
        return self.held_until is not None and self.held_until > now


class Model:
    """A broker as simple as can be: every question looks at every message."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.seq = 0

    def arrive(self, message: Message) -> None:
        self.seq += 1
        self.stored[message.id] = Stored(message, self.seq)

    def replace(self, old: Stored, message: Message) -> None:
        """A message that stays in its queue, and in the line of its ordering key, keeps its place."""
        key = message.queue, message.ordering_key
        if key == (old.message.queue, old.message.ordering_key):
            self.stored[message.id] = Stored(message, old.seq)
        else:
            self.arrive(message)

    def of(self, queue: str) -> list[Stored]:
        """The messages of a queue in the order of delivery."""
        return sorted(
            (one for one in self.stored.values() if one.message.queue == queue),
            key=lambda one: (-one.message.priority, one.seq),
        )

    def blocked(self, one: Stored) -> bool:
        key = one.message.ordering_key
        return key is not None and any(
            other.seq < one.seq for other in self.of(one.message.queue) if other.message.ordering_key == key
        )

    def deliverable(self, queue: str, now: float) -> list[Stored]:
        return [one for one in self.of(queue) if one.due(now) and not one.leased(now) and not self.blocked(one)]

    def holder(self, delivery: Delivery) -> Stored | None:
        """What a delivery still holds: until it is settled or delivered again, whatever its time."""
        one = self.stored.get(delivery.message.id)
        return one if one is not None and one.token is not None and one.token == delivery.token else None


class BrokerMachine(RuleBasedStateMachine):
    """The memory broker, by a manual clock: every answer is the model's answer."""

    deliveries: Bundle[Delivery] = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.clock = ManualClock(datetime.now(UTC))
        self.name = uuid.uuid4().hex
        self.broker = self.open()

    def open(self) -> FullBroker:
        return MemoryBroker(name=self.name, clock=self.clock)

    def teardown(self) -> None:
        self.broker.close()

    def now(self) -> float:
        return self.clock.time()

    @rule(messages=st.lists(DATED, min_size=1, max_size=6))
    def enqueue(self, messages: list[tuple[Message, timedelta | None]]) -> None:
        dated = [self.dated(message, delay) for message, delay in messages]
        self.broker.enqueue(dated)
        for message in dated:
            if message.id not in self.model.stored:
                self.model.arrive(message)

    @initialize(messages=st.lists(DATED, min_size=6, max_size=12))
    def fill(self, messages: list[tuple[Message, timedelta | None]]) -> None:
        self.enqueue(messages)

    @rule(target=deliveries, queues=st.permutations(QUEUES), limit=st.integers(1, 4), lease=LEASES)
    def acquire(self, queues: list[str], limit: int, lease: float) -> MultipleResults[Delivery]:
        taken = self.broker.acquire(queues, limit=limit, wait=0, lease=lease)
        expected = [one for queue in queues for one in self.model.deliverable(queue, self.now())][:limit]
        assert [one.message for one in taken] == [one.message for one in expected]
        for delivery, stored in zip(taken, expected, strict=True):
            stored.deliveries += 1
            assert delivery.delivery_count == stored.deliveries
            stored.token, stored.held_until = delivery.token, self.now() + lease
        return multiple(*taken)

    @rule(held=st.lists(deliveries, min_size=1, max_size=3))
    def ack(self, held: list[Delivery]) -> None:
        answers = self.broker.ack(held)
        for delivery, answer in zip(held, answers, strict=True):
            stored = self.model.holder(delivery)
            assert answer == (stored is not None)
            if stored:
                del self.model.stored[stored.message.id]

    @rule(held=st.lists(deliveries, min_size=1, max_size=2), version=DATED, stay=st.booleans())
    def update(self, held: list[Delivery], version: tuple[Message, timedelta | None], stay: bool) -> None:
        template = self.dated(*version)
        changes = []
        for delivery in held:
            fields: dict[str, Any] = {"id": delivery.message.id}
            if stay:
                fields |= {"queue": delivery.message.queue, "ordering_key": delivery.message.ordering_key}
            changes.append((delivery, msgspec.structs.replace(template, **fields)))
        answers = self.broker.update(changes)
        for (delivery, message), answer in zip(changes, answers, strict=True):
            stored = self.model.holder(delivery)
            assert answer == (stored is not None)
            if stored:
                self.model.replace(stored, message)

    @rule(held=st.lists(deliveries, min_size=1, max_size=3), lease=LEASES)
    def extend(self, held: list[Delivery], lease: float) -> None:
        answers = self.broker.extend(held, lease=lease)
        for delivery, answer in zip(held, answers, strict=True):
            stored = self.model.holder(delivery)
            assert answer == (stored is not None)
            if stored:
                stored.held_until = self.now() + lease

    @rule()
    def close(self) -> None:
        self.broker.close()
        for stored in self.model.stored.values():
            stored.token = stored.held_until = None
        leaver, self.broker = self.broker, self.open()
        leaver.close()

    @rule(queue=st.sampled_from(QUEUES), ids=st.lists(st.sampled_from(IDS), max_size=3))
    def remove(self, queue: str, ids: list[str]) -> None:
        for id_, answer in zip(ids, self.broker.remove(queue, ids), strict=True):
            stored = self.model.stored.get(id_)
            free = stored is not None and stored.message.queue == queue and not stored.leased(self.now())
            assert answer == free
            if free:
                del self.model.stored[id_]

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        free = [one.message.id for one in self.model.of(queue) if not one.leased(self.now())]
        assert self.broker.purge(queue) == len(free)
        for id_ in free:
            del self.model.stored[id_]

    @rule(seconds=st.sampled_from([0.000001, 4.0, 11.0, 61.0, 3601.0, 31 * 86400.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def looks_the_same(self) -> None:
        names = sorted({one.message.queue for one in self.model.stored.values()})
        assert self.broker.queues() == names
        for queue in QUEUES:
            stored = self.model.of(queue)
            assert self.broker.peek(queue, limit=100) == [one.message for one in stored]
            stats = self.broker.stats(queue)
            leased = sum(one.leased(self.now()) for one in stored)
            ready = len(self.model.deliverable(queue, self.now()))
            assert (stats.ready, stats.leased, stats.delayed) == (ready, leased, len(stored) - ready - leased)
            assert (stats.oldest is None) == (ready == 0)

    def dated(self, message: Message, delay: timedelta | None) -> Message:
        return message if delay is None else msgspec.structs.replace(message, eta=self.clock.now() + delay)


class SqliteMachine(BrokerMachine):
    """The same on SQLite, in real time: leases and delays are longer than the test, and time does not leap."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        super().__init__()

    def open(self) -> FullBroker:
        return load_broker(f"sqlite:///{self.directory.name}/model.db")  # type: ignore[return-value]  # declares inspect

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()

    def advance(self, seconds: float) -> None:  # no rule here
        raise NotImplementedError


BrokerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
SqliteMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMemoryBroker = BrokerMachine.TestCase
TestSqliteBroker = SqliteMachine.TestCase
