"""The names of the keys. All of one prefix have one hash tag, and so are in one slot of a cluster.

That is what makes every verb one atomic script in any topology, whichever queues it touches.
"""

from __future__ import annotations

from anybroker.validation import check_queue_name
from anybroker_broker_redis.errors import not_unicode

STATES = ("ready", "delayed", "leased", "blocked", "lines", "wake")
"""The keys of a queue, in the order in which the scripts take them."""


WAKE = 8
"""Where the last of them is for the first queue, behind what is common."""


class Keys:
    """The names of the keys of one prefix, as the scripts take them."""

    def __init__(self, prefix: str) -> None:
        self._tag = f"{{{prefix}}}".encode()
        self.common: tuple[bytes, ...] = tuple(
            self._tag + b":" + name for name in (b"messages", b"returned", b"queues")
        )
        self.queues: bytes = self.common[2]
        self._known: dict[str, tuple[bytes, ...]] = {}
        self._ready: dict[str, tuple[bytes, ...]] = {}

    def of(self, queue: str) -> tuple[bytes, ...]:
        """What is common, and the keys of one queue."""
        known = self._known.get(queue)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
                self._ready.clear()
            known = self._known[queue] = (*self.common, *self._names(queue))
        return known

    def of_ready(self, queue: str) -> tuple[bytes, ...]:
        """The keys of one queue that messages need which are ready at once."""
        ready = self._ready.get(queue)
        if ready is None:
            messages, _, queues, ready_, *_, wake = self.of(queue)
            ready = self._ready[queue] = (messages, queues, ready_, wake)
        return ready

    def of_all(self, queues: tuple[str, ...]) -> tuple[bytes, ...]:
        """What is common, and the keys of several queues."""
        return (*self.common, *(name for queue in queues for name in self.of(queue)[len(self.common) :]))

    def _names(self, queue: str) -> list[bytes]:
        try:
            end = b":" + check_queue_name(queue).encode()
        except UnicodeEncodeError as error:
            raise not_unicode(error) from error
        return [self._tag + b":" + state.encode() + end for state in STATES]


MOST_KNOWN = 1000
"""Queues whose keys are remembered."""
