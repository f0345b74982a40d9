"""Looking into queues, also from inside a task: its time limit does not interrupt a call in the middle."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anybroker.context import shielded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Estimate, Inspect, Message, Overview, Stats


class Looking:
    """A broker as :meth:`App.inspect <anybroker.app.App.inspect>` returns it."""

    def __init__(self, broker: Inspect) -> None:
        self._broker = broker

    def queues(self) -> list[str]:
        """As :meth:`Inspect.queues <anybroker.broker.Inspect.queues>`."""
        return shielded(self._broker.queues)

    def stats(self, queue: str) -> Stats:
        """As :meth:`Inspect.stats <anybroker.broker.Inspect.stats>`."""
        return shielded(partial(self._broker.stats, queue))

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """As :meth:`Inspect.peek <anybroker.broker.Inspect.peek>`."""
        return shielded(partial(self._broker.peek, queue, limit=limit))

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """As :meth:`Inspect.remove <anybroker.broker.Inspect.remove>`."""
        return shielded(partial(self._broker.remove, queue, ids))

    def purge(self, queue: str) -> int:
        """As :meth:`Inspect.purge <anybroker.broker.Inspect.purge>`."""
        return shielded(partial(self._broker.purge, queue))


class Estimating:
    """A broker as :meth:`App.overview <anybroker.app.App.overview>` returns it."""

    def __init__(self, broker: Overview) -> None:
        self._broker = broker

    def known_queues(self) -> list[str]:
        """As :meth:`Overview.known_queues <anybroker.broker.Overview.known_queues>`."""
        return shielded(self._broker.known_queues)

    def estimate(self, queue: str) -> Estimate:
        """As :meth:`Overview.estimate <anybroker.broker.Overview.estimate>`."""
        return shielded(partial(self._broker.estimate, queue))

    def clear(self, queue: str) -> None:
        """As :meth:`Overview.clear <anybroker.broker.Overview.clear>`."""
        shielded(partial(self._broker.clear, queue))


if TYPE_CHECKING:
    _: type[Inspect] = Looking
    __: type[Overview] = Estimating
