"""The broker contract: what core relies on, what an adapter implements, what the conformance suite proves.

Words. A **message** is what a broker carries; it never looks inside ``body``. A **lease** is the time for which
one consumer holds a message; a **delivery** is a message together with its lease. To **settle** is to end a
delivery, by ``ack`` or by ``update``. A lease is **lost** for certain once the message has been delivered again,
given up, or settled; between the moment when its time runs out and that moment a broker may still honour a settle
or an extend, or refuse it, and what it answers is what then holds, for everyone.

The fifteen laws. Each has a name by which the conformance suite reports. Where a service cannot meet one, the
adapter declares the weaker form in its :class:`~anybroker.capabilities.Capabilities`.

1.  **Durable.** After ``enqueue`` returns, the message is delivered at least once, through the death of consumers
    and, as far as ``durability`` says, of the server.
2.  **Byte-exact.** Id, body and fields come back as they went in: any bytes, up to ``max_body``; one byte more is
    ``MessageTooLarge``, raised before sending.
3.  **Exclusive.** While a lease is valid nobody else gets the message.
4.  **Expiry.** A message whose lease runs out, or whose holder dies, is available again within ``expiry_bound``,
    with ``delivery_count`` one higher.
5.  **Fenced.** A settle or extend with a lost lease changes nothing and says so, even if someone else holds it.
6.  **Final.** After ``ack`` returned True the message never comes back, and it occupies no storage; as ``final`` says,
    also when the server dies.
7.  **Atomic update.** Never lost, and after True only the new version exists; never both.
8.  **Not before.** No message is delivered before its ``eta``; it is delivered within ``delay_precision`` after it,
    for any delay from 0 s to 30 days. Waiting messages live in the broker and block none behind them.
9.  **Isolation.** Queues do not leak into one another; any name of 1 to 80 unicode characters works.
10. **Order.** As declared by ``ordering`` and ``priorities``; the higher number goes first.
11. **Prompt.** A waiting ``acquire`` wakes when a message arrives, within ``wake_bound``; it returns within ``wait``
    plus ``wait_slack``; it never busy-loops.
12. **Concurrent.** Any number of threads, processes and hosts; a fork after use is detected and safe.
13. **Reconnects.** When the service goes and returns, calls raise ``BrokerUnavailable`` in the meantime, then work
    again without a new object; nothing acknowledged is lost.
14. **Bounded.** Memory, connections, queues, keys and threads do not grow with the number of messages processed.
15. **Honest.** An ability that is not declared is refused with ``Unsupported`` at the call, never ignored.

The same id twice: enqueueing an id that is still in the broker is never an error and never changes the message that
is there; it is either recognised (``idempotent_enqueue``) or stored as a second message. After its ``ack`` an id is
free again. ``update`` keeps the id.

Retry, back-off, encoding, validation, batching across calls, heartbeats and deadlines live once, in core, and never
in an adapter.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from anybroker.capabilities import Capabilities

MAX_QUEUE_NAME = 80
"""Longest queue name, in unicode characters (law 9)."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a broker carries. All fields come back as they went in (law 2)."""

    id: str
    queue: str
    body: bytes
    eta: datetime | None = None
    """Aware; earliest delivery. None: at once."""
    priority: int = 0
    """The higher number first."""
    ordering_key: str | None = None


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message together with the lease under which the caller holds it."""

    message: Message
    token: Hashable
    """Names this lease to the broker, and to nobody else."""
    delivery_count: int | None
    """How often this version of the message has been delivered, 1 for the first time; ``update`` makes a new
    version. None where the service does not count."""
    lease_until: datetime
    """When the lease runs out unless extended; aware, by the clock that the broker declares."""


class Stats(msgspec.Struct, frozen=True):
    """How many messages a queue holds, and since when (``Inspect.stats``)."""

    ready: int
    leased: int
    delayed: int
    """Waiting for their ``eta``, or held back by an earlier message with the same ordering key."""
    oldest: float | None
    """Seconds since the oldest message that is ready became so; None when none is."""

    @property
    def total(self) -> int:
        """All messages of the queue."""
        return self.ready + self.leased + self.delayed


class Broker(Protocol):
    """The six verbs. All calls are thread-safe, times are seconds or aware datetimes, sequences may be empty."""

    @property
    def capabilities(self) -> Capabilities:
        """What this broker, as configured, promises."""
        ...

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store every message; when it returns, all are durable to the declared degree (law 1).

        Raises ``MessageTooLarge`` and ``Unsupported`` before anything is stored, and ``BrokerUnavailable`` with
        the ids that are known to be stored all the same.
        """
        ...

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease up to ``limit`` due messages for ``lease`` seconds, queues in order of preference.

        Waits at most ``wait`` seconds for the first and never once it has one (law 11); returns perhaps nothing.
        Raises ``BrokerUnavailable``.
        """
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """The work is done: remove the messages for good (law 6).

        One bool each: True, it was still ours and is gone; False, the lease had been lost and nothing changed.
        """
        ...

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace each leased message by its new version and give up the lease, never losing it (law 7).

        The new version keeps the id and may change everything else. One bool each, as for ``ack``. This one verb
        is retry later, release, checkpoint of a job, and dead-lettering. Raises ``MessageTooLarge`` before anything
        is changed.
        """
        ...

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Heartbeat: hold the leases for ``lease`` seconds from now. One bool each, as for ``ack``."""
        ...

    def close(self) -> None:
        """Give up what is held, so that others get it at once, and free the connections. Idempotent."""
        ...


@runtime_checkable
class Inspect(Protocol):
    """Looking into queues without consuming them; declared by ``Capabilities.inspect``."""

    def queues(self) -> list[str]:
        """The names of the queues that hold messages, sorted."""
        ...

    def stats(self, queue: str) -> Stats:
        """Counts of one queue; all zero for a name that was never used."""
        ...

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """The first messages of a queue in the order of delivery, whatever their state, without leasing them."""
        ...

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Remove messages that are not leased. One bool each: False, it is leased or not there."""
        ...

    def purge(self, queue: str) -> int:
        """Remove every message that is not leased; returns how many."""
        ...


class Estimate(msgspec.Struct, frozen=True):
    """About how many messages a queue holds (``Overview.estimate``); None: the service does not tell."""

    ready: int | None = None
    """Where ``delayed`` is None, those that wait for their ``eta`` may be among them."""
    leased: int | None = None
    delayed: int | None = None


@runtime_checkable
class Overview(Protocol):
    """What a service tells of queues that it cannot look into; declared by ``Capabilities.overview``.

    Its numbers are approximate and may be a minute late. Each method raises ``Unsupported`` where the service, as
    configured, has nothing of the kind, and ``BrokerUnavailable``.
    """

    def known_queues(self) -> list[str]:
        """The names of the queues that are there, sorted; also of empty ones."""
        ...

    def estimate(self, queue: str) -> Estimate:
        """Counts of one queue; zero or None for a name that was never used."""
        ...

    def clear(self, queue: str) -> None:
        """Order the service to remove what is in a queue, leased or not, within a minute.

        What is sent in this minute may be removed as well.
        """
        ...
