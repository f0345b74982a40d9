"""Long polls in the background: one for each queue that somebody waits for.

SQS lets a poll wait for 20 seconds, for one queue. An ``acquire`` may wait for several, and for less; so a poll may
outlast the ``acquire`` that began it, and what it finds is for the next one. A consumer that goes on asking costs one
call in 20 seconds, whatever it asks for. One that stops asking is soon no longer polled for, and what arrives in
between is given back at once: a worker that is busy with another queue would pass it to the next one of its kind.
Where that counts as a delivery, it is kept after a while for whoever asks here.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.broker import Delivery

    Receive = Callable[[str, int, int, int], list[Delivery]]
    GiveBack = Callable[[Sequence[Delivery]], None]
    Keep = Callable[[Sequence[Delivery], int], list[Delivery]]

_log = logging.getLogger("anybroker.sqs")

GRACE = 0.05
"""Seconds for which what was found waits for the next ``acquire`` before it is given back."""
RECENT = 1.0
"""Seconds after an ``acquire`` for which another one is expected."""
ENDING = 1.5
"""Seconds within which a poll must end for ``close`` to wait for it: the shortest takes one."""
KEPT = 300.0
"""Seconds for which what must not be given back waits for the next ``acquire``."""
PAUSE = 0.05
"""Seconds before the next poll after one that brought nothing at once."""
IDLE = 10.0
"""Seconds after which a thread ends that nobody needs."""


class Polls:
    """The long polls of one broker object. ``longest`` is in seconds, as every time here."""

    def __init__(self, receive: Receive, give_back: GiveBack, keep: Keep, longest: int) -> None:
        self.receive = receive
        """Called with queue, wait, lease and number."""
        self.give_back = give_back
        """Called with what nobody wanted."""
        self.keep = keep
        """Called with the same, and the lease: holds, and returns, what is not to be given back."""
        self.longest = longest
        self.changed = threading.Condition()
        self.closed = False
        self._pollers: dict[str, _Poller] = {}

    def covers(self, queue: str) -> bool:
        """Whether a poll is on its way: what the queue has will come by it."""
        poller = self._pollers.get(queue)
        return poller is not None and poller.polling

    def take(self, queues: Sequence[str], limit: int) -> list[Delivery]:
        """What polls have found, the queues in order of preference."""
        taken: list[Delivery] = []
        if self._pollers:
            with self.changed:
                for queue in queues:
                    poller = self._pollers.get(queue)
                    if poller is not None and poller.found:
                        room = limit - len(taken)
                        taken += poller.found[:room]
                        del poller.found[:room]
        return taken

    def wait(self, queues: Sequence[str], limit: int, seconds: float, lease: int) -> list[Delivery]:
        """Wait for the first messages of any of the queues. Raises what a poll has raised."""
        deadline = time.monotonic() + seconds
        with self.changed:
            pollers = [self._poller(queue) for queue in queues]
            for poller in pollers:
                poller.waiting += 1
            try:
                while not self.closed:
                    left = deadline - time.monotonic()
                    for poller in pollers:  # also if it is too late for this one: then for the next
                        poller.want(limit, left, lease)
                    if left <= 0:
                        break
                    self.changed.wait(left)
                    if taken := self.take(queues, limit):
                        return taken
                    for poller in pollers:
                        poller.raise_error()
            finally:
                for poller in pollers:
                    poller.waiting -= 1
                    poller.asked = time.monotonic()
        return []

    def close(self) -> None:
        """No more polls. Those that are being made give back what they find.

        A process that ends takes a poll along, and what that finds is hidden: one that ends soon is waited for.
        """
        latest = time.monotonic() + ENDING
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            ending = [one for one in self._pollers.values() if one.polling and one.until <= latest]
            self.changed.wait_for(lambda: not any(one.busy for one in ending), ENDING)

    def end(self, poller: _Poller) -> None:
        """A poller has nothing to do any more."""
        self._pollers.pop(poller.queue, None)

    def _poller(self, queue: str) -> _Poller:
        poller = self._pollers.get(queue)
        if poller is None:
            poller = self._pollers[queue] = _Poller(self, queue)
            threading.Thread(target=poller.run, name="anybroker-sqs-poll", daemon=True).start()
        return poller


class _Poller:
    """Polls one queue, in a thread of its own, as long as somebody asks for it. Guarded by ``Polls.changed``."""

    def __init__(self, polls: Polls, queue: str) -> None:
        self.queue = queue
        self.found: list[Delivery] = []
        self.polling = False
        self.busy = False
        """Polls, or gives back what was found."""
        self.until = 0.0
        """When the poll ends that is being made; by ``time.monotonic``."""
        self.waiting = 0
        self.asked = time.monotonic()
        self._polls = polls
        self._wanted = False
        self._limit = self._lease = self._first = 1
        self._error: AnybrokerError | None = None

    def want(self, limit: int, wait: float, lease: int) -> None:
        """Somebody waits; the next poll is for him."""
        if not self.polling:
            self._wanted = self.polling = self.busy = True
            self._limit, self._lease, self._first = limit, lease, max(1, int(wait))
            self._polls.changed.notify_all()

    def raise_error(self) -> None:
        """Raise what the last poll has raised, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def run(self) -> None:
        """Poll whenever somebody waits."""
        changed = self._polls.changed
        while True:
            with changed:
                while not self._wanted:
                    if self._polls.closed or not (changed.wait(IDLE) or self.waiting or self._wanted):
                        self._polls.end(self)
                        return
                self._wanted = False
            try:
                left = self._keep(self._offer(self._poll_until_found(), GRACE))
                if left:
                    self._polls.give_back(left)
            except Exception:  # this thread is there for all who will ask
                _log.exception("what nobody asked for of queue %r is delivered again after its lease", self.queue)
            with changed:
                self.busy = self.polling
                changed.notify_all()

    def _poll_until_found(self) -> list[Delivery]:
        wait = min(self._first, self._polls.longest)
        while not self._polls.closed:
            self.until = time.monotonic() + wait
            try:
                found = self._polls.receive(self.queue, wait, self._lease, self._limit)
            except AnybrokerError as error:
                self._error = error
                return []
            except Exception as error:  # the same
                self._error = BrokerUnavailable(f"a poll of queue {self.queue!r} failed: {error!r}")
                self._error.__cause__ = error
                return []
            if found or not (self.waiting or time.monotonic() - self.asked < RECENT):
                return found
            if time.monotonic() < self.until - wait + PAUSE:
                time.sleep(PAUSE)  # a service that does not wait is not asked without a pause
            wait = min(2 * wait, self._polls.longest)
        return []

    def _keep(self, left: list[Delivery]) -> list[Delivery]:
        """Go on offering what must not be given back; returns what must after all."""
        until = time.monotonic() + KEPT
        while left and not self._polls.closed and time.monotonic() < until:
            kept = self._polls.keep(left, self._lease)
            if not kept:
                break
            left = self._offer(kept, self._lease / 3)
        return left

    def _offer(self, found: list[Delivery], seconds: float) -> list[Delivery]:
        """Offer what was found to whoever asks soon; returns what nobody wanted."""
        changed = self._polls.changed
        with changed:
            self.polling = self._wanted
            self.found = found
            changed.notify_all()
            if found and not self._polls.closed:
                changed.wait_for(lambda: not self.found or self._polls.closed, seconds)
            left, self.found = self.found, []
        return left
