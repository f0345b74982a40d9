"""Heartbeats: holds the leases of what a worker has, and does not hold what it cannot get to."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError
from anybroker.events import LeaseWasLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.app import App
    from anybroker.backend import Result
    from anybroker.worker.execution import Execution
    from anybroker.worker.pipeline import Pipeline

_log = logging.getLogger("anybroker.worker")

TICK = 0.1
CLOSE_WITHIN = 1.0
"""Seconds; a broker that does not answer a heartbeat must not hold up a stop."""
SHOW_RUNNING_AFTER = 0.1
"""Seconds after which a task's state is stored as running; shorter ones are not worth the call."""


class LeaseKeeper:
    """Extends every lease of which a third is used, and shows what runs."""

    def __init__(
        self,
        app: App,
        pipeline: Pipeline,
        held: dict[int, Execution],
        lease: float,
        lost: Callable[[Execution], None],
    ) -> None:
        """``held``: by key, what the worker has; ``lost`` is told which of it others may have by now."""
        self._app = app
        self._pipeline = pipeline
        self._held = held
        self._lease = lease
        self._tell_lost = lost
        self._wake = threading.Event()
        self._closing = False
        self.chores: list[Callable[[], None]] = []
        """Called with every tick while something is held."""
        # A result backend that does not answer must not keep leases from being extended: each has a thread.
        duties = {"anybroker-leases": [self._extend, self._do_chores]}
        if app.backend is not None:
            duties["anybroker-running"] = [self._show_running]
        self._threads = [
            threading.Thread(target=self._run, args=of_one, name=name, daemon=True) for name, of_one in duties.items()
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something is held."""
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """End."""
        self._closing = True
        self._wake.set()
        for thread in self._threads:
            thread.join(CLOSE_WITHIN)

    def _run(self, *duties: Callable[[], None]) -> None:
        """Do these with every tick while something is held."""
        tick = min(TICK, self._lease / 6)
        pause = threading.Event()
        while not self._closing:
            self._wake.wait()
            if not self._held:
                self._wake.clear()
                if self._held or self._closing:
                    self._wake.set()
                continue
            pause.wait(tick)
            try:
                for duty in duties:
                    duty()
            except AnybrokerError as error:
                _log.debug("heartbeat: %s", error)  # whoever settles says it aloud
            except Exception:
                _log.exception("a heartbeat failed")

    def _do_chores(self) -> None:
        for chore in self.chores:
            chore()

    def _extend(self) -> None:
        now = time.monotonic()
        due = [execution for execution in list(self._held.values()) if now - execution.extended_at >= self._lease / 3]
        if not due:
            return
        for execution, ours in zip(
            due, self._app.broker.extend([one.delivery for one in due], lease=self._lease), strict=True
        ):
            if ours:
                execution.extended_at = now
            elif execution.key in self._held and not execution.finished:  # what is finished, the settler answers for
                self._lost(execution)

    def _lost(self, execution: Execution) -> None:
        execution.lease_lost = True
        execution.extended_at = float("inf")
        self._tell_lost(execution)
        _log.warning("task %s (%s) lost its lease; another worker may be running it too", execution.name, execution.id)
        if self._app.listeners.wants(LeaseWasLost):
            self._app.listeners.emit(
                LeaseWasLost(id=execution.id, task=execution.name, queue=execution.queue, attempt=execution.attempt)
            )

    def _show_running(self) -> None:
        since = time.monotonic() - SHOW_RUNNING_AFTER
        shown = [
            execution
            for execution in list(self._held.values())
            if self._pipeline.keeps_result(execution)
            and not execution.running_stored
            and 0 < execution.started_at <= since
        ]
        by_ttl: dict[float | None, list[Result]] = {}
        for execution in shown:
            execution.running_stored = True
            by_ttl.setdefault(execution.definition.results_ttl, []).append(self._pipeline.running(execution))
        for ttl, results in by_ttl.items():
            self._app.results().store(results, ttl=ttl)
