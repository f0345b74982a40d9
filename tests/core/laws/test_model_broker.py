"""All verbs in any order against a model of twenty lines: lists, sorted when needed."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from anybroker.broker import Delivery, Message
from anybroker.clock import ManualClock
from anybroker.loading import load_broker
from anybroker.memory import MemoryBroker

if TYPE_CHECKING:
    from tests.core.laws.conftest import FullBroker

NOT_SHORTER = 3600.0
QUEUES = ["a", "b", "a.dead"]
IDS = [f"m{n}" for n in range(8)]
PRIORITIES = st.sampled_from([-(2**31), -1, 0, 0, 0, 1, 7])
KEYS = st.sampled_from([None, None, "k", "l"])
DELAYS = st.sampled_from([None, None, 0.0, 5.0, 60.0, 30 * 86400.0])
BODIES = st.binary(max_size=3)


@dataclass
class Stored:
    """What the model knows of a message."""

    message: Message
    seq: int
    due: float = 0.0
    held_until: float | None = None
    token: object = None
    deliveries: int = 0


class Model:
    """A broker as simple as can be: every question looks at every message."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.seq = 0

    def arrive(self, message: Message) -> Stored:
        self.seq += 1
        self.stored[message.id] = Stored(message, self.seq, message.eta.timestamp() if message.eta else 0.0)
        return self.stored[message.id]

    def of(self, queue: str) -> list[Stored]:
        """The messages of a queue in the order of delivery."""
        return sorted(
            (one for one in self.stored.values() if one.message.queue == queue),
            key=lambda one: (-one.message.priority, one.seq),
        )

    def leased(self, one: Stored, now: float) -> bool:
        return one.held_until is not None and one.held_until > now

    def blocked(self, one: Stored) -> bool:
        key = one.message.ordering_key
        return key is not None and any(
            other.seq < one.seq for other in self.of(one.message.queue) if other.message.ordering_key == key
        )

    def deliverable(self, queue: str, now: float) -> list[Stored]:
        return [
            one for one in self.of(queue) if one.due <= now and not self.leased(one, now) and not self.blocked(one)
        ]

    def holder(self, delivery: Delivery) -> Stored | None:
        """What a delivery still holds: until it is settled or delivered again, whatever its time."""
        one = self.stored.get(delivery.message.id)
        return one if one is not None and one.token is not None and one.token == delivery.token else None


class BrokerMachine(RuleBasedStateMachine):
    """Every answer of the broker is the model's answer."""

    deliveries: Bundle[Delivery] = Bundle("deliveries")
    broker: FullBroker

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.open()

    def open(self) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(clock=self.clock)

    def now(self) -> float:
        return self.clock.time()

    def message(self, id_: str, queue: str, body: bytes, priority: int, key: str | None, delay: float | None) -> Message:
        eta = None if delay is None else datetime.fromtimestamp(self.now(), self.clock.now().tzinfo)
        eta = eta and eta + timedelta(seconds=delay or 0.0)
        return Message(id_, queue, body, eta, priority, key)

    @rule(
        specs=st.lists(
            st.tuples(st.sampled_from(IDS), st.sampled_from(QUEUES), BODIES, PRIORITIES, KEYS, DELAYS), max_size=4
        )
    )
    def enqueue(self, specs: list[tuple[Any, ...]]) -> None:
        messages = [self.message(*spec) for spec in specs]
        self.broker.enqueue(messages)
        for message in messages:
            if message.id not in self.model.stored:
                self.model.arrive(message)

    @rule(
        target=deliveries,
        queues=st.lists(st.sampled_from(QUEUES), min_size=1, max_size=3, unique=True),
        limit=st.integers(1, 1),
        lease=st.sampled_from([10.0, 60.0, NOT_SHORTER]),
    )
    def acquire_one(self, queues: list[str], limit: int, lease: float) -> Any:
        from hypothesis.stateful import multiple

        return multiple(*self.acquire(queues, limit, lease))
