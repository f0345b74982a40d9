"""A server that is stopped, killed and started again, each confirmed."""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from anybroker_conformance.faults import NotFired

if TYPE_CHECKING:
    from collections.abc import Sequence

READY = 60.0
"""Seconds for a server to answer after its start."""
END = 30.0
"""Seconds for a server to end after SIGTERM."""
_LAST_WORDS = 2000
_claims: dict[tuple[int, int], IO[str]] = {}
"""Files whose locks say that a port is that of a process, by both; until it ends."""


class Server(Protocol):
    """How the suite makes a server go and return: ``BrokerConformance.server``.

    Each call returns when it has happened, and raises when it does not. What was stored must be found again after
    ``start``, as far as the adapter declares it. The texts ``name`` and ``version`` go into the report, if it has them.
    """

    def stop(self) -> None:
        """End it as an administrator does, by SIGTERM, and wait until it has ended."""
        ...

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it has ended."""
        ...

    def start(self) -> None:
        """Start it again, at the same address, and wait until it answers."""
        ...


class ServerProcess:
    """A server that is a process of this machine.

    ::

        class TestMine(BrokerConformance):
            server = ServerProcess(["mine-server", "--port", "7000"], port=7000)
            url = "mine://127.0.0.1:7000"

    It answers when it accepts connections. :meth:`start` does nothing while it runs. It ends with this process. Until
    then the port is this process's: in another one, such as a second worker of pytest-xdist, :meth:`start` raises
    ``NotFired``.
    """

    def __init__(self, command: Sequence[str], *, port: int, host: str = "127.0.0.1") -> None:
        self.command = list(command)
        self.address = (host, port)
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self._leave_nothing)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the object lives)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        if self._process is not None and self._process.poll() is None:
            return
        self._claim_port()
        if self._accepts():
            raise NotFired(
                f"{self} cannot be started: something accepts connections there already; suites of one server share "
                "one object"
            )
        self._process = subprocess.Popen(  # noqa: S603 (the author's own command)
            self.command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0
        )
        deadline = time.monotonic() + READY
        while not self._accepts():
            if self._process.poll() is not None:
                raise NotFired(f"{self} ended with status {self._process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                self._process.kill()
                raise NotFired(f"{self} does not answer within {READY:g} s: {self._last_words()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait until it has died of it."""
        if (code := self._end(signal.SIGKILL)) != -signal.SIGKILL:
            raise NotFired(f"{self} was to be killed, but ended with status {code}: {self._last_words()}")

    def __repr__(self) -> str:
        """Which server it is."""
        return f"<{self.command[0]} at {self.address[0]}:{self.address[1]}>"

    def _claim_port(self) -> None:
        port = self.address[1]
        if (os.getpid(), port) in _claims:
            return
        path = Path(tempfile.gettempdir()) / f"anybroker-conformance-{os.getuid()}-port-{port}.lock"
        file = path.open("w", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise NotFired(
                f"{self} is started by another process already; with pytest -n, --dist loadfile gives all tests of "
                "a file to one worker"
            ) from None
        _claims[os.getpid(), port] = file
        atexit.register(_give_up_claim, path, os.getpid())

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None or process.poll() is not None:
            raise NotFired(f"{self} does not run, so that {number.name} does nothing")
        process.send_signal(number)
        try:
            code = process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            raise NotFired(f"{self} did not end within {END:g} s of {number.name}") from None
        if self._accepts():
            raise NotFired(f"{self} has ended, and something still accepts connections at its address")
        return code

    def _leave_nothing(self) -> None:
        if self._process is not None and self._process.poll() is None and os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()

    def _accepts(self) -> bool:
        try:
            socket.create_connection(self.address, timeout=1).close()
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-_LAST_WORDS:]


def _give_up_claim(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
