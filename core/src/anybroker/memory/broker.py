"""The memory broker: every law in full, for one process and as long as it lives."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Self

from anybroker import capabilities as declare
from anybroker.broker import Delivery, Message, Stats
from anybroker.clock import Clock, SystemClock
from anybroker.errors import BrokerUnavailable, Unsupported
from anybroker.memory.guard import Guarded
from anybroker.memory.names import MAX_BODY, Names, read_memory_url
from anybroker.memory.queues import LEASED, READY, Entry, Queues
from anybroker.validation import check_changes, check_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Broker, Inspect

MAX_LEASE = 365 * 86400.0

_holders = count(1)
_system_clock = SystemClock()


class Store(Guarded):
    """What the brokers of one ``memory://name`` share."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.queues = Queues()


_names: Names[Store] = Names()


class MemoryBroker:
    """Keeps messages in the memory of this process.

    Each object has messages of its own, but those of one ``name`` share theirs within the process. The child of a
    fork has its own copy. ``clock`` judges every ``eta`` and every lease; a name keeps the clock of its first user.
    """

    def __init__(self, *, name: str = "", clock: Clock = _system_clock, max_body: int = MAX_BODY) -> None:
        self._store = _names.share(name, Store(clock))
        self._holder = next(_holders)
        self._closed = False
        self.capabilities = declare.Capabilities(
            durability=declare.Durability.PROCESS,
            shared=False,
            ordering=declare.Ordering.FIFO_PER_KEY,
            priorities=(-declare.INT32 - 1, declare.INT32),
            idempotent_enqueue=True,
            inspect=True,
            max_body=max_body,
            max_lease=MAX_LEASE,
            delay_precision=0.05,
            expiry_bound=0.05,
            wake_bound=0.05,
            wait_slack=0.05,
        )
        """Every law in full strength, but for the durability, which is that of the process."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memory://`` or ``memory://name``, with ``?max_body=`` in bytes. Raises ``ConfigurationError``."""
        name, options = read_memory_url(url)
        return cls(name=name, max_body=options.max_body)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; an id that is still here is recognised and left as it is."""
        check_messages(messages, self.capabilities)
        store = self._store
        with store.changed:
            self._refuse_if_closed()
            queues, now = store.queues, store.clock.time()
            queues.ring(now)
            for message in messages:
                if message.id not in queues.by_id:
                    queues.add(Entry(message), now)
            store.changed.notify_all()

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages, waiting at most ``wait`` seconds for the first."""
        _check_lease(lease)
        store = self._store
        clock = store.clock
        with store.changed:
            self._refuse_if_closed()
            now = clock.time()
            while not self._closed:
                store.queues.ring(now)
                taken = self._take(queues, limit, now, lease)
                if taken or wait <= 0 or limit <= 0:
                    return taken
                clock.wait(store.changed, min(wait, store.queues.next_alarm() - now))
                before, now = now, clock.time()
                wait -= max(0.0, now - before)  # a system clock may be set back, and that must not prolong the wait
            return []

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages for good; False where the lease had been lost."""
        store = self._store
        answers = []
        with store.changed:
            queues, now = store.queues, store.clock.time()
            unblocked = False
            for delivery in deliveries:
                entry = queues.end_lease(delivery.token)
                if entry is not None:
                    unblocked |= queues.remove(entry, now)
                answers.append(entry is not None)
            if unblocked:
                store.changed.notify_all()
        return answers

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace leased messages by their new versions; False where the lease had been lost."""
        check_changes(changes, self.capabilities)
        store = self._store
        answers = []
        with store.changed:
            queues, now = store.queues, store.clock.time()
            for delivery, message in changes:
                entry = queues.end_lease(delivery.token)
                if entry is not None:
                    queues.replace(entry, message, now)
                answers.append(entry is not None)
            store.changed.notify_all()
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Hold leases for ``lease`` seconds from now; False where one had been lost."""
        _check_lease(lease)
        store = self._store
        answers = []
        with store.changed:
            until = store.clock.time() + lease
            for delivery in deliveries:
                entry = store.queues.leases.get(delivery.token)
                if entry is not None:
                    store.queues.extend(entry, until)
                answers.append(entry is not None)
            store.changed.notify_all()
        return answers

    def close(self) -> None:
        """Give up the leases that this object holds; its messages stay for others of the same name."""
        store = self._store
        with store.changed:
            self._closed = True
            now = store.clock.time()
            for entry in [entry for entry in store.queues.leases.values() if entry.holder == self._holder]:
                store.queues.end_lease(entry.token)
                if entry.state is LEASED:
                    store.queues.make_ready(entry, now)
            store.changed.notify_all()

    def queues(self) -> list[str]:
        """The names of the queues that hold messages, sorted."""
        with self._store.changed:
            return sorted(self._store.queues.by_name)

    def stats(self, queue: str) -> Stats:
        """Counts of one queue. Looks at every message of it."""
        store = self._store
        with store.changed:
            now = store.clock.time()
            store.queues.ring(now)
            found = store.queues.by_name.get(queue)
            entries = found.entries.values() if found else ()
            since = [entry.due for entry in entries if entry.state is READY]
            leased = sum(entry.state is LEASED for entry in entries)
            return Stats(
                ready=len(since),
                leased=leased,
                delayed=len(entries) - len(since) - leased,
                oldest=max(0.0, now - min(since)) if since else None,
            )

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """The first messages of a queue in the order of delivery, whatever their state."""
        with self._store.changed:
            found = self._store.queues.by_name.get(queue)
            return [entry.message for entry in found.first(limit)] if found else []

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Remove messages that are not leased."""
        store = self._store
        with store.changed:
            now = store.clock.time()
            store.queues.ring(now)
            answers = [self._discard(store.queues.by_id.get(id_), queue, now) for id_ in ids]
            store.changed.notify_all()
        return answers

    def purge(self, queue: str) -> int:
        """Remove every message of a queue that is not leased; returns how many."""
        store = self._store
        with store.changed:
            now = store.clock.time()
            store.queues.ring(now)
            found = store.queues.by_name.get(queue)
            entries = list(found.entries.values()) if found else []
            removed = sum(self._discard(entry, queue, now) for entry in entries)
            store.changed.notify_all()
        return removed

    def _take(self, names: Sequence[str], limit: int, now: float, lease: float) -> list[Delivery]:
        queues, until = self._store.queues, now + lease
        lease_until = datetime.fromtimestamp(until, UTC)
        taken: list[Delivery] = []
        for name in names:
            queue = queues.by_name.get(name)
            while queue is not None and len(taken) < limit:
                entry = queue.pop_ready()
                if entry is None:
                    break
                token = queues.lease(entry, until, self._holder)
                taken.append(Delivery(entry.message, token, entry.deliveries, lease_until))
        return taken

    def _discard(self, entry: Entry | None, queue: str, now: float) -> bool:
        if entry is None or entry.message.queue != queue or entry.state is LEASED:
            return False
        self._store.queues.end_lease(entry.token)
        self._store.queues.remove(entry, now)
        return True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BrokerUnavailable("this memory broker was closed")


def _check_lease(lease: float) -> None:
    if not 0 <= lease <= MAX_LEASE:
        raise Unsupported(f"a lease of {lease} seconds; this broker takes 0 to {MAX_LEASE:.0f}")


_: type[Broker] = MemoryBroker
__: type[Inspect] = MemoryBroker
