"""Waiting for results: any number of threads on one connection, without a thread of its own.

A connection that is subscribed to channels may still be asked for values in RESP3, and answers everything in order. So
who waits subscribes to the channel of a result and asks for its value in one go: it is either there already, or told
when it comes. One of those who wait reads the connection, for all of them; when it leaves, another one does.

In a cluster that connection leads to one node, which is told what is published at any of them, but has not all values.
There, who waits looks for the values at their nodes, once, after this one has confirmed that it is subscribed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import ResponseError

from anybroker_broker_redis.errors import FAILURES, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.connection import Connection

    from anybroker_broker_redis.link import Link

LONGEST_READ = 0.25
"""Seconds for one look at the connection: who reads notices within it that the listener was closed."""


class Channels(msgspec.Struct, frozen=True):
    """From the key of a result to the channel on which it is told, and back.

    All databases of a server share their channels, so that there is a ``mark`` in those of all but the first.
    """

    mark: bytes
    at: int
    """Where it is, in bytes."""

    def of(self, key: bytes) -> bytes:
        """The channel of a key."""
        return key[: self.at] + self.mark + key[self.at :]

    def key(self, channel: bytes) -> bytes:
        """The key of a channel."""
        return channel[: self.at] + channel[self.at + len(self.mark) :]


class Waiting:
    """One who waits for the first of some results."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys
        self.since = time.monotonic()
        self.listening: set[bytes] = set()
        """Keys of which the value at the beginning, or that it is subscribed, has been told. What is told before that
        is older than this wait."""
        self.found: dict[bytes, bytes] = {}
        """What came, by key; empty where it has to be fetched."""
        self.broken = False
        self.refused: ResponseError | None = None
        """What the server answered instead."""
        self.looked = False
        self.looking = False
        """It is busy, and would not notice that it is its turn to read."""
        self.called = threading.Event()
        """Something came, or it is this one's turn to look or to read."""

    def tell(self, key: bytes, value: bytes) -> None:
        """This is what is waited for."""
        self.found[key] = value
        self.called.set()


class Listener:
    """One subscribed connection of ``link``, made when it is first needed, and again when it breaks.

    ``is_final`` tells whether a stored value is what is waited for. ``look``, in a cluster, asks the nodes whether one
    of some keys has such a value.
    """

    def __init__(
        self,
        link: Link,
        channels: Channels,
        is_final: Callable[[bytes], bool],
        look: Callable[[Sequence[bytes]], bool] | None = None,
    ) -> None:
        self._link = link
        self._channels = channels
        self._look = look
        self._is_final = is_final
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._waiting: dict[bytes, list[Waiting]] = {}
        """By key."""
        self._asked: deque[tuple[bytes, Waiting]] = deque()
        """Keys whose values are on their way, in the order in which they were asked for, and by whom."""
        self._reader: Waiting | None = None
        self._read_from: Connection | None = None
        """What the reader is reading, and nobody else may end."""
        self._closed = False

    def wait(self, keys: Sequence[bytes], timeout: float) -> dict[bytes, bytes] | None:
        """What came first, by key (an empty value: fetch it); nothing after the time; None: fetch them and begin anew.

        Raises ``BrokerUnavailable`` where no connection can be made, ``ConfigurationError`` where the server refuses.
        """
        waiting = Waiting(keys)
        deadline = time.monotonic() + timeout
        self._subscribe(waiting)
        try:
            while True:
                waiting.called.clear()  # before the looks at what it calls for
                left = deadline - time.monotonic()
                if waiting.found or waiting.broken or self._closed or left <= 0:
                    break
                if self._look is not None and not waiting.looked and len(waiting.listening) == len(keys):
                    if self._looks(waiting, self._look):
                        return None
                    continue
                with self._lock:
                    reads = self._reader is None or self._reader is waiting
                    if reads:
                        self._reader = waiting
                if reads:
                    self._read(min(left, LONGEST_READ))
                else:
                    waiting.called.wait(left)
        finally:
            self._leave(waiting)
        if waiting.refused is not None and not waiting.found:
            raise translated(waiting.refused, self._link.address) from waiting.refused
        return None if waiting.broken or self._closed else waiting.found

    def close(self) -> None:
        """Let those who wait go, and end the connection."""
        self._closed = True
        with self._lock:
            self._break()

    def _subscribe(self, waiting: Waiting) -> None:
        with self._lock:
            if self._connection is not None and self._is_silent(self._connection):
                self._break()
            connection = self._connection or self._link.connect()
            self._connection = connection
            for key in waiting.keys:
                self._waiting.setdefault(key, []).append(waiting)
            try:
                commands = [("SUBSCRIBE", *map(self._channels.of, waiting.keys))]
                if self._look is None:
                    commands += [("GET", key) for key in waiting.keys]
                self._asked.extend((key, waiting) for key in waiting.keys)
                packed = [piece for command in commands for piece in connection.pack_command(*command)]
                connection.send_packed_command([b"".join(packed)], check_health=False)
            except FAILURES:
                self._break()
            except BaseException:  # Ctrl-C: perhaps not all of it was sent, and the answers would be taken for others
                self._break()
                raise

    def _is_silent(self, connection: Connection) -> bool:
        """Whether what was asked for has not been answered in time: the connection was lost without a word."""
        if not self._asked or time.monotonic() - self._asked[0][1].since < self._link.timeout:
            return False
        try:
            return self._reader is not None or not connection.can_read(0)  # else nobody has read the answer
        except FAILURES:
            return True

    def _looks(self, waiting: Waiting, look: Callable[[Sequence[bytes]], bool]) -> bool:
        """Look once, while another one reads: it takes as long as a node does not answer."""
        with self._lock:
            waiting.looked = waiting.looking = True
            self._hand_over(waiting)
        found = look(waiting.keys)
        with self._lock:
            waiting.looking = False
        return found

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
            self._hand_over(waiting)
            if alone and self._connection is not None:
                try:
                    packed = self._connection.pack_command("UNSUBSCRIBE", *map(self._channels.of, alone))
                    self._connection.send_packed_command(packed, check_health=False)
                except FAILURES:
                    self._break()

    def _read(self, seconds: float) -> None:
        """Read what has come, or the first that comes, and tell whom it concerns."""
        with self._lock:
            connection = self._read_from = self._connection
        broken = False
        refused: ResponseError | None = None
        try:
            if connection is not None and connection.can_read(seconds):
                self._tell(connection, connection.read_response(push_request=True))
                while connection.can_read(0):
                    self._tell(connection, connection.read_response(push_request=True))
        except ResponseError as error:
            broken, refused = True, error
        except FAILURES:
            broken = True
        except BaseException as error:
            with self._lock:
                self._read_from = None
                if connection is self._connection:
                    self._break()  # what was read is lost, and the answers behind it would be taken for others
                    raise
            if not isinstance(error, Exception):
                raise
            # else it is what comes of it that redis-py ends a connection in the thread that cannot send
        with self._lock:
            self._read_from = None
            if connection is not self._connection and connection is not None:
                connection.disconnect()  # another one has found it broken, or closed the listener
            elif broken:
                self._break(refused)

    def _tell(self, connection: Connection, item: Any) -> None:
        """Tell a value that was asked for, that a channel is subscribed to, or what was told on it."""
        with self._lock:
            if connection is not self._connection:
                return
            if not isinstance(item, list):
                key, waiting = self._asked.popleft()
                waiting.listening.add(key)
                if item is not None and self._is_final(item):
                    waiting.tell(key, item)
            elif item[0] == b"subscribe" and self._look is not None:
                key, waiting = self._asked.popleft()
                waiting.listening.add(key)
                waiting.called.set()
            elif item[0] == b"message":
                key = self._channels.key(item[1])
                # In a cluster it has come by way of other nodes, and the value may be forgotten by now.
                value = item[2] if self._look is None else b""
                for waiting in self._waiting.get(key, ()):
                    if key in waiting.listening:
                        waiting.tell(key, value)

    def _hand_over(self, waiting: Waiting) -> None:
        """Let another one read, unless there is one who does.

        Nobody does when it was this one's turn, and it was told first what it waits for.
        """
        if self._reader in {None, waiting}:
            self._reader = None
            for line in self._waiting.values():
                for other in line:
                    if not other.looking:
                        other.called.set()
                        return

    def _break(self, refused: ResponseError | None = None) -> None:
        """Forget the connection; those who wait begin anew, or are told why the server refused."""
        connection, self._connection = self._connection, None
        self._asked.clear()
        for line in self._waiting.values():
            for waiting in line:
                waiting.broken, waiting.refused = True, refused
                waiting.called.set()
        if connection is not None and connection is not self._read_from:
            connection.disconnect()
