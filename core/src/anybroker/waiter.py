"""Waiting for results in an event loop: any number of coroutines share one thread."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anybroker.backend import Result, ResultBackend

_TURN = 0.005
_LONGEST_TURN = 0.08
"""Seconds for one call of ``wait`` on behalf of coroutines, longer each time while nothing happens: those that come
in the meantime join the next one."""
_IDLE = 5.0
"""Seconds after which a thread that has nobody to wait for ends."""


class Waiter:
    """One thread that waits for all of them. It ends when it has been idle for a while.

    It is of the process that made it: the child of a fork has neither that thread nor those who wait, and its lock may
    be taken for ever.
    """

    def __init__(self, backend: ResultBackend) -> None:
        self.backend = backend
        self.process: int = os.getpid()
        self._changed = threading.Condition()
        self._waiting: dict[str, list[asyncio.Future[Result]]] = {}
        self._thread: threading.Thread | None = None
        self._turn = _TURN

    async def result(self, id: str) -> Result:
        """The final state of a task, as soon as it is there."""
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.setdefault(id, []).append(future)
            self._changed.notify()
            self._turn = _TURN
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="anybroker-results", daemon=True)
                thread.start()
                self._thread = thread
        try:
            result: Result = await future
            return result
        finally:
            self._forget(id, future)

    def _forget(self, id: str, future: asyncio.Future[Result]) -> None:
        with self._changed:
            futures = self._waiting.get(id, [])
            if future in futures:
                futures.remove(future)
            if not futures:
                self._waiting.pop(id, None)

    def _run(self) -> None:
        while ids := self._wanted():
            try:
                results = self.backend.wait(ids, timeout=self._turn)
            except Exception as error:  # whoever waits gets to see it
                for id_ in ids:
                    self._resolve(id_, error)
                continue
            self._turn = _TURN if results else min(2 * self._turn, _LONGEST_TURN)
            for result in results:
                self._resolve(result.id, result)

    def _wanted(self) -> list[str]:
        """The ids that somebody waits for; empty when nobody has for ``_IDLE`` seconds, and the thread is to end."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(_IDLE)
            if not self._waiting:
                self._thread = None
            return list(self._waiting)

    def _resolve(self, id: str, outcome: Result | Exception) -> None:
        with self._changed:
            futures = self._waiting.pop(id, [])
        for future in futures:
            with suppress(RuntimeError):  # its event loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_resolve, future, outcome)


def _resolve(future: asyncio.Future[Result], outcome: Result | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
