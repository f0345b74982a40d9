"""Looking into the queues of a Redis broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.broker import Stats
from anybroker.validation import check_queue_name
from anybroker_broker_redis.payload import message
from anybroker_broker_redis.scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Inspect, Message
    from anybroker_broker_redis.keys import Keys
    from anybroker_broker_redis.link import Link

PEEK_DEPTH = 1000
"""Messages of each other state that ``peek`` looks at beside those that are ready; of more, those due first."""
_BITE = 1000
"""Ids that one script removes."""

_STATS = script("stats")
_PEEK = script("peek")
_REMOVE = script("remove")
_PURGE = script("purge")


class Inspection:
    """The part of the broker that implements :class:`~anybroker.broker.Inspect`."""

    _link: Link
    _keys: Keys

    def queues(self) -> list[str]:
        """The names of the queues that hold messages, sorted."""
        return sorted(name.decode(errors="replace") for name in self._opened().send("HKEYS", self._keys.queues))

    def stats(self, queue: str) -> Stats:
        """Counts of one queue, in O(log n) however many messages it holds."""
        ready, leased, delayed, oldest = self._opened().call(_STATS, self._keys.of(queue), ())
        return Stats(ready, leased, delayed, oldest / 1e6 if oldest >= 0 else None)

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """The first messages of a queue in the order of delivery, whatever their state.

        Of those that are leased, delayed or held back, the first thousand of each are looked at.
        """
        found = self._opened().call(_PEEK, self._keys.of(queue), (limit, PEEK_DEPTH))
        ids = [id_.decode(errors="replace") for id_ in found[::2]]
        stored = zip(ids, found[1::2], strict=True)
        return [message(id_, queue, value) for id_, value in stored if value is not None]  # removed by others

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Remove messages that are not leased."""
        answers: list[int] = []
        for start in range(0, len(ids), _BITE):
            arguments = (check_queue_name(queue), *ids[start : start + _BITE])
            answers += self._opened().call(_REMOVE, self._keys.of(queue), arguments, writes=True)
        return [answer == 1 for answer in answers]

    def purge(self, queue: str) -> int:
        """Remove every message of a queue that is not leased, a thousand at a time; returns how many."""
        removed, most = 0, self.stats(queue).total
        while bite := self._opened().call(_PURGE, self._keys.of(queue), (check_queue_name(queue),), writes=True):
            removed += bite
            if removed >= most:
                break
        return removed

    def _opened(self) -> Link:
        raise NotImplementedError


__: type[Inspect] = Inspection
