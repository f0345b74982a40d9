"""The worker: acquires, runs, settles; stops without losing anything."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import msgspec

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError
from anybroker.events import WorkerStarted, WorkerStopped
from anybroker.retry import Seconds, seconds
from anybroker.task import new_id
from anybroker.worker.execution import Execution, Outcome
from anybroker.worker.executors import Executors
from anybroker.worker.leases import LeaseKeeper
from anybroker.worker.outage import Outage
from anybroker.worker.pace import Pace
from anybroker.worker.pipeline import Pipeline
from anybroker.worker.queue_order import QueueOrder
from anybroker.worker.settler import Settlement, Settler

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from anybroker.app import App
    from anybroker.broker import Delivery

_log = logging.getLogger("anybroker.worker")

WAIT = 0.5
"""Seconds for one ``acquire`` of an idle worker, and so the longest time that a stop has to wait for it."""
STOP_POLL = 0.01
"""Seconds between two looks at whether a stop is complete."""
HURRIED_SETTLE = 1.0
"""Seconds that a stop in a hurry takes to settle what can be settled."""
CLEARING = 3.0
"""Seconds for which a worker takes nothing, to become empty for a task that is suspected of killing its workers."""
CLEARING_INTERVAL = 60.0
"""Seconds after which it tries that again when it did not become empty."""
SUSPECT_PAUSE = 1.0
"""Seconds after which a suspect is delivered again that met a worker which does not become empty."""
GIVE_BACK_AFTER = 1.0
"""Seconds after which a message that was taken in advance and not started is given back."""
BLOCKED_PAUSE = 0.1
"""Seconds after which a worker whose event loop is blocked looks again for tasks that it can run all the same."""
BLOCKED_DELAY = 1.0
"""Seconds after which a coroutine that met such a worker is delivered again, so that others come first until then."""


class WorkerStats(msgspec.Struct, frozen=True):
    """What a worker is doing at a moment."""

    concurrency: int
    running: int
    """Tasks that are running now; never more than ``concurrency`` functions and as many coroutines."""
    waiting: int
    """Taken in advance."""
    settling: int
    """Done, and not yet settled with the broker."""
    finished: int
    """Since the worker started, whatever came of them; without those that were given back."""
    abandoned: int
    """Tasks that ignored their time limit and were given up; each keeps a thread of this process."""

    @property
    def idle(self) -> bool:
        """Nothing is held."""
        return self.running + self.waiting + self.settling == 0


class Worker:
    """Runs the tasks of some queues in this process.

    ``with app.worker(concurrency=4): ...`` runs one beside the rest of a program; ``anybroker worker module:app`` is
    one with a process of its own.

    - ``queues``: names in order of preference, or with weights (``"mail:3,default:1"``); the default queue by default.
    - ``concurrency``: how many tasks run at once; may be changed while it runs.
    - ``lease``: seconds for which a message is held without a heartbeat: how long a killed worker's tasks rest.
    - ``grace``: seconds for which ``stop`` lets running tasks go on.

    What is not given is as the app's settings say.
    """

    def __init__(
        self,
        app: App,
        *,
        queues: str | Iterable[str] | None = None,
        concurrency: int | None = None,
        lease: Seconds | None = None,
        grace: Seconds | None = None,
    ) -> None:
        settings = app.settings
        self.app = app
        self.name: str = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        default = f"{settings.default_queue}:1"  # its name may have commas, or look like one with a weight
        self.queues: QueueOrder = QueueOrder(queues or settings.queues or [default])
        dead = [name for name in self.queues.names if name.endswith(settings.dead_queue_suffix)]
        if dead:
            message = f"{dead[0]!r} is a dead-letter queue; put its tasks back with: anybroker dead retry"
            raise ConfigurationError(message)
        self._concurrency = _at_least_one(settings.concurrency if concurrency is None else concurrency)
        self.lease: float = seconds(settings.lease if lease is None else lease)
        self.grace: float = seconds(settings.grace if grace is None else grace)
        longest = app.broker.capabilities.max_lease
        if not 0 < self.lease <= longest or self.grace < 0:
            message = f"lease={self.lease} and grace={self.grace}: above 0 and up to {longest} s, and not below 0"
            raise ConfigurationError(message)
        self._pipeline = Pipeline(app)
        self._outage = Outage(self.name, app.listeners)
        self._held: dict[int, Execution] = {}
        self._settler = Settler(app, self._outage, self._settled, self._pipeline.unsettled, lease=self.lease)
        self._executors = Executors(self._pipeline, self._settler, app.listeners)
        self._keeper = LeaseKeeper(app, self._pipeline, self._held, self.lease, self._lost)
        self._keeper.chores += [self._executors.probe_loop, self._give_back_overdue]
        self._alone: int | None = None
        """Key of the suspect that is running with nothing beside it."""
        self._clearing_until = 0.0
        """A suspect was seen: until then take nothing while anything is held, and then one message only."""
        self._next_clearing = 0.0
        self._room = threading.Event()
        self._finished = 0
        self._given_back = 0
        self._pace = Pace()
        self._stopping = threading.Event()
        self._hurried = False
        self._stopped = threading.Event()
        self._consumer = threading.Thread(target=self._consume, name="anybroker-acquire", daemon=True)

    @property
    def concurrency(self) -> int:
        """How many tasks run at once. May be set while the worker runs."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = _at_least_one(value)
        self._executors.resize(value)
        self._room.set()

    def stats(self) -> WorkerStats:
        """What the worker is doing now."""
        running, waiting = len(self._executors.running), len(self._executors.waiting)
        return WorkerStats(
            concurrency=self.concurrency,
            running=running,
            waiting=waiting,
            settling=max(0, len(self._held) - running - waiting),
            finished=self._finished - self._given_back,
            abandoned=self._executors.abandoned,
        )

    # starting and stopping

    def start(self) -> None:
        """Begin to acquire. Returns at once; a broker that is down is waited for."""
        self._settler.start()
        self._keeper.start()
        self._consumer.start()
        self.app.listeners.emit(WorkerStarted(worker=self.name))

    def stop(self, grace: Seconds | None = None) -> None:
        """Stop acquiring, let running tasks finish within the grace time, give everything else back.

        Calling it again, from another thread, ends the grace time at once. Returns when all is settled.
        """
        if self._stopping.is_set():
            self.hurry()
            self._stopped.wait()
            return
        self._stopping.set()
        if self._consumer.ident is None:  # it was never started
            self._stopped.set()
            return
        try:
            self._wind_up(self.grace if grace is None else seconds(grace))
        finally:
            self._stopped.set()
        self.app.listeners.emit(WorkerStopped(worker=self.name))

    def hurry(self) -> None:
        """End the grace time of a ``stop`` that is under way. Safe in a signal handler."""
        self._hurried = True

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _wind_up(self, grace: float) -> None:
        self._room.set()
        deadline = time.monotonic() + grace
        self._give_back(self._executors.take_waiting())
        while self._unfinished() and time.monotonic() < deadline and not self._hurried:
            time.sleep(STOP_POLL)
        self._consumer.join(WAIT + 1.0)
        self._give_back(self._executors.take_waiting())
        self._give_back(self._executors.take_running())
        self._await_settler()
        self._keeper.close()
        self._executors.close()

    def _unfinished(self) -> bool:
        """Whether something that was taken has no outcome yet."""
        return any(not execution.finished for execution in list(self._held.values()))

    def _await_settler(self) -> None:
        """Wait until all is settled, but no longer than its leases last, and hardly when in a hurry."""
        deadline = time.monotonic() + self.lease
        while self._held or not self._settler.ended(STOP_POLL):
            if not self._held:
                self._settler.close()
            if self._hurried:
                deadline = min(deadline, time.monotonic() + HURRIED_SETTLE)
            if time.monotonic() >= deadline:
                self._outage.give_up()
                self._settler.close()
                return
            time.sleep(STOP_POLL)

    # acquiring

    def _consume(self) -> None:
        while not self._stopping.is_set():
            limit = self._free()
            if limit < 1:
                self._room.clear()
                if self._free() < 1 and not self._stopping.is_set():
                    self._room.wait(CLEARING if self._clearing_until else None)
                continue
            blocked = self._executors.loop_blocked
            wait = 0.0 if blocked else WAIT  # a coroutine that arrives is for those who wait and can run it
            began = time.monotonic()
            try:
                deliveries = self.app.broker.acquire(self.queues.next(), limit=limit, wait=wait, lease=self.lease)
                self._outage.over("acquire")
                if deliveries:
                    self._pace.took(deliveries, time.monotonic() - began)
                if not self._dispatch(deliveries) and blocked:
                    self._stopping.wait(BLOCKED_PAUSE)
            except AnybrokerError as error:  # also a password that is refused: its message says it all
                self._outage.pause("acquire", error)
            except Exception as error:
                _log.exception("acquire failed")
                self._outage.pause("acquire", error)

    def _free(self) -> int:
        """How many messages to ask for."""
        if self._alone is not None:
            return 0
        if self._clearing_until:
            if time.monotonic() < self._clearing_until:
                return 0 if self._held else 1
            if self._held:  # tasks that run for long must neither wait for suspects nor keep them waiting everywhere
                self._next_clearing = time.monotonic() + CLEARING_INTERVAL
            self._clearing_until = 0.0
        return self.concurrency + self._pace.prefetch() - len(self._held)

    def _dispatch(self, deliveries: Sequence[Delivery]) -> bool:
        """Begin with what was delivered; see :meth:`Pipeline.runs_alone` about suspects. Whether any of it can run."""
        if not deliveries:
            return False
        executions = self._admitted(deliveries)
        try:
            self._begin(executions)
        except Exception:
            for execution in executions:  # their leases bring back what was not begun
                if self._executors.drop(execution) or execution.key not in self._executors.running:
                    self._release(execution.key)
            raise
        return bool(executions)

    def _admitted(self, deliveries: Sequence[Delivery]) -> list[Execution]:
        """What there is to run, which is held from now on; without coroutines while a coroutine blocks the loop."""
        blocked = self._executors.loop_blocked
        executions = []
        for delivery in deliveries:
            try:
                admitted = self._pipeline.admit(delivery)
            except Exception:  # it must not take along what was delivered with it
                id_ = delivery.message.id
                _log.exception("message %s cannot be judged; it is delivered again after its lease", id_)
                continue
            if isinstance(admitted, Outcome):
                self._settler.add(admitted)
                continue
            self._held[admitted.key] = admitted
            if blocked and admitted.step_to_run.is_async:
                self._give_back([admitted], BLOCKED_DELAY)
            else:
                executions.append(admitted)
        return executions

    def _begin(self, executions: list[Execution]) -> None:
        suspects = [execution for execution in executions if self._pipeline.runs_alone(execution)]
        if suspects and len(self._held) > 1:
            now = time.monotonic()
            clearing = now >= self._next_clearing
            self._leave_to_others(suspects, None if clearing else SUSPECT_PAUSE)
            self._clearing_until = now + CLEARING if clearing else 0.0
            executions = [execution for execution in executions if execution not in suspects]
        else:
            self._clearing_until = 0.0
            self._alone = suspects[0].key if suspects else None
        self._keeper.wake()
        if self._stopping.is_set():
            self._give_back(executions)
        elif executions:
            self._executors.submit(executions, limit=self.concurrency)

    def _leave_to_others(self, suspects: Sequence[Execution], delay: float | None) -> None:
        """Give these back before anything else begins, which might take this process down with them in it."""
        outcomes = [self._pipeline.given_back(suspect, delay) for suspect in suspects]
        try:
            Settlement(self.app, outcomes, lease=self.lease).carry_out()
        except BrokerUnavailable:
            self._give_back(suspects)  # as soon as it can be reached
        else:
            for suspect in suspects:
                self._release(suspect.key)

    # finishing

    def _settled(self, batch: Sequence[Outcome]) -> None:
        for outcome in batch:
            if outcome.key is not None:
                self._release(outcome.key)
        self._finished += len(batch)
        self._pace.finished(len(batch))
        if not self._room.is_set():
            self._room.set()

    def _give_back(self, executions: Iterable[Execution], delay: float | None = None) -> None:
        for execution in executions:
            self._given_back += 1
            execution.finished = True
            self._settler.add(self._pipeline.given_back(execution, delay))

    def _lost(self, execution: Execution) -> None:
        """Another worker may have it: do not begin with it here."""
        if self._executors.drop(execution):
            self._release(execution.key)
            self._room.set()

    def _release(self, key: int) -> None:
        """It is held no more."""
        self._held.pop(key, None)
        if self._alone == key:
            self._alone = None

    def _give_back_overdue(self) -> None:
        """What was taken in advance and cannot be started soon is for others."""
        if self._executors.waiting:
            self._executors.resize(self.concurrency)  # threads may have been refused
            self._give_back(self._executors.take_waiting(older_than=GIVE_BACK_AFTER))


def _at_least_one(concurrency: int) -> int:
    given: object = concurrency  # for those who do not run a type checker
    if not isinstance(given, int) or given < 1:
        message = f"concurrency={given!r}: a whole number, at least 1"
        raise ConfigurationError(message)
    return concurrency
