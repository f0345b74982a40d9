"""What a broker object has in one process: a connection, leases, pulls, and the thread for what is not due."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from anybroker.broker import Delivery
from anybroker.errors import AnybrokerError, Unsupported
from anybroker_broker_pubsub import overview, settling
from anybroker_broker_pubsub.connection import Connection
from anybroker_broker_pubsub.errors import NotThere
from anybroker_broker_pubsub.later import Later
from anybroker_broker_pubsub.leases import Claim, Leases, Settlement
from anybroker_broker_pubsub.messages import delivery_count, eta_of, forwarded, ordered_count, pack, unpack, unseen
from anybroker_broker_pubsub.options import MAX_LEASE, MIN_ACK_DEADLINE, MIN_LEASE, PULL_BATCH
from anybroker_broker_pubsub.parking import Parked, Parking
from anybroker_broker_pubsub.publishing import publish
from anybroker_broker_pubsub.pulls import LOOK, Pulled, Pulls
from anybroker_broker_pubsub.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anybroker.broker import Message
    from anybroker_broker_pubsub.options import Settings

Answer = TypeVar("Answer")

_log = logging.getLogger("anybroker.pubsub")

DUE_BEFORE = 30 / 31
"""The part of a subscription's retention after which a message may be due that waits there: of 31 days, 30."""
ROUNDS = 2
"""How often a message with an ordering key is handed on unseen, which counts; after that it waits here."""
KEPT = 60
"""Seconds for which it is held then, again and again."""
UPDATE_TAKES = 10.0
"""Seconds that an update may take: a lease that ends before is extended first. Not more than ``transit`` declares."""


class Session:
    """One process's part of a broker object. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self._exactly_once = settings.options.exactly_once
        self._create = settings.options.create
        self._connection = Connection(settings)
        self._topology = Topology(self._connection, settings)
        self._ordered = settings.options.ordering
        portion = 1 if self._ordered else PULL_BATCH  # more could be of one ordering key
        self._pulls = Pulls(self._connection, self._topology, settings.pull_wait, portion)
        self._leases = Leases()
        self._parking = Parking(self._connection)
        self._uncounted = False
        """A message came without a count of its deliveries."""
        self.later = Later(self._connection, self._topology, self._look_after, settings.pull_wait)

    # looking

    def known_queues(self) -> list[str]:
        """The queues with our prefix."""
        return overview.known_queues(self._connection, self._topology.names)

    def clear(self, queue: str) -> None:
        """Forget what is in a queue; nothing where there is none."""
        with suppress(NotThere):
            overview.clear(self._connection, self._topology.names, queue, create=self._create)

    # storing

    def put(self, messages: Sequence[Message]) -> tuple[set[int], AnybrokerError | None]:
        """Publish messages; returns the positions of those that are stored, and the first error.

        Positions, since two messages may have the same id.
        """
        return self._again(lambda: self._put(messages))

    def _again(self, call: Callable[[], Answer]) -> Answer:
        """Do something, and once more where a topic or subscription was missing, which may be created."""
        try:
            return call()
        except NotThere:
            self._topology.forget()
            return call()

    def _put(self, messages: Sequence[Message]) -> tuple[set[int], AnybrokerError | None]:
        now = datetime.now(UTC)
        names = self._topology.names
        batches: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        packed: list[Any] = []
        for message in messages:
            later = message.eta is not None and message.eta > now and message.ordering_key is None
            name = self._topology.ensure_later() if later else self._topology.ensure(message.queue)
            if message.ordering_key is not None:
                _check_kept(message, now, self._topology.retention(name))
            made = pack(message, queue=message.queue if later else None)
            batches[names.topic(name), made.ordering_key].append(made)
            packed.append(made)
        stored, failed = publish(self._connection, [(topic, made) for (topic, _), made in batches.items()])
        if isinstance(failed, NotThere) and not stored:
            raise failed
        return {position for position, made in enumerate(packed) if id(made) in stored}, failed

    # taking

    def look(self, queues: Sequence[str], limit: int, lease: float, *, covered: bool) -> list[Delivery]:
        """What the queues have now, in their order. ``covered``: not where a pull is on its way, which brings it."""
        taken: list[Delivery] = []
        enough = time.monotonic() + LOOK
        try:
            for queue in queues:
                while len(taken) < limit and not (covered and self._pulls.covers(queue)):
                    pulled = self._again(partial(self._pulls.look, queue, limit - len(taken)))
                    due = self._admit(pulled, limit - len(taken), lease)
                    taken += due
                    if not pulled.messages or (not due and time.monotonic() > enough):  # much may wait for its eta
                        break
        except AnybrokerError:
            if not taken:  # what is held must not be forgotten because another queue cannot be had
                raise
        return taken

    def wait(self, queues: Sequence[str], limit: int, end: float, lease: float) -> list[Delivery]:
        """The first messages that one of the queues gets, until ``end`` by ``time.monotonic``."""
        pulled = self._again(lambda: self._pulls.wait(queues, limit, max(0.0, end - time.monotonic())))
        taken = self._admit(pulled, limit, lease) if pulled else []
        if taken and self._ordered:
            with suppress(AnybrokerError):
                taken += self.look(queues, limit - len(taken), lease, covered=False)
        return taken

    def _admit(self, pulled: Pulled, limit: int, lease: float) -> list[Delivery]:
        """Deliveries of what was pulled: held as long as asked for, and due."""
        now = datetime.now(UTC)
        name = self._topology.names.of(pulled.queue)
        due: list[Any] = []
        early: list[Any] = []
        parked: list[Parked] = []
        for one in pulled.messages:
            eta = eta_of(one.message.attributes)
            if eta is None or eta <= now:
                due.append(one)
            elif self._is_keyed(one):
                parked.append(Parked(self._topology.names.subscription(name), one.ack_id, eta))
            else:
                early.append(one)
        try:
            self._parking.hold(parked)
            self._put_off(name, pulled.queue, early)
        except AnybrokerError as error:
            if not due:
                raise
            _log.warning("what is not due in %s comes again by its deadline: %s", name, error)
        with suppress(AnybrokerError):  # it comes back by its deadline
            self._return_unseen(name, due[limit:])
        due, since, seconds = due[:limit], pulled.at, _whole(lease)
        if due and (self._topology.deadline(name) != seconds or time.monotonic() - since > 1.0):
            since = time.monotonic()
            answers = settling.modify(
                self._connection, self._topology.names.subscription(name), [one.ack_id for one in due], seconds
            )
            due = [one for one in due if answers[one.ack_id]]
        until = since + seconds
        lease_until = datetime.now(UTC) + timedelta(seconds=until - time.monotonic())
        tokens = self._leases.hold(pulled.queue, [one.ack_id for one in due], until)
        return [
            Delivery(
                unpack(one.message, pulled.queue, ordered=self._ordered),
                token,
                self._count(name, one),
                lease_until,
            )
            for one, token in zip(due, tokens, strict=True)
        ]

    def _is_keyed(self, received: Any) -> bool:
        """Whether it has a place to keep, in its ordering key's line."""
        return self._ordered and bool(received.message.ordering_key)

    def _count(self, name: str, received: Any) -> int | None:
        count = ordered_count(received) if self._is_keyed(received) else delivery_count(received)
        if count is None and not self._uncounted:
            self._uncounted = True
            _log.warning(
                "Pub/Sub does not count the deliveries of %s, so a task that kills its worker runs for ever: its "
                "service account needs the roles publisher on the dead letter topic and subscriber on the subscription",
                name,
            )
        return count

    def _put_off(self, name: str, queue: str, early: Sequence[Any]) -> None:
        """What another program has published to a queue before it is due."""
        if not early:
            return
        made = [(one.ack_id, forwarded(one.message, queue=queue)) for one in early]
        stored, failed = self.later.put(message for _, message in made)
        settling.acknowledge(
            self._connection,
            self._topology.names.subscription(name),
            [ack_id for ack_id, message in made if id(message) in stored],
        )
        if failed is not None:
            raise failed

    def _look_after(self) -> None:
        """What is to be done twice a second."""
        self._return_unclaimed()
        self._parking.renew()

    def _return_unclaimed(self, *, everything: bool = False) -> None:
        for pulled in self._pulls.take_kept(everything=everything):
            with suppress(AnybrokerError):
                if everything:
                    self._return_unseen(self._topology.names.of(pulled.queue), pulled.messages)
                else:
                    self._keep(pulled)
        for pulled in self._pulls.take_unclaimed(everything=everything):
            name = self._topology.names.of(pulled.queue)
            if time.monotonic() - pulled.at < (self._topology.deadline(name) or MIN_ACK_DEADLINE) - 1.0:
                with suppress(AnybrokerError):  # else it has come back, or comes, by its deadline
                    if not everything and all(self._was_handed_round(one) for one in pulled.messages):
                        self._keep(pulled)
                    else:
                        self._return_unseen(name, pulled.messages)

    def _was_handed_round(self, received: Any) -> bool:
        """Whether it is to wait here, since to give it back would count, and it has been given back often enough."""
        eta = eta_of(received.message.attributes)
        due = eta is None or eta <= datetime.now(UTC)
        return self._is_keyed(received) and due and (ordered_count(received) or 0) > ROUNDS

    def _keep(self, pulled: Pulled) -> None:
        """Hold messages for the next ``acquire`` of their queue here."""
        held_from = time.monotonic()
        subscription = self._topology.names.subscription(self._topology.names.of(pulled.queue))
        answers = settling.modify(self._connection, subscription, [one.ack_id for one in pulled.messages], KEPT)
        held = [one for one in pulled.messages if answers[one.ack_id]]
        if held:
            self._pulls.keep(Pulled(pulled.queue, held, held_from))

    def _return_unseen(self, name: str, received: Sequence[Any]) -> None:
        """Let others have what nobody here has seen.

        Giving it back would count as a delivery, so it is published anew, with the count of before. What Pub/Sub does
        not count, what it does not take, and what has a place to keep, is given back; or left, if it is not due.
        """
        now, subscription = datetime.now(UTC), self._topology.names.subscription(name)
        etas = {one.ack_id: eta_of(one.message.attributes) for one in received if self._is_keyed(one)}
        early = {ack_id: eta for ack_id, eta in etas.items() if eta is not None and eta > now}
        self._parking.hold(Parked(subscription, ack_id, eta) for ack_id, eta in early.items())
        received = [one for one in received if one.ack_id not in early]
        made = [(one.ack_id, unseen(one)) for one in received if one.delivery_attempt and not self._is_keyed(one)]
        stored, _ = publish(self._connection, [(self._topology.names.topic(name), [again for _, again in made])])
        moved = [ack_id for ack_id, again in made if id(again) in stored]
        settling.acknowledge(self._connection, subscription, moved)
        self._give_back(name, [one.ack_id for one in received if one.ack_id not in moved])

    # settling

    def acknowledge(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages; False where the lease was lost."""
        with self._leases.settling([(one, None) for one in deliveries]) as settlement:
            self._remove(settlement, settlement.left)
        return settlement.result()

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        """Hold messages for so many seconds from now; False where the lease was lost."""
        claims = [self._leases.live(one) for one in deliveries]
        held = self._extend([one for one in claims if one is not None], _whole(lease))
        return [one is not None and one.ack_id in held for one in claims]

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace messages by new versions; False where the lease was lost."""
        with self._leases.settling(changes) as settlement:
            pending = [one for one in settlement.left if one.ack_id not in settlement.stored]
            certain = self._secured(pending)
            settlement.answers |= {one.ack_id: False for one in pending if one.ack_id not in certain}
            pending = [one for one in pending if one.ack_id in certain]
            for name, ack_ids in self._by_name(one for one in pending if self._stays(one)).items():
                self._give_back(name, ack_ids, settlement.answers)
            failed = self._store(settlement, [one for one in pending if not self._stays(one)])
            self._remove(settlement, [one for one in settlement.left if one.ack_id in settlement.stored])
            if failed is not None:
                raise failed
        return settlement.result()

    def _store(self, settlement: Settlement, claims: Sequence[Claim]) -> AnybrokerError | None:
        """Publish new versions; returns the first error."""
        changes = [(one.ack_id, one.new) for one in claims if one.new is not None]
        positions, failed = self.put([new for _, new in changes])
        settlement.stored |= {changes[position][0] for position in positions}
        return failed

    def _stays(self, change: Claim) -> bool:
        """Whether it is given back instead of published anew, so that it keeps its place in its ordering key's line."""
        return self._ordered and change.old == change.new and change.old.ordering_key is not None

    def _secured(self, claims: Sequence[Claim]) -> set[str]:
        """Whose leases are valid, and will be until an update is done: nothing else tells before it is too late."""
        now = time.monotonic()
        ends = [now if one.until is None else one.until for one in claims]
        short = [one for one, end in zip(claims, ends, strict=True) if self._exactly_once or end < now + UPDATE_TAKES]
        seconds = _whole(max(UPDATE_TAKES, max(ends, default=now) - now))
        return {one.ack_id for one in claims if one not in short} | (self._extend(short, seconds) if short else set())

    def _extend(self, claims: Sequence[Claim], seconds: int) -> set[str]:
        """Change deadlines; returns the ack ids of the leases that were valid."""
        until = time.monotonic() + seconds
        held: set[str] = set()
        for name, ack_ids in self._by_name(claims).items():
            answers = settling.modify(self._connection, self._topology.names.subscription(name), ack_ids, seconds)
            held.update(ack_id for ack_id, answer in answers.items() if answer)
        self._leases.extend(held, until)
        self._leases.extend([one.ack_id for one in claims if one.ack_id not in held], 0.0)
        return held

    def _remove(self, settlement: Settlement, claims: Sequence[Claim]) -> None:
        """Acknowledge messages, one subscription after the other."""
        for name, ack_ids in self._by_name(claims).items():
            subscription = self._topology.names.subscription(name)
            settling.acknowledge(self._connection, subscription, ack_ids, settlement.answers)

    def _by_name(self, claims: Iterable[Claim]) -> dict[str, list[str]]:
        """Ack ids by subscription."""
        found: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for one in claims:
            found[self._topology.names.of(one.old.queue)][one.ack_id] = None
        return {name: list(ack_ids) for name, ack_ids in found.items()}

    def _give_back(self, name: str, ack_ids: Sequence[str], answers: dict[str, bool] | None = None) -> None:
        settling.modify(self._connection, self._topology.names.subscription(name), ack_ids, 0, answers)

    def close(self) -> None:
        """Give back what is held, and disconnect."""
        self.later.stop()
        try:
            with suppress(AnybrokerError):  # it comes back by its deadline
                self._return_unclaimed(everything=True)
                for queue, ack_ids in self._leases.end_all().items():
                    self._give_back(self._topology.names.of(queue), ack_ids)
        finally:
            self._connection.close()


def _check_kept(message: Message, now: datetime, kept: timedelta) -> None:
    """A message with an ordering key waits where it is, and must not be dropped there. Raises ``Unsupported``."""
    if message.eta is not None and message.eta - now > kept * DUE_BEFORE:
        raise Unsupported(
            f"message {message.id!r}: with an ordering_key it may be delayed by {kept * DUE_BEFORE}, "
            f"since its subscription keeps messages for {kept} (retention)"
        )


def _whole(seconds: float) -> int:
    """A lease in whole seconds, as Pub/Sub has it: not shorter than asked for."""
    return max(MIN_LEASE, min(MAX_LEASE, math.ceil(seconds)))
