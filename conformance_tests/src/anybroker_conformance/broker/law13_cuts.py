"""Law 13: the connection is cut at every wire boundary of each verb, before it, behind it and in the middle."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.capabilities import Guarantee, Lease
from anybroker_conformance.broker.accounts import judge
from anybroker_conformance.broker.network import Network, Outcome, attempt, does_all, works_again
from anybroker_conformance.faults import NotFired
from anybroker_conformance.faults.proxy import TO_CLIENT, TO_SERVER, Direction
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Delivery, Message
    from anybroker_conformance.subject import Subject

BATCH = 3
CUTS = 12
"""In each direction, at most."""
BUDGET = 8.0
"""Seconds for the cuts of one verb; the most telling come first."""
AT_LEAST = 4

Place = tuple[Direction, int]


class Cuts:
    """Law 13, of connections that are cut."""

    @pytest.mark.parametrize("verb", ["enqueue", "acquire", "ack", "update", "extend"])
    def test_law13_reconnects__cut_at_every_wire_boundary(self, realtime: Subject, verb: str) -> None:
        with Network(realtime) as network:
            trial = Trial(network, verb)
            places = trial.learn()
            if not places:
                realtime.untested(f"{verb} sends nothing over the connection, so that nothing of it can be cut")
            deadline = time.monotonic() + BUDGET
            fired = Counter[Direction]()
            for number, (direction, after) in enumerate(places):
                if number >= AT_LEAST and time.monotonic() > deadline:
                    break
                if trial.cut(direction, after, reset=number % 3 == 2):
                    fired[direction] += 1
            if not fired:
                raise NotFired(f"none of {len(places)} cuts happened")
            does_all(realtime, network.broker)
            trial.settle_accounts()


class Trial:
    """One verb, called again and again with fresh messages, each time cut at another place."""

    def __init__(self, network: Network, verb: str) -> None:
        self.network = network
        self.subject = network.subject
        self.verb = verb
        self.lease = max(2.0, self.subject.short)
        self.outcomes: list[tuple[str, list[Message], Outcome]] = []
        """By queue: what was to be done to which messages, and what came of it."""

    def learn(self) -> list[Place]:
        """Where the pieces of a call end that nothing cuts, the most telling places first."""
        for _ in range(2):  # what is done only the first time is no part of the verb
            call = self._prepare()
            self.network.proxy.mark()
            self._record(attempt(self.verb, call))
        places: list[Place] = []
        directions: tuple[Direction, ...] = (TO_CLIENT, TO_SERVER)
        for direction in directions:
            ends = [chunk.end for chunk in self.network.proxy.chunks if chunk.direction == direction]
            places.extend((direction, after) for after in _places(ends))
        return sorted(places, key=lambda place: [one for one in places if one[0] == place[0]].index(place))

    def cut(self, direction: Direction, after: int, *, reset: bool) -> bool:
        """Cut one call; True if it was cut."""
        proxy = self.network.proxy
        works_again(self.subject, self.network.broker)
        call = self._prepare()
        proxy.cut(direction, after, reset=reset)
        outcome = attempt(self.verb, call)
        fired = proxy.fired
        proxy.mark()
        self._record(outcome)
        return fired

    def _prepare(self) -> Callable[[], Any]:
        """Fresh messages in a queue of their own, and what is to be done to them."""
        subject, broker = self.subject, self.network.broker
        queue = subject.queue(self.verb)
        messages = [subject.message(queue, b"old" * 20) for _ in range(BATCH)]
        self._next = queue, messages
        if self.verb == "enqueue":
            return lambda: broker.enqueue(messages)
        subject.broker.enqueue(messages)
        if self.verb == "acquire":
            return lambda: broker.acquire([queue], limit=BATCH, wait=0.1, lease=self.lease)
        held = self._take(queue)
        match self.verb:
            case "ack":
                return lambda: broker.ack(held)
            case "update":
                return lambda: broker.update([(one, _new(one.message)) for one in held])
        return lambda: broker.extend(held, lease=self.lease)

    def _take(self, queue: str) -> list[Delivery]:
        """Through the proxy; a connection that was in reserve may still turn out to be dead."""
        held: list[Delivery] = []
        deadline = time.monotonic() + self.subject.back_within(self.lease) + 6 * PATIENCE
        while len(held) < BATCH:
            if time.monotonic() > deadline:
                raise LawBroken(f"{len(held)} of {BATCH} messages were delivered after the connection had been cut")
            wanted = BATCH - len(held)
            outcome = attempt(
                "acquire",
                lambda: self.network.broker.acquire([queue], limit=wanted, wait=0.2, lease=self.lease),  # noqa: B023
            )
            held += outcome.value or []
        return held

    def _record(self, outcome: Outcome) -> None:
        queue, messages = self._next
        self.outcomes.append((queue, messages, outcome))

    def settle_accounts(self) -> None:
        """Let all leases run out, see what is there, and compare."""
        if self.subject.capabilities.lease is Lease.CONNECTION:  # the last call may not have been cut
            self.network.proxy.cut_now(reset=True)
        self.subject.expire(self.lease)
        queues = [queue for queue, _, _ in self.outcomes]
        must = {one.id for _, messages, outcome in self.outcomes for one in self._certain(messages, outcome)}
        found = self._drain(queues, must)
        judge(self.subject.history(), self.subject)
        for _, messages, outcome in self.outcomes:
            for position, message in enumerate(messages):
                self._judge(message, outcome, position, found.get(message.id, []))

    def _certain(self, messages: list[Message], outcome: Outcome) -> list[Message]:
        """Those that must be there in the end."""
        if self.verb == "enqueue" and outcome.unavailable:
            return [one for one in messages if one.id in outcome.unavailable.stored]
        if self.verb == "ack":
            answers = [True] * len(messages) if outcome.unavailable else outcome.value
            return [one for one, gone in zip(messages, answers, strict=True) if not gone]
        return messages

    def _drain(self, queues: list[str], must: set[str]) -> dict[str, list[Message]]:
        """Every version that is delivered now, by id."""
        found: dict[str, list[Message]] = {}
        deadline = time.monotonic() + PATIENCE + self.subject.capabilities.transit
        quiet = 0
        while quiet < 2 or (not must <= found.keys() and time.monotonic() < deadline):
            taken = self.subject.broker.acquire(queues, limit=100, wait=WATCH, lease=self.subject.long)
            self.subject.broker.ack(taken)
            for one in taken:
                found.setdefault(one.message.id, []).append(one.message)
            quiet = 0 if taken else quiet + 1
        return found

    def _judge(self, message: Message, outcome: Outcome, position: int, found: list[Message]) -> None:
        """Hold what is there of one message against what the call said of it."""
        declared = self.subject.capabilities
        shown = [one.body[:3].decode() for one in found]
        once = self.verb == "update" and declared.update is not Guarantee.EXACT
        if once or declared.exclusive is not Guarantee.EXACT:
            shown = sorted(set(shown))  # how often is not declared
        if shown not in self._allowed(message, outcome, position):
            said = f"raised {outcome.unavailable}" if outcome.unavailable else f"returned {outcome.value}"
            versions = f"the versions {shown} of it were" if shown else "nothing of it was"
            raise LawBroken(f"{self.verb}, cut, {said}; afterwards {versions} there", message.id)

    def _allowed(self, message: Message, outcome: Outcome, position: int) -> list[list[str]]:
        """The versions that may be there in the end."""
        declared, unavailable = self.subject.capabilities, outcome.unavailable
        match self.verb:
            case "enqueue":
                twice = [] if declared.idempotent_enqueue else [["old", "old"]]  # the client may have sent it again
                lost: list[list[str]] = [[]] if unavailable and message.id not in unavailable.stored else []
                return [["old"], *twice, *lost]
            case "ack":
                return [["old"], []] if unavailable else [[] if outcome.value[position] else ["old"]]
            case "update" if unavailable:
                both = [] if declared.update is Guarantee.EXACT else [["new", "old"]]
                return [["old"], ["new"], *both]
            case "update":
                return [["new"] if outcome.value[position] else ["old"]]
        return [["old"]]


def _new(message: Message) -> Message:
    return msgspec.structs.replace(message, body=b"new" * 20)


def _places(ends: list[int]) -> list[int]:
    """After how many bytes to cut: where pieces end, one byte before and behind, and within each."""
    found = [0] if ends else []
    before = 0
    for end in ends:
        size = end - before
        found += [end, end - 1, end + 1, before + size // 2, before + size // 4, before + 3 * size // 4, before + 1]
        before = end
    total = ends[-1] if ends else 0
    known = [after for after in dict.fromkeys(found) if 0 <= after <= total]
    if len(known) <= CUTS:
        return known
    return [0, *random.Random(len(known)).sample(known[1:], CUTS - 1)]  # noqa: S311 (the same each time)
