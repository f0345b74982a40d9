"""The SQS broker: the six verbs, and how each keeps its laws on a service that has no update."""

from __future__ import annotations

import logging
import os
import time
import weakref
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from anybroker import capabilities as declare
from anybroker.broker import Delivery
from anybroker.errors import AnybrokerError, BrokerUnavailable, LeaseLost
from anybroker.validation import check_changes, check_messages
from anybroker_broker_sqs import batches, envelope, overview
from anybroker_broker_sqs.connection import Connection
from anybroker_broker_sqs.envelope import whole
from anybroker_broker_sqs.errors import QueueMissing
from anybroker_broker_sqs.leases import Lease, whole_lease
from anybroker_broker_sqs.options import BATCH, MAX_LEASE, read_settings
from anybroker_broker_sqs.polls import Polls
from anybroker_broker_sqs.process import Portion, Process
from anybroker_broker_sqs.received import Received
from anybroker_broker_sqs.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from anybroker.broker import Broker, Estimate, Message, Overview
    from anybroker_broker_sqs.batches import Outcomes
    from anybroker_broker_sqs.envelope import Sendable
    from anybroker_broker_sqs.options import Settings

_log = logging.getLogger("anybroker.sqs")

SAFE = 2.0
"""Seconds that a lease must have left for an update, which takes two calls; else it is held a little longer first."""
HOLD = 3
"""Seconds for which it is held then."""
LAG = 1
"""Seconds that SQS may have handed a message out before it was here: it counts the 12 hours from then."""
ROUNDS = 2
"""How often a message of a FIFO queue is handed on unseen, which counts; after that it waits here."""
MORE = 0.2
"""Seconds for which an acquire goes on receiving, before it returns what it has, or waits no longer."""
HIDING = 15.0
"""Seconds for which an acquire goes on past its wait to hide what is not due yet, and is first in a FIFO queue: one
message at a time, so that who ended it sooner would get behind them only after many calls that bring nothing."""
LONGEST_WAIT = 365 * 86_400.0
"""Seconds of a wait, also of one for ever: threads cannot wait for longer than C counts."""


class SqsBroker:
    """Messages in queues of Amazon SQS. Thread-safe; the child of a fork connects anew and holds nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limit = settings.options.message_size
        self._fifo = settings.options.fifo
        self._portion = 1 if self._fifo else BATCH  # more could be of one ordering key, and for one consumer at once
        self._here = self._new_process()
        self.capabilities = declare.Capabilities(
            durability=declare.Durability.SERVER,
            exclusive=declare.Guarantee.BEST_EFFORT,
            fencing=declare.Guarantee.BEST_EFFORT,
            final=declare.Guarantee.EXACT if self._fifo else declare.Guarantee.BEST_EFFORT,
            update=declare.Guarantee.BEST_EFFORT,
            ordering=declare.Ordering.PER_KEY if self._fifo else declare.Ordering.NONE,
            clock=declare.Clock.CLIENT,
            overview=True,
            max_body=envelope.largest_body(settings.options.message_size),
            min_lease=1.0,
            max_lease=float(MAX_LEASE),
            delay_precision=1.5,
            expiry_bound=1.5,
            wake_bound=0.1,
            wait_slack=0.5,
        )
        """What SQS promises of a standard queue, and no more; see docs/brokers/sqs.md for each."""
        _brokers.add(self)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``sqs://region/``, with the options of :class:`~anybroker_broker_sqs.options.Options`.

        Raises ``ConfigurationError``.
        """
        return cls(read_settings(url))

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages, ten a call. An id that is there already is stored a second time."""
        check_messages(messages, self.capabilities)
        self._open()
        sendables = self._pack(messages)
        outcomes = self._send(sendables)
        failed = next(filter(None, outcomes), None)
        if isinstance(failed, BrokerUnavailable):
            stored = [one.message.id for one, outcome in zip(sendables, outcomes, strict=True) if outcome is None]
            raise BrokerUnavailable(str(failed), stored=stored) from failed
        if failed is not None:
            raise failed

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages: what is there by a short poll, else whatever the first long poll brings."""
        seconds = whole_lease(lease)
        here = self._open()
        queues = list(dict.fromkeys(queues))
        deadline = time.monotonic() + min(wait, LONGEST_WAIT)
        taken = here.polls.take(queues, limit)
        for queue in queues:
            if len(taken) < limit and not (wait > 0 and here.polls.covers(queue)):
                try:
                    taken += self._receive_all(here, queue, limit - len(taken), seconds, deadline)
                except AnybrokerError:
                    if not taken:
                        raise
                    break  # what other queues have brought counts more
        if taken or wait <= 0 or limit <= 0 or not queues:
            return taken
        return here.polls.wait(queues, limit, deadline - time.monotonic(), seconds)

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Delete messages, ten a call."""
        here = self._open()
        settling = Settling([one.token for one in deliveries])
        places = list(settling.claimed)
        outcomes = batches.delete(here.connection, [settling.claimed[place] for place in places])
        for place, error in zip(places, outcomes, strict=True):
            settling.end(place, error)
        return settling.answers()

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Send the new versions, then delete the old ones; a death in between leaves both."""
        check_changes(changes, self.capabilities)
        self._open()
        tokens = [delivery.token for delivery, _ in changes]
        sendables = self._pack([message for _, message in changes], tokens)
        settling = Settling(tokens)
        if self._fifo:
            self._release(settling, changes)
        return self._replace(settling, sendables)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Change the visibility timeout of messages, ten a call; 12 hours after the receive is the end."""
        seconds = whole_lease(lease)
        self._open()
        now = time.monotonic()
        tokens = [one.token for one in deliveries]
        held = dict.fromkeys(one for one in tokens if isinstance(one, Lease) and one.held)
        changes = [(one, min(seconds, MAX_LEASE - whole(now - one.began) - LAG)) for one in held]
        changes = [(one, left) for one, left in changes if left > 0]
        outcomes: dict[Hashable, AnybrokerError | None] = dict(
            zip((one for one, _ in changes), self._hide(changes), strict=True)
        )
        for error in outcomes.values():
            if error is not None and not isinstance(error, LeaseLost):
                raise error
        return [one in outcomes and outcomes[one] is None for one in tokens]

    def close(self) -> None:
        """Give back what this object holds, unless SQS cannot be reached: then the leases end by time."""
        here = self._here
        if here.closed:
            return
        here.closed = True
        here.polls.close()
        self._give_back(here, here.held.all())
        here.connection.close()

    def known_queues(self) -> list[str]:
        """The queues with the prefix of the URL."""
        return overview.known_queues(self._open().connection, self._settings.options)

    def estimate(self, queue: str) -> Estimate:
        """What SQS tells about how many messages a queue holds; of a FIFO queue only those that are ready."""
        return overview.estimate(self._open().connection, queue, fifo=self._fifo)

    def clear(self, queue: str) -> None:
        """Let SQS purge a queue: once in 60 seconds, and it takes as long."""
        overview.clear(self._open().connection, queue)

    # sending

    def _pack(
        self, messages: Sequence[Message], tokens: Sequence[Hashable] = (), counts: Sequence[int] = ()
    ) -> list[Sendable]:
        """Turn messages into entries; ``tokens`` and ``counts`` are those of the versions that they replace."""
        now = datetime.now(UTC)
        before = [token.message_id if isinstance(token, Lease) else None for token in tokens] or [None] * len(messages)
        return [
            envelope.pack(
                message, now=now, fifo=self._fifo, limit=self._limit, replaces=replaces, deliveries=deliveries
            )
            for message, replaces, deliveries in zip(messages, before, counts or [0] * len(messages), strict=True)
        ]

    def _send(self, sendables: Sequence[Sendable]) -> Outcomes:
        """Send each to its queue; what came of it."""
        connection = self._here.connection
        urls: dict[str, str | AnybrokerError] = {}
        for queue in {one.message.queue for one in sendables}:
            try:
                urls[queue] = connection.url(queue)
            except AnybrokerError as error:
                urls[queue] = error
        outcomes: Outcomes = []
        known: list[tuple[str, Sendable]] = []
        for one in sendables:
            url = urls[one.message.queue]
            outcomes.append(None if isinstance(url, str) else url)
            if isinstance(url, str):
                known.append((url, one))
        sent = iter(batches.send(connection, known, limit=self._limit, in_order=self._fifo))
        outcomes = [next(sent) if outcome is None else outcome for outcome in outcomes]
        for one, outcome in zip(sendables, outcomes, strict=True):
            if isinstance(outcome, QueueMissing):
                connection.forget(one.message.queue)
        return outcomes

    # settling

    def _replace(self, settling: Settling, sendables: Sequence[Sendable]) -> list[bool]:
        """Send new versions and delete the old ones, in this order, each only where the step before succeeded."""
        soon = time.monotonic() + SAFE
        brief = [place for place, one in settling.claimed.items() if one.ends < soon]
        held = self._hide([(settling.claimed[place], HOLD) for place in brief])
        for place, error in zip(brief, held, strict=True):
            if error is not None:
                settling.end(place, error)
        unsent = [place for place, one in settling.claimed.items() if one.successor != sendables[place].message]
        for place, error in zip(unsent, self._send([sendables[place] for place in unsent]), strict=True):
            if error is None:
                settling.claimed[place].successor = sendables[place].message
            else:
                settling.end(place, error)
        places = list(settling.claimed)
        outcomes = batches.delete(self._here.connection, [settling.claimed[place] for place in places])
        for place, error in zip(places, outcomes, strict=True):
            # the new version is there, so this much is true even if somebody else got the old one at this moment
            settling.end(place, None if isinstance(error, LeaseLost) else error)
        return settling.answers()

    def _hide(self, changes: Sequence[tuple[Lease, int]]) -> Outcomes:
        """Let leases last so many seconds from now."""
        began = time.monotonic()
        wanted = [(*lease.key, seconds) for lease, seconds in changes]
        outcomes = batches.change_visibility(self._here.connection, wanted)
        for (lease, seconds), error in zip(changes, outcomes, strict=True):
            if error is None:
                lease.ends = began + seconds
        return outcomes

    def _release(self, settling: Settling, changes: Sequence[tuple[Delivery, Message]]) -> None:
        """Give back what does not change, in a FIFO queue: it keeps its place, which a new version does not."""
        same = [place for place in settling.claimed if changes[place][0].message == changes[place][1]]
        outcomes = self._hide([(settling.claimed[place], 0) for place in same])
        for place, error in zip(same, outcomes, strict=True):
            settling.finish(place, error)

    @staticmethod
    def _give_back(here: Process, leases: Iterable[Lease]) -> None:
        """Let others have messages at once; where that cannot be said, when the lease ends."""
        ours = [lease for lease in leases if lease.claim()]
        batches.change_visibility(here.connection, [(*lease.key, 0) for lease in ours])

    def _return_unseen(self, here: Process, unseen: Sequence[Delivery]) -> None:
        """Let others have what nobody here has seen.

        SQS has counted a receive all the same. One of a standard queue is sent anew, with the count of before; one of
        a FIFO queue would lose its place.
        """
        leases = [one.token for one in unseen if isinstance(one.token, Lease)]
        if not self._fifo:
            counts = [max(0, (one.delivery_count or 1) - 1) for one in unseen]
            with suppress(AnybrokerError):  # else it is given back as it is
                self._replace(Settling(leases), self._pack([one.message for one in unseen], leases, counts))
        self._give_back(here, leases)

    def _keep(self, unseen: Sequence[Delivery], lease: int) -> list[Delivery]:
        """Hold what has been handed round often enough, for another ``lease``; returns what is held."""
        if not self._fifo or all((one.delivery_count or 1) <= ROUNDS for one in unseen):
            return []
        until = datetime.now(UTC) + timedelta(seconds=lease)
        outcomes = self._hide([(one.token, lease) for one in unseen if isinstance(one.token, Lease)])
        return [
            msgspec.structs.replace(one, lease_until=until)
            for one, error in zip(unseen, outcomes, strict=True)
            if error is None
        ]

    # receiving

    def _receive_all(self, here: Process, queue: str, limit: int, lease: int, deadline: float) -> list[Delivery]:
        """What short polls bring: one, then several at once for as long as each brings all that it asked for.

        Several from the beginning, if the last one of this queue did. Until ``deadline`` where all of it is to wait on.
        """
        taken: list[Delivery] = []
        enough = time.monotonic() + MORE
        deadline += HIDING if self._fifo else 0.0
        ask = partial(self._try_to_receive, here, queue, lease)
        more = True
        while more and (room := limit - len(taken)) > 0:
            if time.monotonic() > (enough if taken else max(enough, deadline)):
                break
            starts = range(0, room, self._portion)[: self._settings.options.calls if queue in here.busy else 1]
            numbers = [min(self._portion, room - start) for start in starts]
            portions = here.connection.each(ask, numbers)
            taken += [one for portion in portions for one in portion.due]
            more = all(portion.full for portion in portions)
            (here.busy.add if more else here.busy.discard)(queue)
            if not taken:
                for portion in portions:
                    portion.raise_error()
        return taken

    def _try_to_receive(self, here: Process, queue: str, lease: int, number: int) -> Portion:
        """One of several receives: what the others have got counts more than its error."""
        try:
            return self._receive(here, queue, 0, lease, number)
        except AnybrokerError as error:
            return Portion([], full=False, error=error)

    def _poll(self, here: Process, queue: str, wait: int, lease: int, number: int) -> list[Delivery]:
        """What a long poll brings."""
        return self._receive(here, queue, wait, lease, number).due

    def _receive(self, here: Process, queue: str, wait: int, lease: int, number: int) -> Portion:
        """Receive as many as one call brings; those that are not due yet go on waiting in SQS."""
        url = here.connection.url(queue) if wait else here.connection.known_url(queue)
        if url is None:  # who only looks in, creates nothing
            return Portion([], full=False)
        began = time.monotonic()
        try:
            raws = here.connection.receive(url, min(self._portion, number), wait, lease)
        except QueueMissing:
            here.connection.forget(queue)
            raise
        if wait:
            began = time.monotonic()  # of a long poll, nobody knows better when SQS handed the messages out
        now = datetime.now(UTC)
        due: list[Received] = []
        early: list[Received] = []
        for raw in raws:
            token = Lease(url, raw["ReceiptHandle"], raw["MessageId"], began, lease)
            message, deliveries = envelope.unpack(raw, queue, fifo=self._fifo)
            one = Received(message, token, raw["Attributes"], deliveries)
            (early if one.waits(now) else due).append(one)
        here.held.add([one.lease for one in due])
        if early:
            self._put_off(here, queue, early)
        until = now + timedelta(seconds=began + lease - time.monotonic())
        taken = [Delivery(one.message, one.lease, one.count, until) for one in due]
        if here.closed:
            self._return_unseen(here, taken)
            return Portion([], full=False)
        return Portion(taken, full=len(raws) == min(self._portion, number))

    def _put_off(self, here: Process, queue: str, early: Sequence[Received]) -> None:
        """Let messages wait on, unseen: SQS delays a message by 15 minutes at most, and one of a FIFO queue not at all.

        One of a standard queue is sent anew. One of a FIFO queue is hidden where it is, so that it keeps its place;
        unless SQS would forget it before it is due.
        """
        kept = here.connection.kept(queue) if self._fifo else 0
        now = datetime.now(UTC)
        hidden = [one for one in early if self._fifo and one.lasts(now, kept)]
        self._hide([(one.lease, one.hidden(now, kept)) for one in hidden])
        moved = [one for one in early if one not in hidden]
        leases = [one.lease for one in moved]
        try:
            self._replace(Settling(leases), self._pack([one.message for one in moved], leases))
        except AnybrokerError as error:  # what is due, and came together with them, counts more
            level = logging.DEBUG if isinstance(error, BrokerUnavailable) else logging.WARNING
            _log.log(level, "%d messages wait on when their leases have ended: %s", len(early), error)

    # what a fork must not share

    def _open(self) -> Process:
        if self._here.closed:
            raise BrokerUnavailable(f"this broker of {self._settings.shown} was closed")
        return self._here

    def _new_process(self) -> Process:
        def polls(here: Process) -> Polls:
            give_back = partial(self._return_unseen, here)
            return Polls(partial(self._poll, here), give_back, self._keep, self._settings.options.wait)

        return Process(Connection(self._settings), polls)

    def after_fork(self) -> None:
        """In the child: nothing of the parent's is used, neither connections nor leases nor locks."""
        closed = self._here.closed
        self._here = self._new_process()
        self._here.closed = closed


_brokers: weakref.WeakSet[SqsBroker] = weakref.WeakSet()


def _after_fork() -> None:
    for broker in list(_brokers):
        broker.after_fork()


os.register_at_fork(after_in_child=_after_fork)

_: type[Broker] = SqsBroker
__: type[Overview] = SqsBroker
