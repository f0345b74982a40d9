"""Messages that are not due: parked in the service, by deadlines, and published to their queues when they are.

Pub/Sub delays nothing. So there is one topic for what is not due, and every consumer looks after its subscription: what
it pulls too early it leaves unacknowledged with a deadline up to the ``eta``, 600 s at most, and forgets. Pub/Sub then
delivers it again, to any consumer. Only the last second is waited for here, under a lease that is longer. What is due
is published to the topic of its queue and then acknowledged: a death in between makes two of it, and never none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from anybroker.errors import AnybrokerError
from anybroker_broker_pubsub import settling
from anybroker_broker_pubsub.connection import PULL, PullRequest
from anybroker_broker_pubsub.errors import NotThere, TimedOut
from anybroker_broker_pubsub.messages import QUEUE, eta_of, forwarded
from anybroker_broker_pubsub.options import MAX_ACK_DEADLINE, MIN_ACK_DEADLINE, PULL_BATCH
from anybroker_broker_pubsub.publishing import publish
from anybroker_broker_pubsub.pulls import EARLY, GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from anybroker_broker_pubsub.connection import Call, Connection
    from anybroker_broker_pubsub.topology import Topology

POLL = 2.0
"""Seconds that a pull waits for messages at least."""
TICK = 0.5
"""Seconds after which the thread looks whether there is anything to do."""
SOON = 1.5
"""Seconds to its ``eta`` within which a message is waited for, and not parked again."""
SAFE = MIN_ACK_DEADLINE - 2.0
"""Seconds after a pull in which what it brought is surely still held."""
COARSE = 30
"""Deadlines above this many seconds are multiples of it, so that a thousand messages take few calls."""
STOP = 1.0
"""Seconds that a close waits for the thread, which may be in the middle of a call."""
PAUSE = 1.0
"""Seconds before the next try after an error."""
REFUSED = 10
"""Seconds for which a message is parked that its queue's topic did not take."""
_SOURCE = "CloudPubSubDeadLetterSourceSubscription"
"""Attribute of a message that Pub/Sub itself has given up and put here."""

Pair = tuple[str, Any]
"""An ack id, and the message to be published before it is acknowledged."""
Target = tuple[str, Sequence[Pair]]
"""A topic, and what is for it."""

_log = logging.getLogger("anybroker.pubsub")


class Waiting(NamedTuple):
    """A message that was pulled."""

    ack_id: str
    message: Any
    due: float
    """By ``time.monotonic``."""
    held_until: float
    """By ``time.monotonic``."""


class Later:
    """The thread of a consumer that looks after what is not due."""

    def __init__(self, connection: Connection, topology: Topology, chore: Callable[[], object], longest: float) -> None:
        """``chore`` is called twice a second, from the thread. ``longest``: seconds of a pull."""
        self._poll = max(POLL, longest)
        self._connection = connection
        self._topology = topology
        self._chore = chore
        self._soon: list[Waiting] = []
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin; nothing where it has begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="anybroker-pubsub-later", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End; what is held comes back by its deadline."""
        self._stopped.set()
        self._wake.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(STOP)

    def put(self, messages: Iterable[Any]) -> tuple[set[int], AnybrokerError | None]:
        """Publish packed messages that are not due, as :func:`publish` does."""
        name = self._topology.ensure_later()
        return publish(self._connection, [(self._topology.names.topic(name), list(messages))])

    def _run(self) -> None:
        call: Call | None = None
        troubled = False
        while not self._stopped.is_set():
            try:
                call = self._round(call)
                troubled = False
            except Exception as error:
                call = None
                if not troubled and not self._stopped.is_set():
                    expected = isinstance(error, AnybrokerError)
                    _log.warning(
                        "what is due later is not looked after for now: %s", error, exc_info=None if expected else error
                    )
                troubled = True
                self._stopped.wait(PAUSE)
        if call is not None:
            call.cancel()

    def _round(self, call: Call | None) -> Call:
        """Wait until something is to be done, and do it."""
        call = call or self._pull()
        next_due = min((one.due for one in self._soon), default=float("inf"))
        self._wake.wait(min(TICK, max(0.0, next_due - time.monotonic())))
        self._wake.clear()
        if self._stopped.is_set():
            return call
        brought = self._brought(call) if call.done else None
        self._chore()
        if brought:
            self._sort(brought, call.done_at)
        now = time.monotonic()
        due = [one for one in self._soon if one.due <= now]
        self._soon = [one for one in self._soon if one.due > now]
        self._deliver([one for one in due if now < one.held_until])
        if brought is None:
            return call
        if not brought:
            self._stopped.wait(EARLY)  # a service that does not wait is not asked without a pause
        return self._pull()

    def _pull(self) -> Call:
        subscription = self._topology.names.subscription(self._topology.ensure_later())
        request = PullRequest(subscription=subscription, max_messages=PULL_BATCH)
        call = self._connection.start(PULL, request, timeout=self._poll + GRACE)
        call.when_done(self._wake.set)
        return call

    def _brought(self, call: Call) -> Sequence[Any]:
        try:
            messages: Sequence[Any] = call.result().received_messages
        except TimedOut:
            return ()
        except NotThere:
            self._topology.forget()
            raise
        return messages

    def _sort(self, received: Sequence[Any], pulled_at: float) -> None:
        """Park what is far off, keep what is near, and renew what the service would soon drop."""
        parked: defaultdict[int, list[str]] = defaultdict(list)
        now, clock = datetime.now(UTC), time.monotonic()
        kept = self._topology.retention(self._topology.names.later)
        for one in received:
            attributes = one.message.attributes
            eta = eta_of(attributes) if attributes.get(QUEUE) else None  # else Pub/Sub gave it up: its queue keeps it
            left = (eta - now).total_seconds() if eta is not None else 0.0
            waiting = Waiting(one.ack_id, one.message, clock + left, pulled_at + SAFE)
            age = now - one.message.publish_time.ToDatetime(tzinfo=UTC)
            if left <= SOON:
                self._soon.append(waiting)
            elif age > kept / 2:
                self._renew(waiting)
            else:
                parked[_hop(left, kept)].append(one.ack_id)
        subscription = self._topology.names.subscription(self._topology.names.later)
        for seconds, ack_ids in parked.items():
            settling.modify(self._connection, subscription, ack_ids, seconds)

    def _renew(self, waiting: Waiting) -> None:
        topic = self._topology.names.topic(self._topology.names.later)
        self._move([(topic, [(waiting.ack_id, forwarded(waiting.message, queue=waiting.message.attributes[QUEUE]))])])

    def _deliver(self, due: Sequence[Waiting]) -> None:
        """Publish what is due to the topics of its queues."""
        names = self._topology.names
        queues: defaultdict[str, list[Pair]] = defaultdict(list)
        targets: list[Target] = []
        for one in due:
            queue, source = one.message.attributes.get(QUEUE), one.message.attributes.get(_SOURCE)
            if queue:
                queues[queue].append((one.ack_id, forwarded(one.message)))
            elif source:
                returned = forwarded(one.message, ordering_key=one.message.ordering_key)
                targets.append((names.topic(source), [(one.ack_id, returned)]))
            else:
                _log.error("a message in %s belongs to no queue: %s", names.later, one.message.message_id)
        for queue, pairs in queues.items():
            try:
                targets.append((names.topic(self._topology.ensure(queue)), pairs))
            except TimedOut:
                raise
            except AnybrokerError as error:
                self._park(names.topic(names.of(queue)), pairs, error)
        self._move(targets)

    def _move(self, targets: Sequence[Target]) -> None:
        """Publish, then acknowledge what is stored. What one topic does not take holds up no other."""
        stored, failed = publish(self._connection, [(topic, [one for _, one in pairs]) for topic, pairs in targets])
        try:
            if failed is not None:
                for topic, pairs in targets:
                    stored |= self._move_again(topic, [pair for pair in pairs if id(pair[1]) not in stored])
        finally:
            moved = [ack_id for _, pairs in targets for ack_id, message in pairs if id(message) in stored]
            settling.acknowledge(self._connection, self._topology.names.subscription(self._topology.names.later), moved)

    def _move_again(self, topic: str, pairs: Sequence[Pair]) -> set[int]:
        """Publish to one topic what was not taken; parks it if it is not taken again."""
        stored, failed = publish(self._connection, [(topic, [message for _, message in pairs])])
        if isinstance(failed, TimedOut):
            raise failed
        if isinstance(failed, NotThere):
            self._topology.forget()
        if failed is not None:
            self._park(topic, [pair for pair in pairs if id(pair[1]) not in stored], failed)
        return stored

    def _park(self, topic: str, pairs: Sequence[Pair], error: AnybrokerError) -> None:
        subscription = self._topology.names.subscription(self._topology.names.later)
        settling.modify(self._connection, subscription, [ack_id for ack_id, _ in pairs], REFUSED)
        _log.warning("%d messages that are due wait, since %s takes none: %s", len(pairs), topic, error)


def _hop(left: float, kept: timedelta) -> int:
    """For how many seconds to park what is due in ``left`` seconds: up to shortly before, in few different lengths.

    And for a quarter of the time for which the service keeps it at most, so that it is seen, and renewed, in time.
    """
    seconds = int(left - 0.5)
    if seconds > COARSE:
        seconds -= seconds % COARSE
    return max(1, min(MAX_ACK_DEADLINE, seconds, int(kept.total_seconds() / 4)))
