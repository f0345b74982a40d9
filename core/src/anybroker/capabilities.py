"""What an adapter promises: one typed object that users read and the conformance suite proves.

A declaration chooses which form of a law holds; it never removes a law. A declared ability is proven by the
suite, an undeclared one is proven to be refused with :class:`~anybroker.errors.Unsupported` (law 15).
"""

from __future__ import annotations

from enum import Enum

import msgspec

INT32 = 2**31 - 1


class Durability(Enum):
    """What ``enqueue`` has survived when it returns (law 1)."""

    PROCESS = "process"
    """Lost when the process (or the server) that holds it ends."""
    SERVER = "server"
    """Survives a SIGKILL of every client and of the server."""
    POWER_CUT = "power cut"
    """Written through to the disk: survives the loss of power too."""


class Lease(Enum):
    """How long a lease holds (laws 3 and 4)."""

    TIMED = "timed"
    """For the time asked for, and as long as it is extended."""
    CONNECTION = "connection"
    """As long as the consumer's connection lives; ``extend`` only tells whether it still does."""


class Guarantee(Enum):
    """How strictly a law is kept."""

    EXACT = "exact"
    BEST_EFFORT = "best effort"


class Ordering(Enum):
    """In which order the due messages of one queue and one priority are delivered (law 10)."""

    NONE = "none"
    FIFO = "fifo"
    """In the order of enqueueing. A message that comes back keeps its place."""
    FIFO_PER_KEY = "fifo per key"
    """FIFO; and of the messages with one ``ordering_key`` only the oldest is deliverable until it is settled
    by ``ack`` or leaves the queue, also while it waits for its ``eta``, and whatever their priorities."""
    PER_KEY = "per key"
    """Of the messages with one ``ordering_key`` only the oldest is deliverable until it is settled, also while it waits
    for its ``eta``. A new version that differs goes to the end of its key's line. No order otherwise."""

    @property
    def keyed(self) -> bool:
        """Whether messages may have an ``ordering_key``."""
        return self is Ordering.FIFO_PER_KEY or self is Ordering.PER_KEY  # asked for each message

    @property
    def fifo(self) -> bool:
        """Whether messages without a key, too, are delivered in the order of enqueueing."""
        return self in {Ordering.FIFO, Ordering.FIFO_PER_KEY}


class Clock(Enum):
    """Whose clock judges ``eta`` and leases."""

    SERVER = "server"
    CLIENT = "client"


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker declares. Times are seconds, sizes are bytes."""

    durability: Durability
    shared: bool = True
    """Several processes can use it at once."""
    lease: Lease = Lease.TIMED
    exclusive: Guarantee = Guarantee.EXACT
    """Law 3: nobody else gets a message while its lease is valid."""
    fencing: Guarantee = Guarantee.EXACT
    """Law 5: a settle with a lost lease changes nothing and says so."""
    final: Guarantee = Guarantee.EXACT
    """Law 6. Best effort: a server that dies may have forgotten an ack of its last second, and the message is delivered
    again. So it is with services that do not confirm acks, or confirm them before they are stored."""
    update: Guarantee = Guarantee.EXACT
    """Law 7. Best effort: a death in the middle of ``update`` may leave both versions, never none."""
    ordering: Ordering = Ordering.NONE
    priorities: tuple[int, int] | None = None
    """Lowest and highest accepted priority; None: every priority but 0 is refused."""
    clock: Clock = Clock.SERVER
    idempotent_enqueue: bool = False
    """Enqueueing an id that is still in the broker is recognised; else a second message is stored."""
    delivery_count: bool = True
    """``Delivery.delivery_count`` is known; else it is None."""
    inspect: bool = False
    """The broker also implements :class:`~anybroker.broker.Inspect`."""
    overview: bool = False
    """The broker also implements :class:`~anybroker.broker.Overview`."""
    max_body: int
    """Largest body accepted (law 2)."""
    min_lease: float = 0.0
    """Shortest lease: a shorter one that is asked for holds for that long."""
    max_lease: float = float("inf")
    """Longest lease that one ``acquire`` or ``extend`` can ask for."""
    delay_precision: float
    """A message is delivered to a waiting consumer at most this long after its ``eta`` (law 8)."""
    expiry_bound: float
    """A message is available again at most this long after its lease ran out (law 4)."""
    transit: float = 0.0
    """A message that was on its way to a consumer when the connection or the process died, before ``acquire`` returned
    it, or in the middle of an ``ack`` or ``update``, is available again at most so long afterwards: the service's own
    lease, where it has one, and not the one that was asked for (law 4). 0: as any other lease."""
    wake_bound: float
    """A waiting ``acquire`` returns at most this long after a message arrived (law 11)."""
    wait_slack: float
    """``acquire`` returns at most this long after ``wait`` has passed (law 11)."""


class BackendCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a result backend declares. Times are seconds, sizes are bytes."""

    durability: Durability
    shared: bool = True
    pushed: bool
    """``wait`` is woken by the service instead of polling it."""
    exact_join: bool = True
    """``join`` is exact under duplicates and concurrency."""
    exact_claim: bool = True
    """``claim`` has exactly one holder."""
    max_body: int
    ttl_precision: float
    """A result is gone at most this long after its ttl."""
    wake_bound: float
    """``wait`` returns at most this long after the result was stored."""
