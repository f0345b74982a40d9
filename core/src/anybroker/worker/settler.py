"""Carries out outcomes: results stored, successors enqueued, then messages settled; in batches, in this order.

A batch is whatever has come together while the one before it was carried out, so that batches grow with the load and a
lone task is not delayed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from anybroker.errors import BrokerUnavailable
from anybroker.events import LeaseWasLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.app import App
    from anybroker.backend import Result
    from anybroker.worker.execution import Outcome
    from anybroker.worker.outage import Outage

_log = logging.getLogger("anybroker.worker")

MAX_BATCH = 1000


def settle(app: App, outcomes: Sequence[Outcome]) -> None:
    """Carry out a batch. May be repeated after ``BrokerUnavailable``: every part of it is idempotent."""
    _store(app, outcomes)
    if successors := [message for outcome in outcomes for message in outcome.successors]:
        app.broker.enqueue(successors)
    if done := [outcome for outcome in outcomes if outcome.version is None]:
        _tell(app, done, app.broker.ack([outcome.delivery for outcome in done]))
    if changed := [(outcome.delivery, outcome.version) for outcome in outcomes if outcome.version is not None]:
        _tell(app, [outcome for outcome in outcomes if outcome.version is not None], app.broker.update(changed))


def _store(app: App, outcomes: Sequence[Outcome]) -> None:
    by_ttl: dict[float | None, list[Result]] = {}
    for outcome in outcomes:
        if outcome.result is not None:
            by_ttl.setdefault(outcome.ttl, []).append(outcome.result)
    for ttl, results in by_ttl.items():
        app.results().store(results, ttl=ttl)


def _tell(app: App, outcomes: Sequence[Outcome], settled: Sequence[bool]) -> None:
    for outcome, ours in zip(outcomes, settled, strict=True):
        if not ours:
            message = outcome.delivery.message
            _log.warning("message %s: its lease was lost before it was settled; it is delivered again", message.id)
            if app.listeners.wants(LeaseWasLost):
                app.listeners.emit(LeaseWasLost(id=message.id, task="", queue=message.queue))
            continue
        if outcome.log is not None:
            _log.log(*outcome.log)
        for event in outcome.events:
            app.listeners.emit(event())


class Settler:
    """A thread that settles what is added to it."""

    def __init__(self, app: App, outage: Outage, settled: Callable[[Sequence[Outcome]], None]) -> None:
        self._app = app
        self._outage = outage
        self._settled = settled
        self._pending: deque[Outcome] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="anybroker-settle", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, outcome: Outcome) -> None:
        """Settle this soon. Any thread may call it."""
        self._pending.append(outcome)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float) -> bool:
        """Settle what is pending and end; False, ``timeout`` seconds were not enough."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch = [self._pending.popleft() for _ in range(min(len(self._pending), MAX_BATCH))]
                self._settle(batch)
            if self._closing and not self._pending:
                return

    def _settle(self, batch: list[Outcome]) -> None:
        while not self._outage.given_up:
            try:
                settle(self._app, batch)
            except BrokerUnavailable as error:
                self._outage.pause(error)
            except Exception:
                if len(batch) == 1:
                    _log.exception(
                        "message %s cannot be settled; it is delivered again after its lease",
                        batch[0].delivery.message.id,
                    )
                    break
                for outcome in batch:  # so that one of them does not keep the others from being settled
                    self._settle([outcome])
                return
            else:
                self._outage.over()
                break
        self._settled(batch)
