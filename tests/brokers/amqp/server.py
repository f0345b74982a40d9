"""The RabbitMQ that these tests need, started when the first of them needs it, once per process of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from anybroker_conformance.services import Running, running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

HOW = os.environ.get("ANYBROKER_TEST_SERVICES", "local")
"""``local``, or ``docker`` to run the same tests on containers."""
YOUNG = 1.0
"""Seconds after which a quorum queue survives SIGKILL; see the README of the broker."""


class RabbitMQ:
    """One server; ``stop``, ``kill`` and ``start`` are what a conformance suite asks of it."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """The service; one that cannot be started is a failure."""
        if self._running is None:
            self._folder = tempfile.TemporaryDirectory(prefix="rabbitmq")
            state = State(Path(self._folder.name) / "state")
            _, failures = Door(state).up(["rabbitmq"], HOW)
            assert failures == [], failures
            self._running = running(state.folder)["rabbitmq"]
        return self._running

    def ctl(self, *words: str) -> str:
        """Run ``rabbitmqctl``; of a server that runs as a local process."""
        running, home = (
            self.running,
            Path(self._folder.name if self._folder else "") / "state" / "rabbitmq" / "rabbitmq",
        )
        environment = {
            **os.environ,
            "HOME": str(home),
            "ERL_EPMD_PORT": str(running.ports["epmd"]),
            "RABBITMQ_NODENAME": f"anybroker{running.ports['amqp']}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        program = shutil.which("rabbitmqctl", path="/usr/lib/rabbitmq/bin") or "rabbitmqctl"
        done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        self.running.start()

    def stop(self) -> None:
        self.running.stop()

    def kill(self) -> None:
        """RabbitMQ 3.10 notes the name of a new quorum queue on its disk within half a second, and not earlier."""
        time.sleep(YOUNG)
        self.running.kill()

    def end(self) -> None:
        """Leave nothing behind."""
        if self._folder is not None:
            door = Door(State(Path(self._folder.name) / "state"))
            door.down(door.state.entries())
            self._folder.cleanup()
            self._folder = self._running = None


class Url:
    """The URL of the server as the attribute of a suite: what comes before the first test asks for it already."""

    def __init__(self, suffix: str = "") -> None:
        self.suffix = suffix

    def __get__(self, suite: object, kind: type) -> str:
        return rabbitmq.running.url + self.suffix


rabbitmq = RabbitMQ()
