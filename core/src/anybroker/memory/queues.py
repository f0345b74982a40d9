"""The state of a memory broker: entries, queues, leases and alarms.

Knows nothing of locks: :mod:`anybroker.memory.broker` holds one around every call.

How a message moves::

    enqueue ──> DELAYED ──eta──> READY ──acquire──> LEASED ──ack──> gone
        │          ^               ^  <──expiry─────   │
        │          │ eta ahead     │ due               │ update
        └──> BLOCKED, until it is the oldest of its key <── to another queue

Heaps are cleaned lazily: what an entry is, its own fields say, and a heap item that no longer agrees is dropped when
it surfaces, or when such items outnumber the live ones.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import Enum
from heapq import heapify, heappop, heappush, nsmallest
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from anybroker.broker import Message

if TYPE_CHECKING:
    from collections.abc import Hashable

NEVER = float("inf")
SLACK = 1024
"""A heap may hold this many outdated items, and as many again as there are messages, before it is rebuilt."""


class State(Enum):
    """What may happen to an entry next."""

    READY = "ready"
    DELAYED = "delayed"
    LEASED = "leased"
    BLOCKED = "blocked"
    """An older message with the same ordering key is still in the queue."""


READY, DELAYED, LEASED, BLOCKED = State


class Entry(msgspec.Struct, eq=False, gc=False):
    """One stored message. ``gc=False``: it refers to nothing that could refer back."""

    message: Message
    seq: int = 0
    """The order of arrival in its queue."""
    place: int = 0
    """The order of delivery in its queue: by priority, then by ``seq``. Names the entry within the queue."""
    state: State = READY
    due: float = 0.0
    """READY: since when. DELAYED or LEASED: until when. Unix seconds."""
    alarm: float = NEVER
    """When the one valid alarm rings, at or before ``due``; an alarm for another time is outdated."""
    token: int = 0
    """The newest lease, 0 for none. It outlives its time until the message is delivered again (law 5)."""
    holder: int = 0
    """Which broker object took that lease."""
    deliveries: int = 0


class Queue:
    """The entries of one queue, by their place."""

    __slots__ = ("entries", "lines", "overtaking", "ready")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.ready: deque[int] = deque()
        """The places of READY entries that became so in the order of delivery, as nearly all do."""
        self.overtaking: list[int] = []
        """Heap of the places of the other READY entries."""
        self.lines: dict[str, OrderedDict[int, Entry]] = {}
        """By ordering key: who waits for whom, oldest first. Only the head may be delivered."""

    def pop_ready(self) -> Entry | None:
        """The entry that is next in the order of delivery, or None."""
        ready, overtaking, entries = self.ready, self.overtaking, self.entries
        while ready or overtaking:
            first = ready and not (overtaking and overtaking[0] < ready[0])
            entry = entries.get(ready.popleft() if first else heappop(overtaking))
            if entry is not None and entry.state is READY:
                return entry
        return None

    def push_ready(self, place: int) -> None:
        """The entry at this place is READY."""
        if not self.ready or place > self.ready[-1]:
            self.ready.append(place)
        else:
            heappush(self.overtaking, place)

    def first(self, limit: int) -> list[Entry]:
        """The first entries in the order of delivery, whatever their state."""
        return [self.entries[place] for place in nsmallest(limit, self.entries)]

    def trim(self) -> None:
        """Forget what is outdated when it outnumbers the entries."""
        if len(self.ready) + len(self.overtaking) > 2 * len(self.entries) + SLACK:
            self.ready = deque(sorted(place for place, entry in self.entries.items() if entry.state is READY))
            self.overtaking.clear()


class Queues:
    """All queues of a broker, its leases, and what is due when."""

    def __init__(self) -> None:
        self.by_name: dict[str, Queue] = {}
        self.by_id: dict[str, Entry] = {}
        self.leases: dict[Hashable, Entry] = {}
        """By token."""
        self.alarms: list[tuple[float, int, str]] = []
        """Heap of (when, place, queue)."""
        self._seqs = count(1)
        self._tokens = count(1)

    def add(self, entry: Entry, now: float) -> None:
        """Let an entry arrive at the end of its message's queue."""
        message = entry.message
        queue = self.by_name.get(message.queue)
        if queue is None:
            queue = self.by_name[message.queue] = Queue()
        entry.seq = next(self._seqs)
        entry.place = _place(message.priority, entry.seq)
        queue.entries[entry.place] = self.by_id[message.id] = entry
        if message.ordering_key is not None:
            line = queue.lines.setdefault(message.ordering_key, OrderedDict())
            line[entry.seq] = entry
            if len(line) > 1:
                entry.state = BLOCKED
                return
        self._admit(queue, entry, now)

    def remove(self, entry: Entry, now: float) -> bool:
        """Take an entry out for good, or to add it elsewhere. True if that lets the next of its ordering key in."""
        message = entry.message
        queue = self.by_name[message.queue]
        del queue.entries[entry.place]
        del self.by_id[message.id]
        entry.alarm = NEVER
        if not queue.entries:
            del self.by_name[message.queue]
            return False
        queue.trim()
        return message.ordering_key is not None and self._leave_line(queue, message.ordering_key, entry, now)

    def replace(self, entry: Entry, message: Message, now: float) -> None:
        """Make ``message`` the new version of a settled entry. It keeps its place, unless it moves elsewhere."""
        old = entry.message
        entry.deliveries = 0
        if (message.queue, message.ordering_key) != (old.queue, old.ordering_key):
            self.remove(entry, now)
            entry.message = message
            self.add(entry, now)
            return
        queue = self.by_name[message.queue]
        entry.message = message
        if message.priority != old.priority:
            del queue.entries[entry.place]
            entry.place = _place(message.priority, entry.seq)
            entry.alarm = NEVER
            queue.entries[entry.place] = entry
        self._admit(queue, entry, now)
        queue.trim()

    def lease(self, entry: Entry, until: float, holder: int) -> int:
        """Lease a READY entry that was popped; returns the token. Its older lease, if any, is now lost."""
        leases = self.leases
        if entry.token:
            del leases[entry.token]
        token = entry.token = next(self._tokens)
        leases[token] = entry
        entry.holder = holder
        entry.deliveries += 1
        entry.state = LEASED
        self.hold(entry, until)
        return token

    def hold(self, entry: Entry, until: float) -> None:
        """Keep a DELAYED or LEASED entry back. An alarm that rings too early is only set again when it does."""
        entry.due = until
        if until < entry.alarm:
            entry.alarm = until
            heappush(self.alarms, (until, entry.place, entry.message.queue))

    def extend(self, entry: Entry, until: float) -> None:
        """Prolong a lease, also one that has run out and was not delivered again."""
        entry.state = LEASED
        self.hold(entry, until)
        self.by_name[entry.message.queue].trim()

    def end_lease(self, token: Hashable) -> Entry | None:
        """Forget a lease; returns its entry, or None if the lease was lost."""
        entry = self.leases.pop(token, None)
        if entry is not None:
            entry.token = 0
        return entry

    def ring(self, now: float) -> None:
        """Make READY what was delayed or leased until now."""
        alarms = self.alarms
        if len(alarms) > 2 * len(self.by_id) + SLACK:
            alarms[:] = [alarm for alarm in alarms if self._alarmed(alarm) is not None]
            heapify(alarms)
        while alarms and alarms[0][0] <= now:
            alarm = heappop(alarms)
            entry = self._alarmed(alarm)
            if entry is None:
                continue
            entry.alarm = NEVER
            if entry.state is DELAYED or entry.state is LEASED:
                if entry.due > now:
                    self.hold(entry, entry.due)
                else:
                    self.make_ready(entry, entry.due)

    def make_ready(self, entry: Entry, since: float) -> None:
        """Let an entry be delivered."""
        entry.state = READY
        entry.due = since
        self.by_name[entry.message.queue].push_ready(entry.place)

    def next_alarm(self) -> float:
        """When to call :meth:`ring` next, at the latest."""
        return self.alarms[0][0] if self.alarms else NEVER

    def _alarmed(self, alarm: tuple[float, int, str]) -> Entry | None:
        when, place, name = alarm
        queue = self.by_name.get(name)
        entry = None if queue is None else queue.entries.get(place)
        return entry if entry is not None and entry.alarm == when else None

    def _admit(self, queue: Queue, entry: Entry, now: float) -> None:
        eta = entry.message.eta
        due = now if eta is None else eta.timestamp()
        if due > now:
            entry.state = DELAYED
            self.hold(entry, due)
        else:
            entry.state = READY
            entry.due = now
            queue.push_ready(entry.place)

    def _leave_line(self, queue: Queue, key: str, entry: Entry, now: float) -> bool:
        line = queue.lines[key]
        del line[entry.seq]
        if not line:
            del queue.lines[key]
            return False
        head = next(iter(line.values()))
        if head.state is not BLOCKED:
            return False
        self._admit(queue, head, now)
        return True


def _place(priority: int, seq: int) -> int:
    """One number that sorts by priority, the higher first, then by arrival. A heap of numbers is the fastest."""
    return seq - (priority << 64)
