"""AMQP on pika: its connection (handshake, authentication, heartbeats, close), fed by :mod:`.connection`.

pika's own channels send one method at a time, look every frame up in a table of callbacks, and reject what arrives
while a consumer is being cancelled. Those of :mod:`.channel` do not, so frames of channels are taken apart here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pika import connection, exceptions, frame, spec

from anybroker_broker_amqp import properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from pika import ConnectionParameters

    from anybroker_broker_amqp.channel import Channel

_FRAME = struct.Struct(">BHL")
_DELIVER = struct.pack(">HH", 60, 60)
_TAG = struct.Struct(">QB")
_BODY_SIZE = struct.Struct(">Q")
_HEADER, _END = 7, 1


class Timer:
    """A call at a later moment; ``when`` is monotonic seconds."""

    __slots__ = ("callback", "cancelled", "when")

    def __init__(self, when: float, callback: Callable[[], Any]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Protocol(connection.Connection):  # type: ignore[misc]  # pika has no py.typed
    """One connection as pika sees it. What it needs of a socket and a clock, it asks of its driver.

    The stubs of pika that pyright brings leave out what adapters call, hence the comments.
    """

    def __init__(self, parameters: ConnectionParameters, driver: Driver) -> None:
        self._driver = driver
        self._rest = b""
        self.channels: dict[int, Channel] = {}
        super().__init__(
            parameters,
            on_open_callback=lambda _: driver.on_open(),
            on_open_error_callback=lambda _, error: driver.on_end(error),
            on_close_callback=lambda _, error: driver.on_end(error),
            internal_connection_workflow=False,
        )
        self.add_on_connection_blocked_callback(lambda _, method: driver.on_blocked(method.method.reason))
        self.add_on_connection_unblocked_callback(lambda *_: driver.on_blocked(None))

    def begin(self) -> None:
        """The socket is connected."""
        self._on_stream_connected()  # pyright: ignore[reportAttributeAccessIssue]

    def lost(self, error: Exception | None) -> None:
        """The socket is gone; None: as was said before, by ``terminate`` or by a close."""
        self._on_stream_terminated(error)  # pyright: ignore[reportAttributeAccessIssue]

    def terminate(self, error: Exception) -> None:
        """Give the connection up, without a word to the server."""
        if not self.is_closed:
            self._terminate_stream(error)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def body_max(self) -> int:
        """Bytes of a body in one frame."""
        return int(self._body_max_length)  # pyright: ignore[reportAttributeAccessIssue]

    def received(self, data: bytes) -> None:
        """Take frames apart, and hand them over."""
        self.bytes_received += len(data)
        if self._rest:
            data = self._rest + data
        position, length = 0, len(data)
        while length - position >= _HEADER + _END:
            kind, number, size = _FRAME.unpack_from(data, position)
            end = position + _HEADER + size
            if not self.is_open and data[position : position + 4] == b"AMQP":
                raise exceptions.IncompatibleProtocolError("the server speaks another version of AMQP")
            if end >= length:
                break
            if data[end] != spec.FRAME_END:
                raise exceptions.InvalidFrameError("a frame without its end")
            channel = self.channels.get(number) if number else None
            if channel is not None:
                self._to_channel(channel, kind, data, position + _HEADER, end)
            elif number == 0:
                self._process_frame(frame.decode_frame(data[position : end + _END])[1])  # pyright: ignore[reportAttributeAccessIssue]
            position = end + _END
        self._rest = data[position:]

    @staticmethod
    def _to_channel(channel: Channel, kind: int, data: bytes, start: int, end: int) -> None:
        if kind == spec.FRAME_BODY:
            channel.on_body(data[start:end])
        elif kind == spec.FRAME_HEADER:
            size = _BODY_SIZE.unpack_from(data, start + 4)[0]
            channel.on_header(size, properties.decode(data, start + 12, end))
        elif data[start : start + 4] == _DELIVER:
            tag_end = start + 5 + data[start + 4]
            delivery, redelivered = _TAG.unpack_from(data, tag_end)
            channel.on_deliver(data[start + 5 : tag_end].decode(), delivery, bool(redelivered & 1))
        elif kind == spec.FRAME_METHOD:
            method = spec.methods[int.from_bytes(data[start : start + 4])]()
            method.decode(data[start:end], 4)
            channel.on_method(method)

    # what pika asks of an adapter

    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> Timer:
        return self._driver.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        if isinstance(timeout_id, Timer):
            timeout_id.cancelled = True

    def _adapter_add_callback_threadsafe(self, callback: Callable[..., Any]) -> None:
        self._driver.call(callback)

    def _adapter_connect_stream(self) -> None:
        raise NotImplementedError  # the driver has connected before

    def _adapter_disconnect_stream(self) -> None:
        self._driver.disconnect()

    def _adapter_emit_data(self, data: bytes) -> None:
        self._driver.send(data)


class Driver:
    """What a :class:`Protocol` needs of the thread that owns it. All but ``call`` in that thread."""

    def on_open(self) -> None:
        """The connection is open."""
        raise NotImplementedError

    def on_end(self, error: BaseException | None) -> None:
        """The connection could not be opened, or is closed."""
        raise NotImplementedError

    def on_blocked(self, reason: str | None) -> None:
        """The server takes no messages for now, for this reason; None: it does again."""
        raise NotImplementedError

    def call(self, callback: Callable[[], Any]) -> None:
        """Call something in the thread that owns the connection. Any thread may ask for it."""
        raise NotImplementedError

    def call_later(self, delay: float, callback: Callable[[], Any]) -> Timer:
        """Call something after ``delay`` seconds."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send soon, in this order."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close the socket, and say so by ``lost``, but not within this call."""
        raise NotImplementedError
