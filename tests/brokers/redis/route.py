"""A way to a server, which is slow or gets lost."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

PIECE = 65536
"""Bytes."""


class Route:
    """Passes everything on to a port. What was connected when it is lost gets no answer any more, and no end either.

    ``slowly``: seconds for each piece, of which few are buffered here.
    """

    def __init__(self, port: int, slowly: float = 0) -> None:
        self._to = port
        self._slowly = slowly
        self._listener = socket.create_server(("127.0.0.1", 0))
        if slowly:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        self.port: int = self._listener.getsockname()[1]
        self.made: list[socket.socket] = []
        self._lost: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self) -> None:
        self._lost |= set(self.made)

    def close(self) -> None:
        for one in (self._listener, *self.made):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self.made += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while (piece := one.recv(PIECE)) and one not in self._lost:
                other.sendall(piece)
                time.sleep(self._slowly)
