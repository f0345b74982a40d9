"""The real servers that the tests of adapters need, each started once per process of the tests, when first needed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from anybroker_conformance.services import Running, running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

HOW = os.environ.get("ANYBROKER_TEST_SERVICES", "local")
"""``local``, or ``docker`` to run the same tests on containers."""


class Service:
    """A service by its name; ``stop``, ``kill`` and ``start`` are what a conformance suite asks of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._door: Door | None = None
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """The service; one that cannot be started is a failure."""
        if self._running is None:
            folder = Path(tempfile.mkdtemp(prefix=self._name)) / "state"
            self._door = Door(State(folder))
            _, failures = self._door.up([self._name], HOW)
            assert not failures, "\n".join(failures)
            self._running = running(folder)[self._name]
        return self._running

    def url(self, **options: str) -> str:
        """Its URL, with options."""
        url = self.running.url
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

    def start(self) -> None:
        self.running.start()

    def stop(self) -> None:
        self.running.stop()

    def kill(self) -> None:
        self.running.kill()

    def end(self) -> None:
        """Leave nothing behind."""
        if self._door is not None:
            self._door.down([self._name])
            shutil.rmtree(self._door.state.folder.parent)
            self._door = self._running = None


class Url:
    """The ``url`` of a suite, which starts the service when it is asked for."""

    def __init__(self, service: Service, **options: str) -> None:
        self._service = service
        self._options = options

    def __get__(self, suite: object, kind: type) -> str:
        return self._service.url(**self._options)


mongodb = Service("mongodb")
memcached = Service("memcached")
