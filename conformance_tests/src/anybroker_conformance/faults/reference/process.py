"""The server as a process of this machine, with a port and a file of its own."""

from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from anybroker_conformance.faults.server import ServerProcess


class ReferenceServer(ServerProcess):
    """A server for ``TcpBroker``, at :attr:`url`. Not started yet."""

    module: ClassVar[str] = "anybroker_conformance.faults.reference.server"
    """The program, whose arguments are a port and a file."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # for as long as the object lives
        self._reserved = socket.socket()  # keeps the port while the server is away
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        host, port = self._reserved.getsockname()
        file = str(Path(self._folder.name, "kept.db"))
        super().__init__([sys.executable, "-m", self.module, str(port), file], host=host, port=port)

    @property
    def url(self) -> str:
        """For ``TcpBroker.from_url``."""
        host, port = self.address
        return f"tcp://{host}:{port}"
