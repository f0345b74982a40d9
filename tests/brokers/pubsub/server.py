"""The Pub/Sub server that these tests need, started when the first of them needs it, once per process of the tests."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from anybroker_conformance.services import Running, running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

HOW = os.environ.get("ANYBROKER_TEST_SERVICES", "local")
"""``local``, or ``docker`` to run the same tests on containers."""


class PubSub:
    """One server; ``stop``, ``kill`` and ``start`` are what a conformance suite asks of it."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """The service; one that cannot be started is a failure."""
        if self._running is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pubsub")
            state = State(Path(self._folder.name) / "state")
            _, failures = Door(state).up(["pubsub"], HOW)
            assert failures == [], failures
            self._running = running(state.folder)["pubsub"]
        return self._running

    def start(self) -> None:
        self.running.start()

    def stop(self) -> None:
        self.running.stop()

    def kill(self) -> None:
        self.running.kill()

    def end(self) -> None:
        """Leave nothing behind."""
        if self._folder is not None:
            door = Door(State(Path(self._folder.name) / "state"))
            door.down(door.state.entries())
            self._folder.cleanup()
            self._folder = self._running = None


class Url:
    """The URL of the server as the attribute of a suite: what comes before the first test asks for it already.

    Every test has a prefix of its own: a process that it kills takes what is due later in that test along, and nothing
    of another test.
    """

    def __init__(self, options: str = "") -> None:
        self.options = options

    def __get__(self, suite: object, kind: type) -> str:
        namespace = getattr(suite, "namespace", "")
        prefix = f"&prefix={namespace}-" if namespace else ""
        return f"{pubsub.running.url}{prefix}{self.options}"


pubsub = PubSub()
