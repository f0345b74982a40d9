"""Getting messages: short looks at queues in order of preference, and long pulls of all of them at once.

Pull, and not streaming pull: a consumer gets as many as it has room for and no more, so that one that is busy keeps
nothing from one that is idle, and nothing waits in the memory of a process.

A pull is never cancelled, and lasts longer than the service lets it wait: what it had just sent would be lost to
everybody until its ack deadline. When one queue has answered, or the ``acquire`` has waited long enough, pulls go on,
and the next ``acquire`` takes over what they bring. What nobody comes for is given back.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from anybroker.errors import BrokerUnavailable
from anybroker_broker_pubsub.connection import CALL_TIMEOUT, PULL, PullRequest
from anybroker_broker_pubsub.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_broker_pubsub.connection import Call, Connection
    from anybroker_broker_pubsub.topology import Topology

GRACE = 1.0
"""Seconds that a pull has longer than its caller waits: the emulator answers so much before its deadline."""
EARLY = 0.05
"""Seconds before the end of the wait at which a pull that brought nothing is not repeated."""
SILENCE = 10.0
"""Seconds without an answer to anything after which a long pull is not trusted to be heard."""
AT_ONCE = 8
"""Pulls of one message that are on their way at a time, at most."""
LOOK = 1.0
"""Seconds after which no further ones begin: what they have brought is to be held, or was not due."""
UNCLAIMED = 0.5
"""Seconds after which messages that nobody came for are given back."""
RENEWED = 20.0
"""Seconds after which messages that are kept for the next ``acquire`` are to be held anew."""


class Pulled(NamedTuple):
    """What one pull brought."""

    queue: str
    messages: Sequence[Any]
    """``ReceivedMessage``"""
    at: float
    """Seconds of ``time.monotonic``."""


class Pulls:
    """The pulls of one object. Thread-safe."""

    def __init__(self, connection: Connection, topology: Topology, longest: float, portion: int) -> None:
        """``longest``: seconds of a pull, also where the caller waits for less; 0: as long as the caller.

        ``portion``: messages of a pull at most.
        """
        self._longest = longest
        self._portion = portion
        self._connection = connection
        self._topology = topology
        self._left: list[tuple[str, Call]] = []
        """Pulls that went on when their caller returned, and of which queue."""
        self._kept: list[Pulled] = []
        self._lock = threading.Lock()

    def keep(self, pulled: Pulled) -> None:
        """What is held for the next that asks for its queue."""
        with self._lock:
            self._kept.append(pulled)

    def take_kept(self, *, everything: bool = False) -> list[Pulled]:
        """What has been kept for so long that it is to be held anew, or all."""
        before = time.monotonic() - (0.0 if everything else RENEWED)
        with self._lock:
            taken = [one for one in self._kept if one.at <= before]
            self._kept = [one for one in self._kept if one.at > before]
        return taken

    def look(self, queue: str, limit: int) -> Pulled:
        """What a queue has now. Raises ``BrokerUnavailable``.

        Asked also where another pull is on its way: that one may have been lost.
        """
        if (kept := self._take_one_kept([queue])) is not None:
            return kept
        call = self._claim(queue, ended=True)
        if call is not None and (pulled := self._ended(queue, call)) and pulled.messages:
            return pulled
        if self._portion == 1:
            return self._one_by_one(queue, limit)
        call = self._start(queue, limit, timeout=CALL_TIMEOUT, immediately=True)
        return Pulled(queue, self._answer(call), call.done_at)

    def _one_by_one(self, queue: str, limit: int) -> Pulled:
        """Up to so many messages by pulls of one, more at a time while all bring one, for about a second."""
        began = time.monotonic()
        found: list[Any] = []
        while len(found) < limit and time.monotonic() < began + LOOK:
            number = min(limit - len(found), 1 + len(found), AT_ONCE)
            calls = [self._start(queue, 1, timeout=CALL_TIMEOUT, immediately=True) for _ in range(number)]
            brought: list[Any] = []
            failed: BrokerUnavailable | None = None
            for call in calls:
                try:
                    brought += self._answer(call)
                except BrokerUnavailable as error:
                    failed = error
            found += brought
            if failed is not None and not found:
                raise failed
            if len(brought) < number:
                break
        return Pulled(queue, found, began)

    def wait(self, queues: Sequence[str], limit: int, wait: float) -> Pulled | None:
        """The first messages that one of the queues gets within ``wait`` seconds. Raises ``BrokerUnavailable``."""
        if (kept := self._take_one_kept(queues)) is not None:
            return kept
        arrived = threading.Event()
        latest = time.monotonic() + wait
        patience = 0.0 if wait < self._longest else GRACE
        calls: dict[str, Call] = {}
        heard = False
        try:
            for queue in queues:
                calls[queue] = self._claim(queue) or self._start(queue, limit, timeout=max(wait, self._longest) + GRACE)
                calls[queue].when_done(arrived.set)
            while calls and (left := latest + patience - time.monotonic()) > 0:
                arrived.wait(left)
                arrived.clear()
                for queue in [name for name, call in calls.items() if call.done]:
                    pulled = self._ended(queue, calls.pop(queue))
                    heard = heard or pulled is not None
                    if pulled and pulled.messages:
                        return pulled
                    left = latest - time.monotonic()
                    time.sleep(max(0.0, min(EARLY, left)))  # a service that does not wait is not asked without a pause
                    if left > EARLY:
                        calls[queue] = self._start(queue, limit, timeout=max(left - EARLY, self._longest) + GRACE)
                        calls[queue].when_done(arrived.set)
        finally:
            self._leave(calls)
        # only silence all the time: either nothing is there, or nobody
        silent = patience > 0 or time.monotonic() - self._connection.answered_at > SILENCE
        return None if heard or not silent else self.look(queues[0], limit)

    def covers(self, queue: str) -> bool:
        """Whether a pull of it is on its way that the next :meth:`wait` takes over."""
        with self._lock:
            return any(name == queue and not call.done for name, call in self._left)

    def take_unclaimed(self, *, everything: bool = False) -> list[Pulled]:
        """What pulls brought that nobody came for."""
        before = time.monotonic() - (0.0 if everything else UNCLAIMED)
        with self._lock:
            ended = [one for one in self._left if one[1].done and one[1].done_at <= before]
            self._left = [one for one in self._left if one not in ended]
        pulled = []
        for queue, call in ended:
            with suppress(BrokerUnavailable):  # it brought nothing
                pulled.append(Pulled(queue, self._answer(call), call.done_at))
        return [one for one in pulled if one.messages]

    def _start(self, queue: str, limit: int, *, timeout: float, immediately: bool = False) -> Call:
        subscription = self._topology.names.subscription(self._topology.ensure(queue))
        request = PullRequest(
            subscription=subscription, max_messages=min(limit, self._portion), return_immediately=immediately
        )
        return self._connection.start(PULL, request, timeout=timeout)

    def _ended(self, queue: str, call: Call) -> Pulled | None:
        """What a long pull has brought; None where no answer came, which is one way to say that there is nothing."""
        try:
            return Pulled(queue, self._answer(call), call.done_at)
        except TimedOut:
            return None

    def _answer(self, call: Call) -> Sequence[Any]:
        answer: Sequence[Any] = call.result().received_messages
        return answer

    def _take_one_kept(self, queues: Sequence[str]) -> Pulled | None:
        with self._lock:
            for one in self._kept:
                if one.queue in queues:
                    self._kept.remove(one)
                    return one
        return None

    def _claim(self, queue: str, *, ended: bool = False) -> Call | None:
        with self._lock:
            for one in self._left:
                if one[0] == queue and (one[1].done or not ended):
                    self._left.remove(one)
                    return one[1]
        return None

    def _leave(self, calls: dict[str, Call]) -> None:
        with self._lock:
            self._left.extend(calls.items())
