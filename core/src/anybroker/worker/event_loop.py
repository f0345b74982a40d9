"""The event loop that runs coroutine functions."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from anybroker.worker.execution import Execution

ANSWERS_WITHIN = 1.0
"""Seconds; a loop that takes longer is stuck with a coroutine in it."""
BLOCKED_AFTER = 0.5
"""Seconds without an answer after which a loop is left alone until it gives one."""
_log = logging.getLogger("anybroker.worker")


class EventLoop:
    """One event loop in a thread of its own, started when the first coroutine function is to be run."""

    def __init__(self, run: Callable[[Execution], Coroutine[None, None, None]]) -> None:
        self._run = run
        self._turn: _Turn | None = None

    def submit(self, executions: Sequence[Execution], limit: int) -> None:
        """Run these, up to ``limit`` at once."""
        turn = self._turn
        if turn is None:
            turn = _Turn(self._run)
            turn.start()
            self._turn = turn
        turn.queued.extend(executions)
        turn.resize(limit)

    def resize(self, limit: int) -> None:
        """Let up to ``limit`` run at once."""
        if (turn := self._turn) is not None:
            turn.resize(limit)

    def cancel(self, executions: Iterable[Execution]) -> None:
        """Cancel those of these that have begun."""
        if (turn := self._turn) is not None:
            turn.cancel([execution.key for execution in executions])

    def give_up(self, execution: Execution) -> None:
        """Cancel one that does not end when cancelled, and let another begin in its place."""
        if (turn := self._turn) is not None:
            turn.loop.call_soon_threadsafe(turn.give_up, execution.key)

    def probe(self) -> None:
        """Ask the loop for a sign of life, unless it owes one."""
        if (turn := self._turn) is not None:
            turn.probe()

    @property
    def blocked(self) -> bool:
        """Whether the loop owes a sign of life for too long, because a coroutine in it blocks."""
        turn = self._turn
        return turn is not None and turn.blocked

    def is_stuck(self) -> bool:
        """Whether the loop does not answer, because a coroutine in it blocks."""
        answered = threading.Event()
        turn = self._turn
        if turn is None:
            return False
        turn.loop.call_soon_threadsafe(answered.set)
        return not answered.wait(ANSWERS_WITHIN)

    def abandon(self) -> None:
        """Leave a loop that is stuck; the next submit starts another."""
        _log.error("a coroutine blocks the event loop; coroutines that come now get a new one")
        self._turn = None

    def close(self) -> None:
        """End the loop."""
        if (turn := self._turn) is not None:
            self._turn = None
            turn.close()


class _Turn:
    """One loop and what it runs. ``queued`` and the probe are shared; other fields belong to the loop's thread."""

    def __init__(self, run: Callable[[Execution], Coroutine[None, None, None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.queued: deque[Execution] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="anybroker-asyncio", daemon=True)
        self._run = run
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._given_up: set[asyncio.Task[None]] = set()
        self._limit = 0
        self._asked: float | None = None
        """When the loop was asked for a sign of life that it has not given yet; seconds of ``time.monotonic``."""
        self._warned = False

    def start(self) -> None:
        """Raises ``RuntimeError`` where the system grants no thread."""
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    def close(self) -> None:
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2 * ANSWERS_WITHIN)

    def resize(self, limit: int) -> None:
        self._limit = limit
        self.loop.call_soon_threadsafe(self._start)

    def probe(self) -> None:
        if self._asked is None:
            self._asked = time.monotonic()
            self.loop.call_soon_threadsafe(self._answer)
        elif self.blocked and not self._warned:
            self._warned = True
            _log.error("a coroutine blocks the event loop; until it ends, other coroutines are left to other workers")

    @property
    def blocked(self) -> bool:
        asked = self._asked  # the loop may answer between two looks
        return asked is not None and time.monotonic() - asked > BLOCKED_AFTER

    def cancel(self, keys: list[int]) -> None:
        self.loop.call_soon_threadsafe(lambda: [self._tasks[key].cancel() for key in keys if key in self._tasks])

    def give_up(self, key: int) -> None:
        """In the loop's thread."""
        if (task := self._tasks.pop(key, None)) is not None:
            self._given_up.add(task)  # asyncio itself holds its tasks weakly
            task.add_done_callback(self._given_up.discard)
            task.cancel()
        self._start()

    def _answer(self) -> None:
        self._asked = None
        self._warned = False

    def _start(self) -> None:
        while self.queued and len(self._tasks) < self._limit:
            execution = self.queued.popleft()
            run = self._run_and_go_on(execution)
            self._tasks[execution.key] = self.loop.create_task(run, context=Context())  # not the last task's

    async def _run_and_go_on(self, execution: Execution) -> None:
        try:
            await self._run(execution)
        finally:
            self._tasks.pop(execution.key, None)
            self._start()

    def _run_forever(self) -> None:
        try:
            self.loop.run_forever()
        except BaseException:  # asyncio lets SystemExit and KeyboardInterrupt of a task's own tasks through
            _log.exception("a coroutine tried to end the event loop")

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._closing:
                self._run_forever()
            with suppress(RuntimeError):  # the loop was just leaving by itself
                self._farewell()
        finally:
            self.loop.close()

    def _farewell(self) -> None:
        """Let what is left end itself, for a moment."""
        self.queued.clear()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=ANSWERS_WITHIN))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
