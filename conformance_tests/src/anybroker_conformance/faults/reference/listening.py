"""A server of one process: a thread for each connection, until the process that started it has ended."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def serve_each(port: int, serve: Callable[[socket.socket], None]) -> None:
    """Give every connection to ``serve``, in a thread of its own. Does not return."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    with socket.create_server(("127.0.0.1", port), backlog=128, reuse_port=True) as listener:
        while True:
            try:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # who wanted to connect has gone again, or there are too many: they will come again
                time.sleep(0.01)
                continue
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)
