"""What a worker does while its broker or result backend cannot be reached: says so once, backs off, goes on."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING

from anybroker.events import BrokerBack, BrokerLost
from anybroker.loading import redact

if TYPE_CHECKING:
    from anybroker.events import Listeners

_log = logging.getLogger("anybroker.worker")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between two tries, of which up to half is left to chance."""


class Outage:
    """Shared by the threads of a worker, which all notice the same outage."""

    def __init__(self, worker: str, listeners: Listeners) -> None:
        self._worker = worker
        self._listeners = listeners
        self._lock = threading.Lock()
        self._tries: dict[str, int] = {}
        self._stop = threading.Event()

    @property
    def given_up(self) -> bool:
        """The worker has to end although the broker is not back."""
        return self._stop.is_set()

    def give_up(self) -> None:
        """End all pauses, now and from now on."""
        self._stop.set()

    def pause(self, caller: str, error: BaseException) -> None:
        """The service did not answer ``caller``: wait a little, longer each time."""
        with self._lock:
            first = not self._tries
            tries = self._tries[caller] = self._tries.get(caller, 0) + 1
        if first:
            _log.error("%s; trying again until it answers", redact(f"{type(error).__name__}: {error}"))
            self._listeners.emit(BrokerLost(worker=self._worker, error=error))
        delay = min(FIRST_PAUSE * 2 ** min(tries - 1, 10), LONGEST_PAUSE)
        self._stop.wait(delay * (1 - random.random() / 2))  # noqa: S311  spreads load, guards nothing

    def over(self, caller: str) -> None:
        """A call of ``caller`` succeeded. The outage is over when that is so for all who noticed it."""
        if not self._tries:
            return
        with self._lock:
            back = self._tries.pop(caller, None) is not None and not self._tries
        if back:
            _log.warning("the broker answers again")
            self._listeners.emit(BrokerBack(worker=self._worker))
