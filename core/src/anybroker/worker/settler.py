"""Carries out outcomes: results stored, successors enqueued, then messages settled; in batches, in this order.

A batch is whatever has come together by the time it is looked at, so that batches grow with the load and a lone task is
not delayed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker.events import LeaseWasLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.app import App
    from anybroker.backend import Result
    from anybroker.worker.execution import Outcome
    from anybroker.worker.outage import Outage

_log = logging.getLogger("anybroker.worker")

MAX_BATCH = 1000
ENOUGH = 256
"""Outcomes that a busy thread settles itself rather than leave them to the settler's."""
LINGER = 0.002
"""Seconds for which the settler's thread waits for more; only while other tasks run."""


class Settlement:
    """A batch on its way: its stages are carried out in order, each until it has succeeded once."""

    def __init__(self, app: App, outcomes: Sequence[Outcome], *, lease: float, last_resort: bool = False) -> None:
        """``lease``: seconds for which messages are held by whoever settles them.

        ``last_resort``: the outcome is that of a refusal, after which there is nothing else to try.
        """
        self.outcomes = outcomes
        self._lease = lease
        self.last_resort = last_resort
        self._app = app
        self._ours = list(outcomes)
        self._stages = [self._confirm, self._store, self._enqueue, self._ack, self._update]

    def carry_out(self) -> None:
        """Do what is left to do. May be repeated after an error: every stage is idempotent until it has succeeded."""
        while self._stages:
            self._stages[0]()
            del self._stages[0]

    def split(self) -> list[Settlement]:
        """One settlement for each outcome, with the stages that are left."""
        parts = [Settlement(self._app, [outcome], lease=self._lease) for outcome in self.outcomes]
        ours = {id(outcome) for outcome in self._ours}
        for part in parts:
            del part._stages[: -len(self._stages) if id(part.outcomes[0]) in ours else None]  # noqa: SLF001  its own class
        return parts

    def _confirm(self) -> None:
        """Leave out failures for good of those who have lost the lease: another worker may succeed meanwhile.

        Their messages are fenced, but not what comes before: the result would stand in the way of that of the success.
        """
        doubtful = [outcome for outcome in self._ours if outcome.fails]
        if not doubtful:
            return
        held = self._app.broker.extend([outcome.delivery for outcome in doubtful], lease=self._lease)
        lost = {id(outcome): outcome for outcome, ours in zip(doubtful, held, strict=True) if not ours}
        self._tell(list(lost.values()), [False] * len(lost))
        self._ours = [outcome for outcome in self._ours if id(outcome) not in lost]

    def _store(self) -> None:
        by_ttl: dict[float | None, list[Result]] = {}
        for outcome in self._ours:
            if outcome.result is not None:
                by_ttl.setdefault(outcome.ttl, []).append(outcome.result)
        for ttl, results in by_ttl.items():
            self._app.results().store(results, ttl=ttl)

    def _enqueue(self) -> None:
        successors = [message for outcome in self._ours for message in outcome.successors]
        if successors:
            self._app.broker.enqueue(successors)
            self._app.tell_enqueued(successors)

    def _ack(self) -> None:
        done = [outcome for outcome in self._ours if outcome.version is None]
        if done:
            self._tell(done, self._app.broker.ack([outcome.delivery for outcome in done]))

    def _update(self) -> None:
        changes = [(outcome.delivery, outcome.version) for outcome in self._ours if outcome.version is not None]
        if changes:
            changed = [outcome for outcome in self._ours if outcome.version is not None]
            self._tell(changed, self._app.broker.update(changes))

    def _tell(self, outcomes: Sequence[Outcome], settled: Sequence[bool]) -> None:
        listeners = self._app.listeners
        for outcome, ours in zip(outcomes, settled, strict=True):
            if not ours:
                message = outcome.delivery.message
                _log.warning("message %s: its lease was lost before it was settled; it is delivered again", message.id)
                if listeners.wants(LeaseWasLost):
                    lost = LeaseWasLost(id=message.id, task=outcome.task, queue=message.queue, attempt=outcome.attempt)
                    listeners.emit(lost)
                continue
            if outcome.log is not None:
                _log.log(*outcome.log)
            for event in outcome.events:
                listeners.emit(event())


class Settler:
    """Settles outcomes in batches: in the thread that runs out of work, else in a thread of its own.

    The former keeps what a task has touched on the processor that touched it; the latter is there when tasks go on.
    """

    def __init__(
        self,
        app: App,
        outage: Outage,
        settled: Callable[[Sequence[Outcome]], None],
        unsettled: Callable[[Outcome, AnybrokerError], Outcome],
        *,
        lease: float,
    ) -> None:
        """``settled`` is told what is done with; ``unsettled`` makes another outcome of one that was refused.

        ``lease``: seconds for which messages are held.
        """
        self._app = app
        self._outage = outage
        self._settled = settled
        self._unsettled = unsettled
        self._lease = lease
        self._pending: deque[Outcome] = deque()
        self._failed: deque[Settlement] = deque()
        self._settling = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="anybroker-settle", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, outcome: Outcome) -> None:
        """Settle this now, in the settler's own thread. Any thread may call it."""
        self._pending.append(outcome)
        if not self._urgent.is_set():
            self._urgent.set()
            self._wake.set()

    def collect(self, outcome: Outcome) -> None:
        """Settle this with what comes next; the caller goes on to ``relieve`` or to ``flush``."""
        self._pending.append(outcome)

    def relieve(self) -> None:
        """The caller has other work to do: settle soon what is pending, or now when it is much."""
        if len(self._pending) >= ENOUGH:
            self.flush()
        elif self._pending and not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Settle in the calling thread what is pending, unless another thread is at it."""
        if not self._settling.acquire(blocking=False):
            self._wake.set()
            return
        try:
            while settlement := self._next_batch():
                try:
                    settlement.carry_out()
                except Exception:  # the settler's own thread has the patience for it
                    self._failed.append(settlement)
                    self._urgent.set()
                    self._wake.set()
                    return
                self._outage.over("settle")
                self._settled(settlement.outcomes)
        finally:
            self._settling.release()

    def close(self) -> None:
        """Settle what is pending, then end; see :meth:`ended`."""
        self._closing = True
        self._urgent.set()
        self._wake.set()

    def ended(self, timeout: float) -> bool:
        """Whether all is settled, within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing or self._pending or self._failed:
            self._wake.wait()
            self._urgent.wait(LINGER)
            self._wake.clear()
            self._urgent.clear()
            with self._settling:
                while self._failed:
                    self._settle(self._failed.popleft())
                while settlement := self._next_batch():
                    self._settle(settlement)
            if self._closing:
                self._wake.set()

    def _next_batch(self) -> Settlement | None:
        batch = [self._pending.popleft() for _ in range(min(len(self._pending), MAX_BATCH))]
        return Settlement(self._app, batch, lease=self._lease) if batch else None

    def _settle(self, settlement: Settlement) -> None:
        while not self._outage.given_up:
            try:
                settlement.carry_out()
            except BrokerUnavailable as error:
                self._outage.pause("settle", error)
            except Exception as error:
                if len(settlement.outcomes) > 1:  # one of them must not keep the others from being settled
                    for part in settlement.split():
                        self._settle(part)
                    return
                [outcome] = settlement.outcomes
                instead = None if settlement.last_resort else self._instead(outcome, error)
                if instead is not None:
                    settlement = instead
                    continue
                id_ = outcome.delivery.message.id
                _log.exception("message %s cannot be settled; it is delivered again after its lease", id_)
                break
            else:
                self._outage.over("settle")
                break
        self._settled(settlement.outcomes)

    def _instead(self, outcome: Outcome, error: Exception) -> Settlement | None:
        """What keeps the task of an outcome that was refused; None where nothing does."""
        if not isinstance(error, AnybrokerError):
            return None
        try:
            outcomes = [self._unsettled(outcome, error)]
        except Exception:
            _log.exception("message %s cannot be kept as a dead letter", outcome.delivery.message.id)
            return None
        return Settlement(self._app, outcomes, lease=self._lease, last_resort=True)
