"""Law 13: when the server goes and returns, calls raise ``BrokerUnavailable`` meanwhile, then work again.

With the same object, and nothing that was acknowledged is lost. How connections are cut is in law13_cuts.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.broker import Delivery
from anybroker.capabilities import Durability, Guarantee, Lease
from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_conformance.broker.accounts import settle_accounts
from anybroker_conformance.broker.network import AWAY, Network, Outcome, attempt, does_all, works_again
from anybroker_conformance.broker.racing import Racers, at_once, rounds
from anybroker_conformance.faults import NotFired
from anybroker_conformance.history.checkers import FORGETS
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.faults.server import Server
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

HELD = 4
"""Messages that are held when the server goes: one for each verb about a delivery, and one that is left alone."""
MANY = 20
SOON = 2.0
"""Seconds to the eta of messages that fall due after a restart, or during it."""


class Held(msgspec.Struct, frozen=True):
    """What an object holds while the server goes."""

    queue: str
    deliveries: list[Delivery]
    until: float
    """The moment, by the monotonic clock, until which the leases certainly hold."""


class Reconnects:
    """Law 13, of servers that go and return."""

    def test_law13_reconnects__refused_until_the_server_is_back(self, realtime: Subject) -> None:
        with Network(realtime) as network:
            held = _hold(realtime, network.broker)
            network.proxy.refuse()
            _all_raise(realtime, network.broker, held)
            made_meanwhile = attempt("connect()", network.open).value
            if not network.proxy.fired:
                raise NotFired("the connections were not refused")
            network.proxy.accept()
            does_all(realtime, network.broker)
            if made_meanwhile is not None:
                does_all(realtime, made_meanwhile)
            _as_it_was(realtime, network.broker, held)

    def test_law13_reconnects__stalled_with_open_connections(self, realtime: Subject) -> None:
        """Nothing answers, and nothing is closed: calls give up by themselves."""
        with Network(realtime) as network:
            held = _hold(realtime, network.broker)
            network.proxy.stall()
            _all_raise(realtime, network.broker, held)
            if not network.proxy.fired:
                raise NotFired("nothing was held up")
            network.proxy.flow()
            does_all(realtime, network.broker)

    def test_law13_reconnects__a_cut_does_not_end_leases(self, realtime: Subject) -> None:
        """What is held stays held, by the same object, after each of many new connections."""
        with Network(realtime) as network:
            held = _hold(realtime, network.broker)
            for number in rounds(40, seconds=min(6.0, realtime.long / 4), at_least=2):
                network.proxy.cut_now(reset=number % 2 == 1)
                works_again(realtime, network.broker)
                if realtime.capabilities.lease is Lease.TIMED:
                    for broker in (network.broker, realtime.broker):
                        look = partial(broker.acquire, [held.queue], limit=9, wait=0, lease=realtime.long)
                        taken = _until_answered(look)
                        if taken and time.monotonic() < held.until:
                            raise LawBroken("delivered twice because a connection was cut", taken[0].message.id)
            _as_it_was(realtime, network.broker, held)

    def test_law13_reconnects__close_gives_back_what_was_held_before_a_cut(self, realtime: Subject) -> None:
        """At once, as if the connection had not been cut."""
        realtime.require_timed_leases()
        with Network(realtime) as network:
            held = _hold(realtime, network.broker)
            network.proxy.cut_now(reset=True)
            works_again(realtime, network.broker)
            if attempt("close", network.broker.close).unavailable:
                return  # then it has said so
            realtime.take(held.queue, HELD)

    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_law13_reconnects__a_waiting_acquire_is_cut(self, realtime: Subject, reset: bool) -> None:  # noqa: FBT001
        """It survives, or raises and works afterwards; it does not sit there and hear nothing."""
        with Network(realtime) as network:
            queue = realtime.queue()
            wait = 1 + PATIENCE + realtime.capabilities.wake_bound

            def acquire() -> Outcome:
                call = partial(network.broker.acquire, [queue], limit=1, wait=wait, lease=realtime.short)
                return attempt("a waiting acquire", call)

            def cut() -> None:
                time.sleep(0.3)  # it is most probably waiting; if not, what follows holds all the same
                network.proxy.cut_now(reset=reset)
                realtime.broker.enqueue([realtime.message(queue) for _ in range(MANY)])

            outcome, _ = at_once(acquire, cut, within=wait + AWAY + PATIENCE)
            if not outcome.unavailable and not outcome.value:
                raise LawBroken("a waiting acquire whose connection was cut heard of no message any more")
            works_again(realtime, network.broker)
            settle_accounts(realtime, [queue], within=realtime.back_within() + PATIENCE)

    @pytest.mark.parametrize("end", ["TERM", "KILL"])
    def test_law13_reconnects__the_server_is_restarted(self, realtime: Subject, end: str) -> None:
        server = realtime.suite.server
        if server is None:
            realtime.untested("the suite was given no `server` that it may stop and start")
        restart = Restart(realtime, server)
        restart.fill()
        try:
            restart.end(by_kill=end == "KILL")
        finally:
            server.start()
        restart.compare()


class Restart:
    """A server that goes in the midst of work, with messages in every state."""

    def __init__(self, subject: Subject, server: Server) -> None:
        self.subject = subject
        self.server = server
        self.broker = subject.broker
        self.worker = subject.open()
        self.queue = subject.queue()
        self.busy = subject.queue("busy")
        self.finished = subject.queue("finished")
        self.later = subject.queue("later")
        self.stop = threading.Event()
        self.survives = subject.capabilities.durability is not Durability.PROCESS

    def fill(self) -> None:
        """Messages that wait, are held, are not due yet, are acknowledged, are updated."""
        subject, broker = self.subject, self.broker
        self.waiting = [subject.message(self.queue, b"waiting") for _ in range(MANY)]
        self.due_at = subject.now() + timedelta(seconds=SOON)
        self.delayed = [subject.message(self.later, eta=self.due_at) for _ in range(3)]
        self.delayed.append(subject.message(self.later, eta=subject.now() + timedelta(days=2)))
        self.held = _hold(subject, broker)
        kept = self.held.queue
        broker.enqueue(self.waiting + self.delayed)
        broker.enqueue([subject.message(self.finished) for _ in range(MANY)])
        updated = subject.put(kept, b"old")
        [delivery] = subject.take(kept)
        self.updated = msgspec.structs.replace(updated, body=b"new", queue=self.queue)
        if broker.update([(delivery, self.updated)]) != [True]:
            raise LawBroken("an update under a valid lease was refused", updated.id)
        if not all(broker.ack(subject.take(self.finished, MANY))):
            raise LawBroken("an ack under a valid lease was refused")

    def end(self, *, by_kill: bool) -> None:
        """The server goes while others work, stays away for a while, and returns while they still try."""
        calls = [partial(self._work, number) for number in range(3)]
        at_once(*calls, partial(self._go_and_return, by_kill=by_kill), within=300)

    def _go_and_return(self, *, by_kill: bool) -> None:
        try:
            time.sleep(0.3 if self.subject.capabilities.final is Guarantee.EXACT else FORGETS)  # of work, to be kept
            if by_kill:
                self.server.kill()
                self.subject.server_died()
            else:
                self.server.stop()
            _all_raise(self.subject, self.broker, self.held)
            self.server.start()
            works_again(self.subject, self.worker)
            time.sleep(0.2)
        finally:
            self.stop.set()

    def _work(self, number: int) -> None:
        """Enqueue and acknowledge without a pause; what raised may have happened."""
        while not self.stop.is_set():
            messages = [self.subject.message(self.busy, b"busy") for _ in range(1 + number)]
            if attempt("enqueue", partial(self.worker.enqueue, messages)).unavailable:
                time.sleep(0.05)
            call = partial(self.worker.acquire, [self.busy], limit=2, wait=0, lease=self.subject.short)
            taken = attempt("acquire", call).value
            if taken:
                attempt("ack", partial(self.worker.ack, taken))

    def compare(self) -> None:
        """What was there is there, in its state."""
        subject, broker = self.subject, self.broker
        does_all(subject, broker)
        if not self.survives:
            if taken := broker.acquire([self.finished], limit=9, wait=0.2, lease=subject.long):
                raise LawBroken("acknowledged before the restart, it came back", taken[0].message.id)
            return
        _as_it_was(subject, broker, self.held)
        subject.assert_gone(self.finished, why="it was acknowledged before the restart")
        early = broker.acquire([self.later], limit=9, wait=0, lease=subject.long)
        if early and subject.now() < self.due_at:
            raise LawBroken("delivered after the restart, and before its eta", early[0].message.id)
        back = subject.take(self.queue, MANY + 1)
        expected = {one.id: one.body for one in [*self.waiting, self.updated]}
        for one in back:
            if expected.pop(one.message.id, None) != one.message.body:
                raise LawBroken("after the restart it came twice, or another version of it", one.message.id)
        due_in = max(0.0, (self.due_at - subject.now()).total_seconds())
        within = due_in + subject.capabilities.delay_precision
        subject.take(self.later, 3 - len(early), within=within)
        subject.assert_nothing(self.later, why="it is due in two days")
        settle_accounts(subject, [self.busy], within=subject.back_within() + PATIENCE)


def _hold(subject: Subject, broker: RecordedBroker) -> Held:
    queue = subject.queue("held")
    subject.broker.enqueue([subject.message(queue, b"held") for _ in range(HELD)])
    until = time.monotonic() + subject.long
    held = Held(queue, subject.take(queue, HELD, broker=broker), until)
    if subject.capabilities.inspect:  # so that what it remembers of them could be its answer when the server is away
        for look in (broker.queues, partial(broker.stats, queue), partial(broker.peek, queue, limit=1)):
            look()
    return held


def _all_raise(subject: Subject, broker: RecordedBroker, held: Held) -> None:
    """While the server is away, every verb says so, in time; all at once, so that the slowest counts."""
    queue, deliveries = held.queue, held.deliveries
    away = msgspec.structs.replace(deliveries[1].message, body=b"away")
    calls: dict[str, Callable[[], Any]] = {
        "enqueue": partial(broker.enqueue, [subject.message(queue, b"while away")]),
        "acquire": partial(_acquire_until_it_raises, broker, queue, subject.short),
        "ack": partial(broker.ack, deliveries[:1]),
        "update": partial(broker.update, [(deliveries[1], away)]),
        "extend": partial(broker.extend, deliveries[2:3], lease=subject.long),
    }
    if subject.capabilities.inspect:
        calls["stats"] = partial(broker.stats, queue)
        calls["queues"] = broker.queues
        calls["peek"] = partial(broker.peek, queue, limit=1)
        calls["remove"] = partial(broker.remove, queue, [f"{subject.namespace}.none"])
        calls["purge"] = partial(broker.purge, f"{subject.namespace}-none")
    with Racers(len(calls)) as racers:
        tries = [partial(attempt, name, call) for name, call in calls.items()]
        outcomes = racers.race(*tries, within=AWAY + 3 * PATIENCE)
    for name, outcome in zip(calls, outcomes, strict=True):
        refused = name in {"ack", "update", "extend"} and outcome.value == [False]
        if refused and subject.capabilities.lease is Lease.CONNECTION:
            continue  # the lease ended with the connection, for certain
        if not outcome.unavailable:
            raise LawBroken(f"{name} returned {outcome.value!r:.80} while the server was not to be reached")


def _acquire_until_it_raises(broker: RecordedBroker, queue: str, lease: float) -> object:
    """A consumer that is fed in the background may notice a little later that nothing comes any more."""
    deadline = time.monotonic() + AWAY
    while True:
        taken = broker.acquire([queue], limit=1, wait=0.5, lease=lease)
        time.sleep(0.01)  # one that does not wait would fill the record
        if taken or time.monotonic() > deadline:
            return taken


def _as_it_was(subject: Subject, broker: RecordedBroker, held: Held) -> None:
    """What was held is held, unless a call about it may have happened; what is settled now is settled for good."""
    untouched = held.deliveries[2:]
    if subject.capabilities.lease is Lease.CONNECTION:
        back = subject.take(held.queue, len(untouched), within=subject.capabilities.expiry_bound)
        with suppress(AnybrokerError):
            broker.ack(back)
        return
    taken = _until_answered(partial(broker.acquire, [held.queue], limit=9, wait=0, lease=subject.long))
    answers = _until_answered(partial(broker.ack, untouched))
    if time.monotonic() > held.until:
        return  # it took so long that the leases may have run out
    if twice := {one.message.id for one in taken} & {one.message.id for one in untouched}:
        raise LawBroken("delivered to another one although its lease was valid all the time", min(twice))
    if answers != [True] * len(untouched):
        raise LawBroken(f"the lease was valid all the time, and ack answered {answers}", untouched[0].message.id)


def _until_answered(call: Callable[[], Any]) -> Any:
    """Connections that were in reserve may turn out to be dead, one by one."""
    deadline = time.monotonic() + AWAY
    while True:
        try:
            return call()
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise
