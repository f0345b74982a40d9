"""Waiting for results: any number of threads on one connection, without a thread of its own.

A connection that is subscribed to channels may still be asked for values in RESP3, and answers everything in order. So
who waits subscribes to the channel of a result and asks for its value in one go: it is either there already, or told
when it comes. One of those who wait reads the connection, for all of them; when it leaves, another one does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from anybroker_broker_redis.errors import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.connection import Connection

LONGEST_READ = 0.25
"""Seconds for one look at the connection: who reads notices within it that the listener was closed."""


class Waiting:
    """One who waits for the first of some results."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys
        self.listening: set[bytes] = set()
        """Keys of which the value at the beginning has been told. What is told before that is older than this wait."""
        self.found: dict[bytes, bytes] = {}
        """What came, by key; empty where it has to be fetched."""
        self.broken = False
        self.called = threading.Event()
        """Something came, or it is this one's turn to read."""

    def tell(self, key: bytes, value: bytes) -> None:
        """This is what is waited for."""
        self.found[key] = value
        self.called.set()


class Listener:
    """One subscribed connection, made by ``connect`` when it is first needed, and again when it breaks.

    ``is_final`` tells whether a stored value is what is waited for.
    """

    def __init__(self, connect: Callable[[], Connection], is_final: Callable[[bytes], bool]) -> None:
        self._connect = connect
        self._is_final = is_final
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._waiting: dict[bytes, list[Waiting]] = {}
        """By key, which is the name of its channel too."""
        self._asked: deque[tuple[bytes, Waiting]] = deque()
        """Keys whose values are on their way, in the order in which they were asked for, and by whom."""
        self._reader: Waiting | None = None
        self._read_from: Connection | None = None
        """What the reader is reading, and nobody else may end."""
        self._closed = False

    def wait(self, keys: Sequence[bytes], timeout: float) -> dict[bytes, bytes] | None:
        """What came first, by key (an empty value: fetch it); nothing after the time; None if the connection broke.

        Raises ``BrokerUnavailable`` where none can be made.
        """
        waiting = Waiting(keys)
        deadline = time.monotonic() + timeout
        self._subscribe(waiting)
        try:
            while not (waiting.found or waiting.broken or self._closed):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                with self._lock:
                    reads = self._reader is None or self._reader is waiting
                    if reads:
                        self._reader = waiting
                    else:
                        waiting.called.clear()
                if reads:
                    self._read(min(left, LONGEST_READ))
                elif not waiting.found:
                    waiting.called.wait(left)
        finally:
            self._leave(waiting)
        return None if waiting.broken or self._closed else waiting.found

    def close(self) -> None:
        """Let those who wait go, and end the connection."""
        self._closed = True
        with self._lock:
            self._break()

    def _subscribe(self, waiting: Waiting) -> None:
        with self._lock:
            connection = self._connection or self._connect()
            self._connection = connection
            for key in waiting.keys:
                self._waiting.setdefault(key, []).append(waiting)
            try:
                commands = [("SUBSCRIBE", *waiting.keys), *(("GET", key) for key in waiting.keys)]
                self._asked.extend((key, waiting) for key in waiting.keys)
                packed = [piece for command in commands for piece in connection.pack_command(*command)]
                connection.send_packed_command([b"".join(packed)], check_health=False)
            except FAILURES:
                self._break()

    def _leave(self, waiting: Waiting) -> None:
        """Nobody waits here any more: unsubscribe from what nobody else waits for, and hand over the reading."""
        with self._lock:
            alone = []
            for key in waiting.keys:
                others = self._waiting.get(key, [])
                if waiting in others:
                    others.remove(waiting)
                    if not others:
                        del self._waiting[key]
                        alone.append(key)
            if self._reader is waiting:
                self._reader = None
                self._call_next()
            if alone and self._connection is not None:
                try:
                    packed = self._connection.pack_command("UNSUBSCRIBE", *alone)
                    self._connection.send_packed_command(packed, check_health=False)
                except FAILURES:
                    self._break()

    def _read(self, seconds: float) -> None:
        """Read what has come, or the first that comes, and tell whom it concerns."""
        with self._lock:
            connection = self._read_from = self._connection
        broken = False
        try:
            if connection is not None and connection.can_read(seconds):
                self._tell(connection, connection.read_response(push_request=True))
                while connection.can_read(0):
                    self._tell(connection, connection.read_response(push_request=True))
        except FAILURES:
            broken = True
        with self._lock:
            self._read_from = None
            if connection is not self._connection and connection is not None:
                connection.disconnect()  # another one has found it broken, or closed the listener
            elif broken:
                self._break()

    def _tell(self, connection: Connection, item: Any) -> None:
        """Tell a value that was asked for, or what was told on a channel."""
        with self._lock:
            if connection is not self._connection:
                return
            if not isinstance(item, list):
                key, waiting = self._asked.popleft()
                waiting.listening.add(key)
                if item is not None and self._is_final(item):
                    waiting.tell(key, item)
            elif item[0] == b"message":
                key = item[1]
                for waiting in self._waiting.get(key, ()):
                    if key in waiting.listening:
                        waiting.tell(key, item[2])

    def _call_next(self) -> None:
        for line in self._waiting.values():
            line[0].called.set()
            return

    def _break(self) -> None:
        """Forget the connection; those who wait begin anew."""
        connection, self._connection = self._connection, None
        self._asked.clear()
        for line in self._waiting.values():
            for waiting in line:
                waiting.broken = True
                waiting.called.set()
        if connection is not None and connection is not self._read_from:
            connection.disconnect()
