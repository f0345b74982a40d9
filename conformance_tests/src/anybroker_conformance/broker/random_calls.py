"""Random calls, shrunk to the fewest that break a law: every answer is one that a model allows."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, HypothesisException
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from anybroker.capabilities import Guarantee
from anybroker_conformance.broker.law15_honest import AGE
from anybroker_conformance.broker.model import Model, Stored
from anybroker_conformance.hang import Hang
from anybroker_conformance.history.checkers import REFUSED
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Delivery, Message
    from anybroker_conformance.subject import Subject

IDS = 8
QUEUES = 3
ROUND_TRIPS = 2.0
"""Seconds for which random calls are made where time does not leap, at most."""
DELAYS = [None, None, None, timedelta(0), timedelta(seconds=90), timedelta(days=30)]
LEAPS = [0.000001, 4.0, 11.0, 61.0, 3601.0, 31 * 86400.0]
LEASES = [10.0, 60.0, 3600.0]
SHRINKING = 15.0
"""Seconds for which a failure is shrunk."""
SECONDS = 20.0
"""For which all examples may take, of a broker that is slow."""

Draft = tuple[int, int, bytes, timedelta | None, int, int]
"""Which id, which queue, the body, the delay, which priority, which ordering key."""
DRAFTS: st.SearchStrategy[Draft] = st.tuples(
    st.integers(0, IDS - 1),
    st.integers(0, QUEUES - 1),
    st.binary(max_size=3),
    st.sampled_from(DELAYS),
    st.sampled_from([0, 0, 0, 1, 2, -1]),
    st.sampled_from([0, 0, 1, 2]),
)


class RandomCalls:
    """All verbs, in any order."""

    def test_law12_concurrent__random_calls_are_answered_as_by_a_model(
        self, new_subject: Callable[[], Subject]
    ) -> None:
        with closing(new_subject()) as subject:
            suite = subject.suite
            leaps = suite.takes_clock()
            steps = 40 if leaps else 25
            examples = affordable_examples(subject, 60 if leaps else 8, steps)
        chosen = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink) if leaps else (Phase.generate,),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )

        search = Search()

        class Machine(BrokerMachine):
            subject_of_run = staticmethod(new_subject)
            search_of_run = search

        try:
            run_state_machine_as_test(seed(suite.seed)(Machine), settings=chosen)
        except (Enough, Flaky, Hang):
            if search.smallest is None:
                raise
            raise search.smallest from None


def affordable_examples(subject: Subject, examples: int, steps: int) -> int:
    """As many examples of so many calls as a broker may be asked for that takes its time for each."""
    queue = subject.queue()
    started = time.monotonic()
    for _ in range(3):
        subject.put(queue)
        subject.broker.ack(subject.take(queue))
    call = (time.monotonic() - started) / 9
    return max(3, min(examples, int(SECONDS / (call * steps * 1.5))))


class Enough(BaseException):
    """A failure has been shrunk for long enough. No ``Exception``: Hypothesis is to give up."""


class Search:
    """The failures found so far.

    Hypothesis shrinks for minutes, and who interrupts it is told that the examples are flaky, not what they found.
    """

    def __init__(self) -> None:
        self.smallest: Exception | None = None
        self._calls = 0
        self._ends = float("inf")

    def go_on(self) -> None:
        """Raise :class:`Enough` some time after the first failure."""
        if time.monotonic() > self._ends:
            raise Enough

    def failed(self, error: Exception, subject: Subject) -> None:
        """An example has failed; keep it if it is the one with the fewest calls."""
        calls = len(subject.history().calls)
        if self.smallest is None:
            self._ends = time.monotonic() + SHRINKING
        if self.smallest is None or calls <= self._calls:
            self.smallest, self._calls = error, calls
            vars(error)["subject"] = subject  # what is shown of it: those of later examples are remembered instead


class BrokerMachine(RuleBasedStateMachine):
    """A broker beside its model."""

    deliveries: Bundle[Delivery] = Bundle("deliveries")
    subject_of_run: Callable[[], Subject]
    search_of_run: Search

    def __init__(self) -> None:
        super().__init__()
        self.search_of_run.go_on()
        self.subject = self.subject_of_run()
        self.declared = self.subject.capabilities
        self.names = [self.subject.queue() for _ in range(QUEUES)]
        self.ids = [f"{self.subject.namespace}.{number}" for number in range(IDS)]
        self.model = Model(self.declared.ordering)
        self.broker = self.subject.broker
        self.looked = self.now

    def teardown(self) -> None:
        error = sys.exception()
        try:
            if error is None:  # else it would hide what was found before
                self.everything_comes_in_the_end()
        except Exception as found:
            error = found
            raise
        finally:
            if isinstance(error, Exception) and not isinstance(error, HypothesisException):
                self.search_of_run.failed(error, self.subject)
            self.subject.close()

    @property
    def now(self) -> float:
        """By the clock that judges leases."""
        return self.subject.now().timestamp()

    def message(self, draft: Draft, **fields: Any) -> Message:
        """What a draft means for this broker."""
        number, queue, body, delay, priority, key = draft
        low, high = self.declared.priorities or (0, 0)
        message = self.subject.message(self.names[queue], body)
        return msgspec.structs.replace(
            message,
            **{
                "id": self.ids[number],
                "eta": None if delay is None else self.subject.now() + delay,
                "priority": max(low, min(high, priority)),
                "ordering_key": None if not self.declared.ordering.keyed or not key else f"k{key}",
                **fields,
            },
        )

    @initialize(drafts=st.lists(DRAFTS, min_size=6, max_size=12))
    def fill(self, drafts: list[Draft]) -> None:
        self.enqueue(drafts)

    @rule(drafts=st.lists(DRAFTS, min_size=1, max_size=6))
    def enqueue(self, drafts: list[Draft]) -> None:
        messages = [self.message(draft) for draft in drafts]
        if not self.declared.idempotent_enqueue:  # a second copy of a message would have no name of its own
            known = dict.fromkeys(self.model.stored)
            messages = list({one.id: one for one in messages if one.id not in known}.values())
        self.broker.enqueue(messages)
        for message in messages:
            if message.id not in self.model.stored:
                self.model.arrive(message)

    @rule(
        target=deliveries,
        order=st.permutations(range(QUEUES)),
        limit=st.integers(1, 4),
        lease=st.sampled_from(LEASES),
    )
    def acquire(self, order: list[int], limit: int, lease: float) -> MultipleResults[Delivery]:
        names = [self.names[number] for number in order]
        lease = self.subject.long if self.subject.clock is None else min(lease, self.declared.max_lease)
        taken = self.broker.acquire(names, limit=limit, wait=0, lease=lease)
        self.is_as_expected(taken, [self.model.deliverable(name, self.now) for name in names], limit)
        for delivery in taken:
            stored = self.model.stored[delivery.message.id]
            stored.deliveries += 1
            if self.declared.delivery_count and delivery.delivery_count != stored.deliveries:
                text = f"delivery_count is {delivery.delivery_count} for delivery {stored.deliveries} of this version"
                raise LawBroken(text, delivery.message.id, law="expiry")
            stored.token, stored.held_until = delivery.token, self.now + lease
        return multiple(*taken)

    def is_as_expected(self, taken: list[Delivery], expected: list[list[Stored]], limit: int) -> None:
        """What was delivered is what could be delivered, in an order that is allowed."""
        flat = [stored for of_queue in expected for stored in of_queue]
        by_id = {stored.message.id: stored for stored in flat}
        for delivery in taken:
            id_ = delivery.message.id
            if id_ not in by_id:
                reason, law = self.why_not(id_)
                raise LawBroken(f"delivered although {reason}", id_, law=law)
            self.is_as_it_was(delivery, by_id[id_])
        if len({delivery.message.id for delivery in taken}) < len(taken):
            raise LawBroken("delivered twice in one acquire", taken[0].message.id, law="exclusive")
        if self.subject.clock and len(taken) < min(limit, len(flat)):
            missing = next(id_ for id_ in by_id if id_ not in {one.message.id for one in taken})
            raise LawBroken(
                f"{len(taken)} of {min(limit, len(flat))} deliverable messages were delivered", missing, law="durable"
            )
        if self.declared.ordering.fifo:
            for delivery, stored in zip(taken, flat, strict=False):
                if delivery.message.id != stored.message.id:
                    text = f"delivered before {stored.message.id}, whose turn it was"
                    raise LawBroken(text, delivery.message.id, law="order")

    @staticmethod
    def is_as_it_was(delivery: Delivery, stored: Stored) -> None:
        """A message comes as it was enqueued, or updated."""
        if delivery.message != stored.message:
            text = f"delivered as {delivery.message}, not as {stored.message}"
            raise LawBroken(text, stored.message.id, law="update" if stored.updated else "exact")

    def why_not(self, id_: str) -> tuple[str, str]:
        """Why a message cannot be delivered, and the law that says so."""
        stored = self.model.stored.get(id_)
        if stored is None:
            return "it is not there (any more)", "final"
        if not stored.due(self.now):
            return f"its eta is {stored.message.eta}", "eta"
        if stored.leased(self.now):
            return "its lease is valid", "exclusive"
        if self.model.blocked(stored):
            return "an older message with its ordering key is not settled", "order"
        return f"it is in queue {stored.message.queue!r}", "isolation"

    def settled(self, delivery: Delivery, answer: bool, verb: str) -> Stored | None:  # noqa: FBT001
        """What a settle has taken effect on, if its answer is one that is allowed."""
        stored = self.model.holder(delivery)
        if stored is None or stored.leased(self.now):
            if answer != (stored is not None):
                held = "lost" if stored is None else "valid"
                law = "fenced" if answer else REFUSED[verb]
                raise LawBroken(f"{verb} answered {answer} with a lease that was {held}", delivery.message.id, law=law)
            return stored
        if not answer:  # its time had run out: either answer is right, and then it holds
            stored.give_up()
        return stored if answer else None

    def settleable(self, held: list[Delivery]) -> list[Delivery]:
        """Those with which a settle has an answer that is certain."""
        if self.declared.fencing is Guarantee.EXACT:
            return held
        return list({one.message.id: one for one in held if self.model.holder(one)}.values())

    @rule(held=st.lists(deliveries, min_size=1, max_size=3))
    def ack(self, held: list[Delivery]) -> None:
        held = self.settleable(held)
        for delivery, answer in zip(held, self.broker.ack(held), strict=True):
            if stored := self.settled(delivery, answer, "ack"):
                del self.model.stored[stored.message.id]

    @rule(held=st.lists(deliveries, min_size=1, max_size=2), draft=DRAFTS, stay=st.booleans())
    def update(self, held: list[Delivery], draft: Draft, stay: bool) -> None:  # noqa: FBT001
        changes = []
        for delivery in self.settleable(held):
            fields: dict[str, Any] = {"id": delivery.message.id}
            if stay:
                fields |= {"queue": delivery.message.queue, "ordering_key": delivery.message.ordering_key}
            message = self.message(draft, **fields)
            if message == delivery.message:  # what does not change may keep its place, and what does may lose it
                message = msgspec.structs.replace(message, body=message.body + b" again")
            changes.append((delivery, message))
        for (delivery, message), answer in zip(changes, self.broker.update(changes), strict=True):
            if stored := self.settled(delivery, answer, "update"):
                self.model.replace(stored, message)

    @rule(held=st.lists(deliveries, min_size=1, max_size=3), lease=st.sampled_from(LEASES))
    def extend(self, held: list[Delivery], lease: float) -> None:
        held = self.settleable(held)
        lease = self.subject.long if self.subject.clock is None else min(lease, self.declared.max_lease)
        for delivery, answer in zip(held, self.broker.extend(held, lease=lease), strict=True):
            if stored := self.settled(delivery, answer, "extend"):
                stored.held_until = self.now + lease

    @precondition(lambda self: self.declared.shared or self.subject.suite.objects_share())
    @rule()
    def close(self) -> None:
        self.broker.close()
        for stored in self.model.stored.values():
            stored.give_up()
        leaver, self.broker = self.broker, self.subject.open()
        leaver.close()

    @precondition(lambda self: self.declared.inspect)
    @rule(queue=st.integers(0, QUEUES - 1), numbers=st.lists(st.integers(0, IDS - 1), max_size=3))
    def remove(self, queue: int, numbers: list[int]) -> None:
        name, ids = self.names[queue], [self.ids[number] for number in numbers]
        for id_, answer in zip(ids, self.broker.remove(name, ids), strict=True):
            stored = self.model.stored.get(id_)
            free = stored is not None and stored.message.queue == name and not stored.leased(self.now)
            if answer != free:
                raise LawBroken(
                    f"remove answered {answer}; it is {'free' if free else 'leased or not there'}", id_, law="honest"
                )
            if free:
                del self.model.stored[id_]

    @precondition(lambda self: self.declared.inspect)
    @rule(queue=st.integers(0, QUEUES - 1))
    def purge(self, queue: int) -> None:
        free = [one.message.id for one in self.model.of(self.names[queue]) if not one.leased(self.now)]
        removed = self.broker.purge(self.names[queue])
        if removed != len(free):
            raise LawBroken(
                f"purge said that it removed {removed} messages of {len(free)} that were not leased", law="honest"
            )
        for id_ in free:
            del self.model.stored[id_]

    @precondition(lambda self: self.subject.clock is not None)
    @rule(seconds=st.sampled_from(LEAPS))
    def advance(self, seconds: float) -> None:
        self.subject.advance(seconds)

    @precondition(lambda self: self.declared.inspect)
    @invariant()
    def looks_the_same(self) -> None:
        self.model.mark_ready(self.looked, self.now)
        self.looked = self.now
        names = sorted({one.message.queue for one in self.model.stored.values()})
        listed = [name for name in self.broker.queues() if name in self.names]
        self.shown(listed == names, f"queues() is {listed}, and {names} hold messages")
        for name in self.names:
            stored = self.model.of(name)
            messages = [one.message for one in stored]
            seen = self.broker.peek(name, limit=100)
            if not self.declared.ordering.fifo:
                messages.sort(key=lambda one: one.id)
                seen.sort(key=lambda one: one.id)
            self.shown(seen == messages, f"peek shows {seen}, and there are {messages}")
            stats = self.broker.stats(name)
            if any(self.falls_due(one) for one in stored):
                continue
            leased = sum(one.leased(self.now) for one in stored)
            since = [one.ready_since or 0.0 for one in self.model.deliverable(name, self.now)]
            ready = len(since)
            counted = (stats.ready, stats.leased, stats.delayed)
            there = (ready, leased, len(stored) - ready - leased)
            self.shown(counted == there, f"stats count (ready, leased, delayed) as {counted}; it is {there}")
            self.shown((stats.oldest is None) == (ready == 0), f"the oldest of {ready} is {stats.oldest}")
            if self.subject.clock and stats.oldest is not None:
                age = self.now - min(since)
                self.shown(abs(stats.oldest - age) <= AGE, f"the oldest is ready for {age} s, and not {stats.oldest}")

    def falls_due(self, stored: Stored) -> bool:
        """Whether it has become due so lately that the broker may still count it as delayed, where time is real."""
        late = 0.0 if self.subject.clock else self.declared.delay_precision
        return stored.due(self.now) and not stored.due(self.now - late)

    @staticmethod
    def shown(right: bool, text: str) -> None:  # noqa: FBT001
        """What ``Inspect`` shows is what the model has."""
        if not right:
            raise LawBroken(text, law="honest")

    def everything_comes_in_the_end(self) -> None:
        """What the model has is delivered, once all leases are given up and all etas have passed."""
        if self.declared.shared or self.subject.suite.objects_share():
            self.close()
        if self.subject.clock:
            self.subject.advance(62 * 86400)
        now = self.now
        waiting = [one for one in self.model.stored.values() if not one.due(now) or one.leased(now)]
        left = {
            one.message.id: one
            for one in self.model.stored.values()
            if one not in waiting and not any(self.model.holds_back(other, one) for other in waiting)
        }
        deadline = time.monotonic() + self.declared.expiry_bound + PATIENCE
        while left:
            found = [one for name in self.names for one in self.broker.acquire([name], limit=9, wait=0, lease=60)]
            for delivery in found:
                id_ = delivery.message.id
                if id_ not in left:
                    reason, law = self.why_not(id_)
                    raise LawBroken(f"delivered in the end although {reason}", id_, law=law)
                self.is_as_it_was(delivery, left.pop(id_))
                del self.model.stored[id_]
            self.broker.ack(found)
            if found:
                continue
            if self.subject.clock or time.monotonic() > deadline:
                raise LawBroken("lost: it is not delivered in the end", next(iter(left)), law="durable")
            time.sleep(0.02)  # what was held by a connection is on its way back
