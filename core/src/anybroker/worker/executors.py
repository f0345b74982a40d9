"""Where task functions run: threads for plain functions, an event loop for coroutine functions."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from anybroker.worker.deadlines import Deadlines
from anybroker.worker.event_loop import EventLoop
from anybroker.worker.runner import Runner, timed_out
from anybroker.worker.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.events import Listeners
    from anybroker.worker.execution import Execution
    from anybroker.worker.pipeline import Pipeline
    from anybroker.worker.settler import Settler

CLOSE_WITHIN = 0.5
"""Seconds to wait for threads that are about to end."""
_log = logging.getLogger("anybroker.worker")


class Executors:
    """Runs executions and hands their outcomes to the settler.

    An execution is first in ``waiting``, then in ``running``, then it has an outcome. Who takes it out of one of the
    two dictionaries, which is atomic, owns what comes next: a task that is given back or given up has one outcome only.
    """

    def __init__(self, pipeline: Pipeline, settler: Settler, listeners: Listeners) -> None:
        self.waiting: dict[int, Execution] = {}
        self.running: dict[int, Execution] = {}
        self.abandoned = 0
        """Tasks that ran on after their time limit although they were told to stop; their threads are lost."""
        self._pipeline = pipeline
        self._settler = settler
        self._runner = Runner(pipeline, listeners, Deadlines(self._give_up))
        self._threads = Threads(self._run_in_thread, between=settler.relieve, idle=settler.flush)
        self._loop = EventLoop(self._run_in_loop)

    def submit(self, executions: Sequence[Execution], *, limit: int) -> None:
        """Run these, up to ``limit`` plain functions and as many coroutine functions at once."""
        self.waiting.update({execution.key: execution for execution in executions})
        plain = [execution for execution in executions if not execution.step_to_run.is_async]
        if plain:
            self._threads.submit(plain, limit)
        if len(plain) < len(executions):
            coroutines = [execution for execution in executions if execution.step_to_run.is_async]
            self._loop.submit(coroutines, limit)

    def take_waiting(self, older_than: float = 0.0) -> list[Execution]:
        """Take out what has been waiting for at least so many seconds, so that it is not run here."""
        limit = time.monotonic() - older_than
        return [one for one in list(self.waiting.values()) if one.acquired_at <= limit and _take(self.waiting, one)]

    def drop(self, execution: Execution) -> bool:
        """Do not begin with this one any more. Whether it had not begun."""
        return _take(self.waiting, execution)

    def take_running(self) -> list[Execution]:
        """Take out what is running; coroutines are cancelled, threads run on and what they return is dropped."""
        taken = [one for one in list(self.running.values()) if _take(self.running, one)]
        self._loop.cancel(taken)
        return taken

    def resize(self, limit: int) -> None:
        """Let up to ``limit`` functions and as many coroutines run at once."""
        self._threads.resize(limit)
        self._loop.resize(limit)

    @property
    def loop_blocked(self) -> bool:
        """Whether a coroutine blocks the event loop, so that no other one would run."""
        return self._loop.blocked

    def probe_loop(self) -> None:
        """To be called every now and then, so that ``loop_blocked`` is known."""
        self._loop.probe()

    def close(self) -> None:
        """End what is idle; what still runs ends when it is done."""
        self._loop.close()
        self._threads.close(CLOSE_WITHIN)

    def _run_in_thread(self, execution: Execution) -> bool:
        """Whether the thread is to take another one."""
        if not _take(self.waiting, execution):
            return True
        self.running[execution.key] = execution
        ending = self._runner.run(execution)
        if not _take(self.running, execution):
            return False
        outcome = self._runner.conclude(execution, ending)
        execution.finished = True
        self._settler.collect(outcome)
        return True

    async def _run_in_loop(self, execution: Execution) -> None:
        if not _take(self.waiting, execution):
            return
        self.running[execution.key] = execution
        ending = await self._runner.run_coroutine(execution)
        if _take(self.running, execution):
            outcome = self._runner.conclude(execution, ending)
            execution.finished = True
            self._settler.add(outcome)

    def _give_up(self, execution: Execution) -> None:
        """A task did not stop when it was told to: leave its thread or its event loop to it and go on without."""
        if not _take(self.running, execution):
            return
        self.abandoned += 1
        where = "event loop" if execution.step_to_run.is_async else "thread"
        _log.error("task %s (%s) ignores its time limit and keeps its %s", execution.name, execution.id, where)
        late = threading.Thread(target=self._conclude_late, args=(execution,), name="anybroker-given-up", daemon=True)
        try:
            late.start()  # a thread of its own: a hook that blocks must not hold up the time limits of others
        except RuntimeError:  # the system grants none
            self._conclude_late(execution)
        if not execution.step_to_run.is_async:
            self._threads.lost_one()
            return
        self._loop.give_up(execution)
        if self._loop.is_stuck():
            caught = [one for one in [*self.running.values(), *self.waiting.values()] if one.step_to_run.is_async]
            self._loop.cancel(caught)
            self._loop.abandon()
            for other in caught:
                if _take(self.running, other) or _take(self.waiting, other):
                    self._settler.add(self._pipeline.given_back(other))

    def _conclude_late(self, execution: Execution) -> None:
        outcome = self._runner.conclude(execution, (self._pipeline.raised, timed_out(execution.timeout)))
        execution.finished = True
        self._settler.add(outcome)


def _take(executions: dict[int, Execution], execution: Execution) -> bool:
    """Whether the caller is the one to go on with it."""
    return executions.pop(execution.key, None) is not None
