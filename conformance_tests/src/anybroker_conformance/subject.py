"""What a law test works with: the broker under test, the time it lives in, and names that nobody else uses.

A test says ``subject.advance(1)`` and does not know whether time passes or leaps: adapters that take a clock
(``connect_by``) are tested by one that stands still, all others in real time with short leases.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from _pytest.outcomes import Skipped

from anybroker.broker import Message
from anybroker.capabilities import Lease
from anybroker.clock import ManualClock
from anybroker.errors import AnybrokerError
from anybroker_conformance.history.recorder import Journal, RecordedBroker

if TYPE_CHECKING:
    from pathlib import Path

    from anybroker.broker import Broker, Delivery, Stats
    from anybroker.capabilities import Capabilities
    from anybroker_conformance.faults.peer import Peer
    from anybroker_conformance.history.calls import History
    from anybroker_conformance.suite import BrokerConformance

PATIENCE = 5.0
"""Seconds that a loaded machine may add to what must happen. A broker that keeps its bounds never costs them."""
WATCH = 0.15
"""Seconds for which something that must not happen is looked out for, in real time."""
SHORT = 0.4
"""Seconds of a lease that a test outlives, in real time; a manual clock has 10."""
LONG = 60.0
"""Seconds of a lease that no test outlives, in real time; a manual clock has 10,000."""


class LawBroken(AssertionError):
    """A law does not hold; ``message_id`` is the message whose timeline shows it, if there is one.

    ``law`` is its name, where it is another one than that of the test: random calls find what they find.
    """

    def __init__(self, text: str, message_id: str | None = None, *, law: str | None = None) -> None:
        super().__init__(text)
        self.message_id = message_id
        self.law = law


class Untested(Skipped):
    """A law, or a part of one, cannot be tested here; reported with its reason, never in silence."""


class Subject:
    """One broker under test, as one test sees it."""

    def __init__(self, suite: BrokerConformance, scratch: Path, *, realtime: bool = False) -> None:
        self.suite = suite
        self.clock = None if realtime or not suite.takes_clock() else ManualClock()
        self.namespace = suite.namespace = f"c{secrets.token_hex(4)}"
        """Begins the name of every queue and every id of this test: nothing else on the server has it."""
        self.journal = Journal()
        self._deaths: list[float] = []
        self.figures: dict[str, list[float]] = {}
        self._scratch = scratch
        self._opened: list[RecordedBroker] = []
        self._peers: list[Peer] = []
        self._queues: list[str] = []
        self._ids = count(1)
        self._numbers = count()  # of peers, which several threads may start at once

    # The broker

    @property
    def broker(self) -> RecordedBroker:
        """The first object; the broker under test where one is enough."""
        return self._opened[0] if self._opened else self._open()

    @property
    def capabilities(self) -> Capabilities:
        """What the broker declares."""
        return self.broker.capabilities

    def open(self) -> RecordedBroker:
        """One more object on the same messages, as another consumer has it."""
        if not self.capabilities.shared and not self.suite.objects_share():
            self.untested("the objects that the factory makes share no messages, and declare so (shared=False)")
        return self._open()

    def adopt(self, broker: Broker) -> RecordedBroker:
        """Record what is done with a broker that a test has made in its own way; it is closed after the test."""
        client = f"consumer {len(self._opened) + 1}"
        recorded = RecordedBroker(broker, self.journal, client, lambda: self.now().timestamp())
        self._opened.append(recorded)
        return recorded

    def _open(self) -> RecordedBroker:
        return self.adopt(self.suite.connect() if self.clock is None else self.suite.connect_by(self.clock))

    def peer(self, **options: Any) -> Peer:
        """Another process with an object of its own on the same messages."""
        from anybroker_conformance.faults.peer import Peer

        if not self.capabilities.shared:
            self.untested("other processes cannot use this broker, and it declares so (shared=False)")
        started = Peer(self.suite, self._scratch / f"peer{next(self._numbers)}.jsonl", **options)
        self._peers.append(started)
        return started

    # Time

    @property
    def short(self) -> float:
        """Seconds of a lease or a delay that a test can outlive."""
        return 10.0 if self.clock else max(SHORT, self.capabilities.min_lease)

    @property
    def long(self) -> float:
        """Seconds of a lease that no test outlives."""
        return min(10_000.0 if self.clock else max(LONG, 6 * self.short), self.capabilities.max_lease)

    def now(self) -> datetime:
        """The time by which the broker judges."""
        return self.clock.now() if self.clock else datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if self.clock:
            self.clock.advance(seconds)
        else:
            time.sleep(seconds)

    def expire(self, lease: float | None = None) -> None:
        """Let so much time pass that a lease (:attr:`short`) taken before has run out and its message is back."""
        self.advance((self.short if lease is None else lease) + self.capabilities.expiry_bound + 0.05)

    def back_within(self, lease: float | None = None) -> float:
        """Seconds after which a message is available again whose holder died, or that never reached its consumer."""
        declared = self.capabilities
        return max((self.short if lease is None else lease) + declared.expiry_bound, declared.transit)

    # Messages

    def queue(self, label: str = "q") -> str:
        """The name of a queue that nobody has used yet."""
        name = f"{self.namespace}-{label}{len(self._queues)}"
        self._queues.append(name)
        return name

    def clean_up(self, queue: str) -> str:
        """Empty this queue too after the test; returns its name."""
        self._queues.append(queue)
        return queue

    def message(self, queue: str, body: bytes = b"", *, id: str | None = None, **fields: Any) -> Message:
        """A message, not sent yet, with an id that nobody has used (``id`` becomes a part of it)."""
        return Message(f"{self.namespace}.{id or next(self._ids)}", queue, body, **fields)

    def put(self, queue: str, body: bytes = b"", **fields: Any) -> Message:
        """Enqueue one message."""
        message = self.message(queue, body, **fields)
        self.broker.enqueue([message])
        return message

    def take(
        self,
        queue: str,
        number: int = 1,
        *,
        lease: float | None = None,
        within: float = 0.0,
        broker: Broker | None = None,
    ) -> list[Delivery]:
        """Acquire exactly so many messages, which must be there, or be there ``within`` so many seconds.

        A broker may be slow: the seconds count anew with each message that it delivers.
        """
        broker = broker or self.broker
        taken: list[Delivery] = []
        deadline = time.monotonic() + within + PATIENCE
        while len(taken) < number:
            if time.monotonic() > deadline:
                raise LawBroken(
                    f"{len(taken)} of {number} messages were delivered, no more within {within + PATIENCE:g} s"
                )
            wait = 0.0 if self.clock else 0.2
            more = broker.acquire([queue], limit=number - len(taken), wait=wait, lease=lease or self.long)
            taken += more
            if more:
                deadline = time.monotonic() + within + PATIENCE
            elif self.clock:  # no time passes by itself: it will not come
                raise LawBroken(f"{len(taken)} of {number} messages are deliverable", self._first_missing(taken))
        return taken

    def lose(self, queue: str, number: int = 1) -> list[Delivery]:
        """Acquire messages and lose their leases, by time or, where leases are connections, by the connection.

        Afterwards the messages are available again, and what is returned is stale as soon as somebody has them.
        """
        if self.capabilities.lease is Lease.CONNECTION:
            holder = self.open()
            stale = self.take(queue, number, broker=holder)
            holder.close()
        else:
            stale = self.take(queue, number, lease=self.short)
            self.expire()
        return stale

    def assert_nothing(self, *queues: str, why: str, broker: Broker | None = None) -> None:
        """Nothing is deliverable from the queues; ``why`` says why nothing should be."""
        wait = 0.0 if self.clock else WATCH
        taken = (broker or self.broker).acquire(list(queues), limit=10, wait=wait, lease=self.long)
        if taken:
            raise LawBroken(f"delivered although {why}", taken[0].message.id)

    def assert_gone(self, *queues: str, why: str) -> None:
        """Nothing is left of the queues: not deliverable, not counted, not listed."""
        self.assert_nothing(*queues, why=why)
        if not self.capabilities.inspect:
            return
        for queue in queues:
            left = self.broker.peek(queue, limit=5)
            if left or self.stats(queue).total:
                raise LawBroken(f"still stored although {why}", left[0].id if left else None)
        if listed := [queue for queue in self.queues() if queue in queues]:
            raise LawBroken(f"queues {listed} are still listed although {why}")

    def stats(self, queue: str) -> Stats:
        """Of a broker that declares ``inspect``."""
        return self.broker.stats(queue)

    def queues(self) -> list[str]:
        """The queues of this test that hold messages, of a broker that declares ``inspect``."""
        return [name for name in self.broker.queues() if name in self._queues]

    # The report

    def untested(self, reason: str) -> NoReturn:
        """Say that this cannot be tested here, and why."""
        raise Untested(reason)

    def require_timed_leases(self) -> None:
        """Say that what needs a lease to run out by time cannot be tested where none does."""
        if self.capabilities.lease is not Lease.TIMED:
            self.untested("leases do not run out by time, and the broker declares so")

    def figure(self, name: str, seconds: float) -> None:
        """Add a measurement to the report, which shows the median and the 99th percentile of all with this name."""
        self.figures.setdefault(name, []).append(seconds)

    def history(self) -> History:
        """What was done so far, also by other processes."""
        for peer in self._peers:
            self.journal.add_all(peer.path)
        return msgspec.structs.replace(self.journal.history(), deaths=tuple(self._deaths))

    def server_died(self) -> None:
        """Take note that the service has been killed."""
        self._deaths.append(time.monotonic())

    def close(self) -> None:
        """Leave nothing behind: no process, no message, no connection."""
        for peer in self._peers:
            peer.end()
        with suppress(AnybrokerError):
            if self._queues and self.clock is None:
                self._empty()
        for broker in self._opened:
            with suppress(AnybrokerError):
                broker.recorded.close()

    def _empty(self) -> None:
        with_purge: Any = self.suite.connect()
        try:
            for queue in self._queues:
                if with_purge.capabilities.inspect:
                    with_purge.purge(queue)
                while taken := with_purge.acquire([queue], limit=100, wait=0, lease=self.long):
                    with_purge.ack(taken)
        finally:
            with_purge.close()

    def _first_missing(self, taken: list[Delivery]) -> str | None:
        known = {one.message.id for one in taken}
        return next((id_ for id_ in self.history().ids if id_ not in known), None)
