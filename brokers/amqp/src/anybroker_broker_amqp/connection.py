"""A connection to RabbitMQ and the one thread that owns it. It ends for good when the connection does."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pika import exceptions

from anybroker.errors import BrokerUnavailable
from anybroker_broker_amqp.protocol import Driver, Protocol, Timer
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.translation import meaning, translated
from anybroker_broker_amqp.urls import PORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pika import ConnectionParameters

    from anybroker_broker_amqp.channel import Channel

_READ = 256 * 1024
_NEVER = 3600.0
_LOOK = 0.1
"""Seconds between two looks at whether the connection is still there."""
_MANY_TIMERS = 256
_USUAL = "RabbitMQ speaks AMQP at port 5672, with TLS at 5671, unless configured otherwise"
_CLOSE_WITHIN = 2.0
"""Seconds for the server to answer a close."""


class Connection(Driver):
    """Opened by :meth:`open`; afterwards other threads use :meth:`call` alone, and read ``blocked`` and ``ended``."""

    def __init__(self, target: ConnectionParameters, *, name: str, timeout: float) -> None:
        """``name``: of the thread; ``timeout``: seconds for :meth:`open`."""
        self._target = target
        self._timeout = timeout
        self._calls: deque[Callable[[], Any]] = deque()
        self._timers: list[Timer] = []
        self._output: list[bytes] = []
        self._unsent = memoryview(b"")
        self._socket: socket.socket | None = None
        self._poll = select.poll()  # unlike epoll it is no file, which the child of a fork would share
        self._writing = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.settimeout(0)
        self._wake_writer.settimeout(0)
        self._sleeping = False
        self._protocol: Protocol | None = None
        self._opened: Reply[None] = Reply()
        self._closing = False
        self.channels: dict[int, Channel] = {}
        self.after_read: list[Callable[[], Any]] = []
        """Called once what the server has sent at once is all handed over."""
        self.blocked: str | None = None
        """Why the server takes no messages for now."""
        self.unblocked = threading.Condition()
        self.ended: BaseException | None = None
        """Why the connection is closed."""
        self.server_version = ""
        self.where = f"amqp://{target.host}:{target.port}"
        """The server, as it may be shown."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # from any thread

    def open(self) -> None:
        """Connect. Raises what pika and the system raise."""
        self._thread.start()
        if not self._opened.wait(self._timeout):
            silent = f"no answer within {self._timeout:.3g} s"
            self.abort(silent)
            raise TimeoutError(silent if self._target.port in PORTS.values() else f"{silent}; {_USUAL}")
        self._opened.result()

    def call(self, callback: Callable[[], Any]) -> None:
        """Call something in the connection's thread. Nothing happens once the connection has ended."""
        self._calls.append(callback)
        if self._sleeping:
            self._sleeping = False
            with suppress(OSError):
                self._wake_writer.send(b"!")

    def wait(
        self, reply: Reply[Any], timeout: float, *, doing: str, progress: Callable[[], object] = lambda: None
    ) -> Any:
        """The result of what another thread does here; a server that does not answer in time is given up.

        ``progress`` is what changes as long as the server is sending what comes before the answer.
        """
        deadline, seen = time.monotonic() + timeout, progress()
        while not reply.wait(min(_LOOK, deadline - time.monotonic())):
            if self.ended is not None:  # what was asked for since then is never done
                if reply.wait(_LOOK):
                    break
                raise meaning(self.ended, self.where)
            if time.monotonic() >= deadline:
                if (now := progress()) != seen:
                    deadline, seen = time.monotonic() + timeout, now
                    continue
                if self.blocked is not None:
                    raise self._takes_nothing(timeout)
                self.abort(f"no answer within {timeout:g} s ({doing})")
                raise BrokerUnavailable(f"{self.where}: no answer within {timeout:g} s ({doing})")
        return reply.result()

    @property
    def blocking(self) -> bool:
        """The server takes no messages for now."""
        return self.blocked is not None and self.ended is None

    def until_unblocked(self, timeout: float) -> None:
        """Wait until the server takes messages. Raises ``BrokerUnavailable``, with its reason for taking none."""
        if self.blocking:
            with self.unblocked:
                if not self.unblocked.wait_for(lambda: not self.blocking, timeout):
                    raise self._takes_nothing(timeout)

    def _takes_nothing(self, timeout: float) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self.where} takes no messages, for {timeout:g} s: {self.blocked}")

    def abort(self, reason: str) -> None:
        """Give the connection up."""

        def terminate() -> None:
            if self._protocol is not None:
                self._protocol.terminate(exceptions.StreamLostError(reason))

        self.call(terminate)

    def close(self) -> None:
        """Say goodbye to the server, and end."""
        if self.ended is None:
            self.call(self._close)
            self._thread.join(_CLOSE_WITHIN)
            if self._thread.is_alive():
                self.abort("the server does not answer a close")
                self._thread.join(_CLOSE_WITHIN)

    def forget(self) -> None:
        """In the child of a fork: the parent's connection is none of ours; close our copies of its sockets."""
        for one in (self._socket, self._wake_reader, self._wake_writer):
            if one is not None:
                with suppress(OSError):
                    os.close(one.detach())  # not close(): TLS would say goodbye on the parent's behalf
        self.ended = BrokerUnavailable("the connection belongs to the parent of this process")

    # in the connection's thread

    def add_channel(self, channel: Channel) -> int:
        """The number of a new channel."""
        number = next(number for number in itertools.count(1) if number not in self.channels)
        self.channels[number] = channel
        return number

    def remove_channel(self, number: int) -> None:
        """The server has forgotten this channel."""
        self.channels.pop(number, None)

    def send(self, data: bytes) -> None:
        """Send soon, in this order."""
        self._output.append(data)

    @property
    def body_max(self) -> int:
        """Bytes of a body in one frame."""
        return self._protocol.body_max if self._protocol else 0

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Timer:
        """Call something after ``delay`` seconds."""
        timer = Timer(time.monotonic() + delay, callback)
        if len(self._timers) > _MANY_TIMERS:
            self._timers = [one for one in self._timers if not one.cancelled]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, timer)
        return timer

    def on_open(self) -> None:
        """The connection is open."""
        properties = (self._protocol.server_properties if self._protocol else None) or {}
        version = properties.get("version", b"")
        self.server_version = version.decode() if isinstance(version, bytes) else str(version)
        self._opened.set(None)

    def on_end(self, error: BaseException | None) -> None:
        """The connection could not be opened, or is closed."""
        self._end(error or exceptions.ConnectionClosed(0, "closed"))

    def on_blocked(self, reason: str | None) -> None:
        """The server takes no messages for now, for this reason; None: it does again."""
        with self.unblocked:
            self.blocked = reason
            self.unblocked.notify_all()

    def disconnect(self) -> None:
        """Close the socket, once the server has had what was said last."""

        def lost() -> None:
            if self._protocol is not None and not self._protocol.is_closed:
                self._protocol.lost(None)

        self.call(lost)

    def _end(self, error: BaseException) -> None:
        if self.ended is not None:
            return
        self.ended = error
        for channel in list(self.channels.values()):
            channel.fail(error)
        self.channels.clear()
        self._opened.fail(error)
        with self.unblocked:
            self.unblocked.notify_all()

    def _close(self) -> None:
        if self._protocol is not None and self._protocol.is_open:
            self._protocol.close()

    def _run(self) -> None:
        try:
            connected, protocol = self._connect()
            while self.ended is None:
                self._flush()
                if self._sleep(connected):
                    self._read(connected, protocol)
                self._work()
        except Exception as error:  # whatever it is, all who wait must hear of it
            self._end(error)
        finally:
            with suppress(OSError):
                self._flush()
            for one in (self._socket, self._wake_reader, self._wake_writer):
                if one is not None:
                    one.close()

    def _connect(self) -> tuple[socket.socket, Protocol]:
        connected = self._socket = _connected(self._target, self._timeout)
        self._poll.register(connected, select.POLLIN)
        self._poll.register(self._wake_reader, select.POLLIN)
        protocol = self._protocol = Protocol(self._target, self)
        protocol.channels = self.channels
        protocol.begin()
        return connected, protocol

    def _sleep(self, connected: socket.socket) -> bool:
        """Wait for the server, for another thread, or for a timer; whether the server has sent something."""
        writing = bool(self._unsent)
        if writing != self._writing:
            self._writing = writing
            self._poll.modify(connected, select.POLLIN | (select.POLLOUT if writing else 0))
        self._sleeping = True
        until = self._timers[0].when - time.monotonic() if self._timers else _NEVER
        events = dict(self._poll.poll(0 if self._calls else max(0.0, until) * 1000))
        self._sleeping = False
        if self._wake_reader.fileno() in events:
            with suppress(BlockingIOError):
                self._wake_reader.recv(4096)
        return bool(events.get(connected.fileno(), 0) & ~select.POLLOUT)

    def _work(self) -> None:
        """Do what other threads have asked for, and what is due."""
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        now = time.monotonic()
        while self._timers and (self._timers[0].cancelled or self._timers[0].when <= now):
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()

    def _read(self, connected: socket.socket, protocol: Protocol) -> None:
        try:
            data = connected.recv(_READ)
            while isinstance(connected, ssl.SSLSocket) and connected.pending():
                data += connected.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            protocol.lost(exceptions.StreamLostError(f"the connection broke: {error}"))
            return
        if not data:
            protocol.lost(exceptions.StreamLostError("the server has closed the connection"))
            return
        protocol.received(data)
        for callback in self.after_read:
            callback()

    def _flush(self) -> None:
        if self._output:
            self._unsent = memoryview(b"".join([self._unsent, *self._output]))
            self._output.clear()
        while self._unsent and self._socket is not None:
            try:
                sent = self._socket.send(self._unsent)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                if self._protocol is not None and not self._protocol.is_closed:
                    self._protocol.lost(exceptions.StreamLostError(f"the connection broke: {error}"))
                self._unsent = memoryview(b"")
                return
            self._unsent = self._unsent[sent:]


def _connected(target: ConnectionParameters, timeout: float) -> socket.socket:
    connected = socket.create_connection((target.host, target.port), timeout)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if target.ssl_options is not None:
        context = target.ssl_options.context
        connected = context.wrap_socket(connected, server_hostname=target.ssl_options.server_hostname)
    connected.settimeout(0)
    return connected


def connect(targets: Sequence[ConnectionParameters], *, name: str, timeout: float) -> Connection:
    """A connection to the first host that lets us in. Raises the contract's errors."""
    deadline = time.monotonic() + timeout
    for left, target in zip(range(len(targets), 0, -1), targets, strict=True):
        connection = Connection(target, name=name, timeout=max(0.5, (deadline - time.monotonic()) / left))
        try:
            with translated(connection.where):
                connection.open()
        except BrokerUnavailable:
            if left == 1:
                raise
        else:
            return connection
    raise BrokerUnavailable("no host to connect to")
