"""What client and server say to each other: JSON, each line of it preceded by its length."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec

from anybroker.broker import Delivery, Message

if TYPE_CHECKING:
    import socket

_LENGTH = struct.Struct(">I")
T = TypeVar("T")


class Sent(msgspec.Struct, frozen=True):
    """A message on the wire. Its eta is a text: JSON as msgspec writes it rounds offsets to minutes."""

    id: str
    queue: str
    body: bytes
    eta: str | None
    priority: int
    ordering_key: str | None

    @classmethod
    def of(cls, message: Message) -> Sent:
        """A message, to be sent."""
        eta = None if message.eta is None else message.eta.isoformat()
        return cls(message.id, message.queue, message.body, eta, message.priority, message.ordering_key)

    def message(self) -> Message:
        """The message that was sent."""
        eta = None if self.eta is None else datetime.fromisoformat(self.eta)
        return Message(self.id, self.queue, self.body, eta, self.priority, self.ordering_key)


class Lease(msgspec.Struct, frozen=True):
    """A delivery on the wire; its token is what the server made of it."""

    sent: Sent
    token: tuple[int, int]
    delivery_count: int | None
    lease_until: float

    @classmethod
    def of(cls, delivery: Delivery) -> Lease:
        """The lease of a delivery."""
        token: tuple[int, int] = delivery.token  # type: ignore[assignment]  # that of the broker in the server
        return cls(Sent.of(delivery.message), token, delivery.delivery_count, delivery.lease_until.timestamp())

    def delivery(self) -> Delivery:
        """The delivery that was sent."""
        until = datetime.fromtimestamp(self.lease_until, UTC)
        return Delivery(self.sent.message(), self.token, self.delivery_count, until)


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call. ``verb`` is ``give up`` for the ``close`` of a client."""

    verb: str
    messages: list[Sent] = []
    """To enqueue, or the new versions of an update."""
    leases: list[Lease] = []
    tokens: list[tuple[int, int]] = []
    """To give up."""
    queues: list[str] = []
    ids: list[str] = []
    limit: int = 0
    wait: float = 0.0
    lease: float = 0.0


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it."""

    bools: list[bool] = []
    leases: list[Lease] = []
    messages: list[Sent] = []
    names: list[str] = []
    number: int = 0
    counts: tuple[int, int, int, float | None] = (0, 0, 0, None)
    error: str | None = None
    """Name of the exception."""
    text: str = ""


REQUESTS = msgspec.json.Decoder(Request)
REPLIES = msgspec.json.Decoder(Reply)


def send(sock: socket.socket, message: msgspec.Struct) -> None:
    """Send one message."""
    encoded = msgspec.json.encode(message)
    sock.sendall(_LENGTH.pack(len(encoded)) + encoded)


def receive(sock: socket.socket, decoder: msgspec.json.Decoder[T]) -> T:
    """Receive one message. Raises ``ConnectionError`` when the other side has ended."""
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size))
    return decoder.decode(_exactly(sock, length))


def _exactly(sock: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        piece = sock.recv(min(length - len(received), 1 << 20))
        if not piece:
            raise ConnectionError("the connection was closed")
        received += piece
    return bytes(received)
