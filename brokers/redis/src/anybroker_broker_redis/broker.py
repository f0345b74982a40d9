"""The Redis broker: every verb one atomic script."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from anybroker import capabilities as declare
from anybroker.broker import Delivery, Message
from anybroker.errors import BrokerUnavailable, Unsupported
from anybroker.validation import check_changes, check_messages
from anybroker_broker_redis import durability, payload
from anybroker_broker_redis.inspection import Inspection
from anybroker_broker_redis.keys import WAKE, Keys
from anybroker_broker_redis.link import Link, command
from anybroker_broker_redis.options import read_url
from anybroker_broker_redis.scripts import script
from anybroker_broker_redis.servers import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anybroker.broker import Broker, Inspect
    from anybroker_broker_redis.link import Command
    from anybroker_broker_redis.scripts import Script

    Hold = tuple[str, int, int]

_ENQUEUE = script("enqueue")
_ENQUEUE_READY = script("enqueue_ready", behind=())
_ENQUEUE_ONE = script("enqueue_one", behind=())
_ACQUIRE = script("acquire")
_ACK = script("ack")
_UPDATE = script("update")
_EXTEND = script("extend")
_GIVE_UP = script("give_up")

MAX_LEASE = 365 * 86400.0
"""Seconds."""
MOST_AT_ONCE = 1000
"""Messages that one script leases, settles or extends: others wait meanwhile."""
ENQUEUE_AT_ONCE = 500
"""Messages that one script stores."""
LOOK_AGAIN = 1.0
"""Seconds after which one who waits looks again in any case: a wake-up is lost with the process that it reached."""
TIMER = 0.12
"""Seconds by which Redis may be late to end a wait: it looks at its clock ten times a second (its option ``hz``)."""
_PRUNE_ABOVE = 4096
"""Leases remembered for ``close`` before those that have run out are forgotten."""


class RedisBroker(Inspection):
    """Keeps messages in Redis, single, behind Sentinel, or in a cluster. Made by :meth:`from_url`."""

    def __init__(self, url: str) -> None:
        address, options = read_url(url)
        self._keys = Keys(options.prefix)
        self._link = Link(servers(address, options, self._keys.queues), options, address)
        self._durability = options.durability
        self._ask_again = 0.0
        """When to ask the server for it at the earliest; seconds of ``time.monotonic``."""
        self._closed = False
        self._held: dict[bytes, Hold] = {}
        """Leases that this object took: of which queue, which process took them, and when they run out."""
        self._quiet: tuple[frozenset[str], float] = (frozenset(), 0.0)
        """Queues that were empty, and until when it is not necessary to look at them before waiting."""
        self._declared = declare.Capabilities(
            durability=self._durability or declare.Durability.PROCESS,
            ordering=declare.Ordering.FIFO_PER_KEY,
            priorities=(-declare.INT32 - 1, declare.INT32),
            idempotent_enqueue=True,
            inspect=True,
            max_body=options.max_body,
            max_lease=MAX_LEASE,
            delay_precision=TIMER,
            expiry_bound=TIMER,
            wake_bound=0.05,
            wait_slack=TIMER,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Not connected yet. Raises ``ConfigurationError``. The forms and options: docs/brokers/redis.md."""
        return cls(url)

    @property
    def capabilities(self) -> declare.Capabilities:
        """Every law in full strength, with the durability that the server's own persistence gives.

        Asks the server for it, once; while that is away, it counts as none.
        """
        if self._durability is None and not self._closed and time.monotonic() >= self._ask_again:
            try:
                self._durability = durability.ask(self._link)
            except BrokerUnavailable:  # each of many messages that are sent at once asks what this is
                self._ask_again = time.monotonic() + durability.ASK_AGAIN
                return self._declared
            self._declared = msgspec.structs.replace(self._declared, durability=self._durability)
        return self._declared

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; an id that is still here is recognised and left as it is."""
        link = self._opened()
        check_messages(messages, self._declared)
        if len(messages) == 1:
            [message] = messages
            body = payload.payload(message)
            if body[0] == payload.PLAIN:
                keys = self._keys.of_ready(message.queue)
                link.call(_ENQUEUE_ONE, keys, (message.queue, message.id, body), writes=True)
                return
        calls: list[tuple[Command, Script, list[Message]]] = []
        for queue, group in _by_queue(messages):
            for part in _parts(group, ENQUEUE_AT_ONCE, self._declared.max_body):
                bodies = [payload.payload(message) for message in part]
                plain = all(body[0] == payload.PLAIN for body in bodies)
                arguments = [text for message, body in zip(part, bodies, strict=True) for text in (message.id, body)]
                verb, keys = (_ENQUEUE_READY, self._keys.of_ready(queue)) if plain else (_ENQUEUE, self._keys.of(queue))
                calls.append((command(verb, keys, (queue, *arguments)), verb, part))
        replies: list[Any] = []
        try:
            link.run([call for call, _, _ in calls], [script for _, script, _ in calls], replies, writes=True)
        except BrokerUnavailable as error:
            stored = [message.id for (_, _, part), _ in zip(calls, replies, strict=False) for message in part]
            raise BrokerUnavailable(str(error), stored=stored) from error

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages, waiting at most ``wait`` seconds for the first."""
        self._opened()
        microseconds = _microseconds(lease)
        names = tuple(dict.fromkeys(queues))
        if limit <= 0 or not names:
            return []
        keys = self._keys.of(names[0]) if len(names) == 1 else self._keys.of_all(names)
        deadline = time.monotonic() + wait
        alarm = self._known_quiet(names, wait)
        try:
            while not self._is_closed():
                if alarm is None:
                    alarm, taken = self._take(names, keys, limit, microseconds)
                    if taken:
                        return taken
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                woken = self._woken(keys, min(left, alarm, LOOK_AGAIN))
                if not woken and time.monotonic() >= deadline:
                    break
                alarm = None
        except BrokerUnavailable:
            if not self._is_closed():  # while this call was under way
                raise
        return []

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages for good; False where the lease had been lost."""
        answers = [False] * len(deliveries)
        if self._closed:
            return answers
        for queue, group in _grouped(deliveries):
            leases = [_lease(deliveries[at]) for at in group]
            keyed = [
                part
                for number, at in enumerate(group, 1)
                if (key := deliveries[at].message.ordering_key) is not None
                for part in (number, key)
            ]
            refused = self._link.call(
                _ACK, self._keys.of(queue), (queue, len(leases), *leases, *keyed), writes=True
            ) or repeat(1)
            for at, lease, answer in zip(group, leases, refused, strict=False):
                answers[at] = answer == 1
                self._held.pop(lease, None)
        return answers

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace leased messages by their new versions; False where the lease had been lost.

        A new version keeps its place, unless its queue or ordering key is another: then it arrives there as the last.
        """
        check_changes(changes, self._declared)
        if self._closed:
            return [False] * len(changes)
        answers: list[bool] = []
        for start in range(0, len(changes), ENQUEUE_AT_ONCE):
            part = changes[start : start + ENQUEUE_AT_ONCE]
            names = tuple(dict.fromkeys(one.queue for delivery, new in part for one in (delivery.message, new)))
            numbers = {name: number for number, name in enumerate(names, 1)}
            arguments: list[Any] = [len(names), *names]
            for delivery, new in part:
                old = delivery.message
                key = "" if old.ordering_key is None else f"={old.ordering_key}"
                arguments += (
                    numbers[old.queue], _lease(delivery), key, numbers[new.queue], payload.payload(new)
                )  # fmt: skip
            replies = self._link.call(_UPDATE, self._keys.of_all(names), arguments, writes=True)
            answers += [reply == 1 for reply in replies]
        for delivery, _ in changes:
            self._held.pop(_lease(delivery), None)
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Hold leases for ``lease`` seconds from now; False where one had been lost."""
        microseconds = _microseconds(lease)
        answers = [False] * len(deliveries)
        if self._closed:
            return answers
        for queue, group in _grouped(deliveries):
            leases = [_lease(deliveries[at]) for at in group]
            *replies, ends = self._link.call(_EXTEND, self._keys.of(queue), (microseconds, *leases))
            hold = (queue, os.getpid(), ends)
            for at, one, reply in zip(group, leases, replies, strict=True):
                answers[at] = reply == 1
                if reply == 1:
                    self._held[one] = hold
        return answers

    def close(self) -> None:
        """Give up the leases that this object holds in this process, and end its connections."""
        if self._closed:
            return
        self._closed = True
        try:
            self._give_up()
        finally:
            self._link.close()

    def _known_quiet(self, names: tuple[str, ...], wait: float) -> float | None:
        """Seconds for which it is enough to wait, if these queues were just found empty: what arrives wakes."""
        queues, until = self._quiet
        left = until - time.monotonic()
        return left if wait > 0 and left > 0 and queues == frozenset(names) else None

    def _woken(self, keys: Sequence[bytes], seconds: float) -> bool:
        """Wait at most so long. Whether there is something to see."""
        if not self._link.pop(keys[WAKE::6], seconds):
            return False
        self._quiet = (frozenset(), 0.0)
        if self._is_closed():
            self._link.call(_ACQUIRE, keys, (0, 0, ""))  # takes nothing, and so wakes another one
        return True

    def _is_closed(self) -> bool:
        return self._closed

    def _take(
        self, names: tuple[str, ...], keys: Sequence[bytes], limit: int, microseconds: int
    ) -> tuple[float, list[Delivery]]:
        """The seconds until the next message falls due, and what can be had now."""
        token = os.urandom(8).hex().encode()
        alarm, ends, *found = self._link.call(_ACQUIRE, keys, (min(limit, MOST_AT_ONCE), microseconds, token))
        if not found:
            seconds = alarm / 1e6 if alarm >= 0 else LOOK_AGAIN
            self._quiet = (frozenset(names), time.monotonic() + min(seconds, LOOK_AGAIN))
            return seconds, []
        until = datetime.fromtimestamp(ends / 1e6, UTC)
        make, after = payload.message, payload.MEMBER
        taken: list[Delivery] = []
        for number, members, values, counts in zip(*(iter(found),) * 4, strict=True):
            name = names[number - 1]
            leases = [token + member for member in members]
            taken += [
                Delivery(make(member[after:].decode(errors="replace"), name, stored), lease, count + 1, until)
                for member, lease, stored, count in zip(members, leases, values, counts or repeat(0), strict=False)
                if stored is not None  # removed by others
            ]
            self._hold(name, leases, ends - microseconds, ends)
        if self._is_closed():  # close() came too early to know of these
            self._give_up()
            return 0.0, []
        return 0.0, taken

    def _hold(self, queue: str, leases: Sequence[bytes], now: int, ends: int) -> None:
        if len(self._held) > _PRUNE_ABOVE:
            for lease, (_, _, runs_out) in list(self._held.items()):
                if runs_out < now:
                    self._held.pop(lease, None)
        self._held.update(dict.fromkeys(leases, (queue, os.getpid(), ends)))

    def _give_up(self) -> None:
        mine: dict[str, list[bytes]] = {}
        for lease, (queue, process, _) in list(self._held.items()):
            if process == os.getpid():
                mine.setdefault(queue, []).append(lease)
        self._held.clear()
        for queue, leases in mine.items():
            for start in range(0, len(leases), MOST_AT_ONCE):
                self._link.call(_GIVE_UP, self._keys.of(queue), leases[start : start + MOST_AT_ONCE])

    def _opened(self) -> Link:
        if self._closed:
            raise BrokerUnavailable(f"this broker of {self._link.address} was closed")
        return self._link


def _lease(delivery: Delivery) -> bytes:
    return cast("bytes", delivery.token)


def _microseconds(lease: float) -> int:
    if not 0 <= lease <= MAX_LEASE:
        raise Unsupported(f"a lease of {lease} seconds; this broker takes 0 to {MAX_LEASE:.0f}")
    return int(lease * 1e6)


def _by_queue(messages: Sequence[Message]) -> list[tuple[str, Sequence[Message]]]:
    """Messages by their queue, in their order."""
    first = messages[0].queue if messages else ""
    if all(message.queue == first for message in messages):
        return [(first, messages)] if messages else []
    firsts: dict[str, Message] = {}
    for message in messages:  # of one id the first counts, whichever queue is served first
        firsts.setdefault(message.id, message)
    groups: dict[str, list[Message]] = {}
    for message in firsts.values():
        groups.setdefault(message.queue, []).append(message)
    return list(groups.items())


def _grouped(deliveries: Sequence[Delivery]) -> Iterator[tuple[str, Sequence[int]]]:
    """The positions of deliveries by their queue, no more at once than a script takes."""
    groups: dict[str, list[int]] = {}
    for at, delivery in enumerate(deliveries):
        groups.setdefault(delivery.message.queue, []).append(at)
    for queue, positions in groups.items():
        for start in range(0, len(positions), MOST_AT_ONCE):
            yield queue, positions[start : start + MOST_AT_ONCE]


def _parts(messages: Sequence[Message], most: int, size: int) -> Iterator[list[Message]]:
    """Messages in parts of at most so many, and hardly more bytes than the largest alone."""
    part: list[Message] = []
    left = size
    for message in messages:
        left -= len(message.body)
        if part and (left < 0 or len(part) == most):
            yield part
            part, left = [], size - len(message.body)
        part.append(message)
    if part:
        yield part


_: type[Broker] = RedisBroker
__: type[Inspect] = RedisBroker
