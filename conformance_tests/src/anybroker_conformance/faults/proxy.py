"""A network that fails on purpose: a TCP proxy between client and server that counts every byte.

It is transparent until it is told otherwise. Bytes are counted per direction over all connections, from the last
:meth:`Proxy.mark` on::

    with Proxy("127.0.0.1", 6379) as proxy:
        proxy.cut(TO_CLIENT, 3)      # three bytes of the reply come through
        ...
        assert proxy.fired
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Direction = Literal["to server", "to client"]
TO_SERVER: Direction = "to server"
TO_CLIENT: Direction = "to client"

_PIECE = 65536
_MOST_UNSENT = 1 << 20
_CONNECT_TIMEOUT = 5.0
_ANSWER_TIMEOUT = 20.0


class Chunk(msgspec.Struct, frozen=True):
    """Bytes that passed together."""

    direction: Direction
    end: int
    """How many bytes had passed in this direction since the mark, these included."""


class _Cut(msgspec.Struct, frozen=True):
    direction: Direction
    after: int
    reset: bool


class _Side:
    """One of the two sockets of a connection through the proxy."""

    def __init__(self, sock: socket.socket, towards: Direction) -> None:
        self.sock = sock
        self.towards: Direction = towards
        """The direction of what is written to it."""
        self.unsent = bytearray()
        self.ended = False
        """The other side will send no more."""
        self.peer: _Side
        sock.settimeout(0)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Proxy:
    """Listens on a port of its own and passes everything to and from ``host``:``port``, until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._reserved = _bound(0)  # keeps the port while nobody listens
        self.host, self.port = self._reserved.getsockname()
        self.fired = False
        """Whether a fault has happened since the last :meth:`mark`."""
        self._counts: dict[Direction, int] = {TO_SERVER: 0, TO_CLIENT: 0}
        self._chunks: list[Chunk] = []
        self._cut: _Cut | None = None
        self._stalled = False
        self._sides: set[_Side] = set()
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.settimeout(0)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._orders: deque[tuple[Callable[[], Any], threading.Event]] = deque()
        self._running = True
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"proxy of {host}:{port}", daemon=True)
        self._thread.start()

    # What is seen

    def mark(self) -> None:
        """Count from here on, and forget faults that have not happened."""
        self._order(self._mark)

    def count(self, direction: Direction) -> int:
        """How many bytes have passed since the mark."""
        return self._counts[direction]

    @property
    def chunks(self) -> list[Chunk]:
        """The pieces in which they passed."""
        return list(self._chunks)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._sides) // 2

    # What goes wrong

    def cut(self, direction: Direction, after: int, *, reset: bool = False) -> None:
        """Let so many bytes pass from now on, then end all connections; ``reset``: by RST instead of FIN.

        After 0 bytes means as soon as there are some, so that ``cut(TO_CLIENT, 0)`` lies between the request and
        the reply: the server has replied, and nobody hears it.
        """
        self._order(lambda: self._arm(_Cut(direction, after, reset)))

    def cut_now(self, *, reset: bool = False) -> None:
        """End all connections; new ones are accepted. Does not fire if there are none."""
        self._order(lambda: self._sever(reset=reset))

    def refuse(self, *, reset: bool = False) -> None:
        """End all connections, and refuse new ones until :meth:`accept`."""

        def refuse() -> None:
            self._close_listener()
            self._sever(reset=reset)
            self.fired = True

        self._order(refuse)

    def accept(self) -> None:
        """Accept connections again."""
        self._order(self._listen)

    def stall(self) -> None:
        """Let nothing pass, with all connections open and new ones taken, until :meth:`flow`.

        Fires when something wants to pass.
        """
        self._order(lambda: self._stall(stalled=True))

    def flow(self) -> None:
        """Let everything pass again that was held up."""
        self._order(lambda: self._stall(stalled=False))

    def close(self) -> None:
        """End everything. Idempotent."""
        if not self._thread.is_alive():
            return

        def stop() -> None:
            self._running = False

        self._order(stop)
        self._thread.join(_ANSWER_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # The thread that does it all

    def _order(self, action: Callable[[], Any]) -> None:
        """Have something done by the proxy's thread, and wait until it is."""
        done = threading.Event()
        self._orders.append((action, done))
        self._wake_writer.send(b"!")
        if not done.wait(_ANSWER_TIMEOUT):
            raise RuntimeError("the proxy does not answer")

    def _run(self) -> None:
        try:
            while self._running:
                for key, events in self._selector.select():
                    self._handle(key, events)
        finally:
            self._sever(reset=False)
            self._close_listener()
            for sock in (self._reserved, self._wake_reader, self._wake_writer):
                sock.close()
            self._selector.close()
            while self._orders:
                self._orders.popleft()[1].set()

    def _handle(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self._wake_reader:
            self._wake_reader.recv(_PIECE)
            while self._orders:
                action, done = self._orders.popleft()
                action()
                done.set()
        elif key.fileobj is self._listener:
            self._take_in()
        elif key.data in self._sides:  # an order may have ended it meanwhile
            if events & selectors.EVENT_WRITE:
                self._write(key.data)
            if events & selectors.EVENT_READ and key.data in self._sides:
                self._read(key.data)

    def _take_in(self) -> None:
        if self._listener is None:
            return
        try:
            incoming, _ = self._listener.accept()
        except OSError:
            return
        try:
            outgoing = socket.create_connection(self._upstream, timeout=_CONNECT_TIMEOUT)
        except OSError:
            _close(incoming, reset=True)
            return
        client, server = _Side(incoming, TO_CLIENT), _Side(outgoing, TO_SERVER)
        client.peer, server.peer = server, client
        for side in (client, server):
            self._sides.add(side)
            self._selector.register(side.sock, selectors.EVENT_READ, side)

    def _read(self, side: _Side) -> None:
        if self._stalled:
            self.fired = True
            self._interest(side)
            return
        try:
            piece = side.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            self._drop(side, reset=True)
            return
        receiver = side.peer
        if not piece:
            receiver.ended = True
            self._interest(side)
            self._write(receiver)
            return
        cut = self._cut if self._cut and self._cut.direction == receiver.towards else None
        if cut:
            piece = piece[: max(0, cut.after - self._counts[cut.direction])]
        if piece:
            self._counts[receiver.towards] += len(piece)
            self._chunks.append(Chunk(receiver.towards, self._counts[receiver.towards]))
            receiver.unsent += piece
            self._write(receiver)
        if cut and self._counts[cut.direction] >= cut.after:
            self._cut = None
            self.fired = True
            self._sever(reset=cut.reset)

    def _write(self, side: _Side) -> None:
        try:
            if side.unsent:
                del side.unsent[: side.sock.send(side.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(side, reset=True)
            return
        if side.ended and not side.unsent:
            self._drop(side, reset=False)  # who has ended one direction wants no more answers here
            return
        self._interest(side)
        self._interest(side.peer)

    def _interest(self, side: _Side) -> None:
        """Listen to a side for as long as there is room for what it says."""
        if side not in self._sides:
            return
        events = selectors.EVENT_WRITE if side.unsent else 0
        held_up = (self._stalled and self.fired) or side.peer.ended or len(side.peer.unsent) > _MOST_UNSENT
        events |= 0 if held_up else selectors.EVENT_READ
        registered = side.sock in self._selector.get_map()
        if events and registered:
            self._selector.modify(side.sock, events, side)
        elif events:
            self._selector.register(side.sock, events, side)
        elif registered:
            self._selector.unregister(side.sock)

    def _drop(self, side: _Side, *, reset: bool) -> None:
        """End one connection."""
        for one in (side, side.peer):
            if one in self._sides:
                self._sides.discard(one)
                if one.sock in self._selector.get_map():
                    self._selector.unregister(one.sock)
                _close(one.sock, reset=reset)

    # Orders

    def _mark(self) -> None:
        self.fired = False
        self._cut = None
        self._counts = {TO_SERVER: 0, TO_CLIENT: 0}
        self._chunks = []

    def _arm(self, cut: _Cut) -> None:
        self._mark()
        self._cut = cut

    def _sever(self, *, reset: bool) -> None:
        for side in list(self._sides):
            self.fired = True
            self._drop(side, reset=reset)

    def _stall(self, *, stalled: bool) -> None:
        self._stalled = stalled
        if stalled:
            self.fired = False
        for side in list(self._sides):
            self._interest(side)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(128)
            self._listener.settimeout(0)
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # beside the socket that reserves the port
    sock.bind(("127.0.0.1", port))
    return sock


def _close(sock: socket.socket, *, reset: bool) -> None:
    with suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
