"""An acquire that waits, in a thread of its own, and how long after something it returned."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Broker, Delivery

WAIT = 15.0
"""Seconds for which somebody waits who is to be woken; nobody waits so long if the broker is right."""
JITTER = 0.3
"""Seconds that a loaded machine may add to the best of several measurements."""


class Waiter:
    """Waits for messages from the moment it is made. A daemon: a broker that never returns holds nobody up."""

    def __init__(
        self, broker: Broker, queues: Sequence[str], *, limit: int = 5, wait: float = WAIT, lease: float = 60.0
    ) -> None:
        self._arguments = (broker, list(queues), limit, wait, lease)
        self._taken: list[Delivery] = []
        self._error: BaseException | None = None
        self.began = self.ended = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> bool:
        """Whether it still waits."""
        return self._thread.is_alive()

    def result(self, within: float = PATIENCE, *, why: str = "a message was there") -> list[Delivery]:
        """What acquire returned, or raised."""
        self._thread.join(within)
        if self._thread.is_alive():
            raise LawBroken(f"acquire went on waiting {within:g} s after {why}")
        self.raise_error()
        return self._taken

    def raise_error(self) -> None:
        """What acquire raised, if it did."""
        if self._error is not None:
            raise self._error

    @property
    def elapsed(self) -> float:
        """Seconds that acquire took."""
        return self.ended - self.began

    def _run(self) -> None:
        broker, queues, limit, wait, lease = self._arguments
        self.began = time.monotonic()
        try:
            self._taken = broker.acquire(queues, limit=limit, wait=wait, lease=lease)
        except BaseException as error:
            self._error = error
        self.ended = time.monotonic()
