"""Waiting for news: woken by a change stream where the server has them, else until it is time to look again."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure, PyMongoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.collection import Collection

_log = logging.getLogger("anybroker.mongodb")

POLL_CEILING = 0.25
"""Seconds between two looks of one who has waited for a while, without a change stream."""
STREAM_CEILING = 1.0
"""The same with a change stream, which may have ended unnoticed."""
LEAST_PAUSE = 0.02
"""Seconds between two looks of one who was woken in vain, and of all who poll for messages."""
_POLL_GROWTH = 0.25
"""The pause between two looks, as a share of the time in which nothing has come."""
_FIRST_PAUSE = 0.002
"""Seconds between the first two looks of one who waits for something of its own, which may come soon."""
_PAUSE_GROWTH = 0.5
"""The later ones, as a share of the time that it has waited: 14 looks in the first second."""
_IDLE = 5.0
"""Seconds after which a stream that nobody waits for is closed."""
_AWAIT = 1.0
"""Seconds for which the server holds one request for changes."""
_RETRY = 1.0
"""Seconds after which a stream that broke is opened again, and another attempt is made to open one."""
_PAUSE = 0.05
"""Seconds until the next request to a server that answers at once, although there is nothing new."""


class Watch:
    """Wakes those who wait. One thread and one cursor for all of them, while somebody waits."""

    def __init__(self, collection: Collection[Any], pipeline: Sequence[dict[str, Any]], *, streams: bool) -> None:
        self.streams = streams
        self.version = 0
        """Grows with all that is news."""
        self._collection = collection
        self._pipeline = list(pipeline)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._told = False
        self._thread: threading.Thread | None = None
        self._opened = False
        self._wanted_until = 0.0
        self._quiet_since = time.monotonic()

    def notify(self) -> None:
        """Something has changed: let everybody look."""
        with self._changed:
            self.version += 1
            self._quiet_since = time.monotonic()
            self._changed.notify_all()

    def wait(self, seen: int, timeout: float, least: float = 0.0, *, since: float | None = None) -> None:
        """Wait until there is news since version ``seen``, ``timeout`` seconds have passed, or it is time to look.

        News are waited for during ``least`` seconds, unless ``timeout`` is less: most of them are for others. Who waits
        for something of its own says ``since`` when, by the monotonic clock, and is to look the sooner the later that
        was.
        """
        began = time.monotonic()
        with self._changed:
            if self.streams:
                self._want()
            if self.version == seen:
                self._changed.wait(min(timeout, self._pause(since)))
            is_news = self.version != seen
        if is_news:
            time.sleep(max(0.0, began + min(least, timeout) - time.monotonic()))

    def _pause(self, since: float | None) -> float:
        """Seconds until the next look. The longer nothing has come, the longer."""
        if self._opened:
            return STREAM_CEILING
        now = time.monotonic()
        if since is not None:
            return min(POLL_CEILING, max(_FIRST_PAUSE, (now - since) * _PAUSE_GROWTH))
        return min(POLL_CEILING, max(LEAST_PAUSE, (now - self._quiet_since) * _POLL_GROWTH))

    def _want(self) -> None:
        self._wanted_until = time.monotonic() + _IDLE
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="anybroker-mongodb-watch", daemon=True)
            with suppress(RuntimeError):  # there can be no more threads: whoever waits looks again and again
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while self._is_wanted():
            try:
                self._listen()
            except PyMongoError as error:  # a failure of the server is met and told by whoever looks
                if isinstance(error, OperationFailure) and not self._told:
                    self._told = True
                    _log.warning("changes of %s are looked for, not heard of: %s", self._collection.full_name, error)
            except Exception:  # whatever it is, the next stream may do without
                _log.exception("the change stream of %s ended", self._collection.full_name)
            self._set_opened(opened=False)
            if time.monotonic() < self._wanted_until:
                self._closed.wait(_RETRY)

    def _is_wanted(self) -> bool:
        with self._changed:
            if time.monotonic() > self._wanted_until:
                self._thread = None
                return False
            return True

    def _listen(self) -> None:
        """Hear of changes until nobody has waited for a while, or the stream ends: the collection was dropped."""
        await_ms = int(_AWAIT * 1000)
        with self._collection.watch(self._pipeline, max_await_time_ms=await_ms, batch_size=100) as stream:
            self._set_opened(opened=True)  # what came before it was open is news, too
            while stream.alive and time.monotonic() < self._wanted_until:
                asked = time.monotonic()
                if stream.try_next() is not None:
                    self.notify()
                elif time.monotonic() - asked < _PAUSE:
                    time.sleep(_PAUSE)

    def _set_opened(self, *, opened: bool) -> None:
        self._opened = opened
        with suppress(RuntimeError):
            self.notify()

    def close(self) -> None:
        """Let everybody look once more, and the thread end."""
        self._wanted_until = 0.0
        self._closed.set()
        self.notify()
