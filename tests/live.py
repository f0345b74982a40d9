"""The real servers that tests need: each is started once per process of the tests, when it is first asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from anybroker_conformance.services import Running, running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

HOW = os.environ.get("ANYBROKER_TEST_SERVICES", "local")
"""``local``, or ``docker`` to run the same tests on containers."""

_started: list[Service] = []


class Service:
    """A service by its name. ``stop``, ``kill`` and ``start`` are what a conformance suite asks of its ``server``."""

    def __init__(self, name: str, how: str = HOW) -> None:
        self._name = name
        self._how = how
        self._running: Running | None = None
        self.folder = Path()
        """Of its state, while it runs."""

    @property
    def running(self) -> Running:
        """The service, started. One that cannot be started is a failure of the test, never a reason to skip it."""
        if self._running is None:
            self.folder = Path(tempfile.mkdtemp(prefix=self._name)) / "state"
            _started.append(self)
            _, failures = Door(State(self.folder)).up([self._name], self._how)
            assert not failures, "\n".join(failures)
            self._running = running(self.folder)[self._name]
        return self._running

    def url(self, **options: object) -> str:
        """Its URL, with options of the adapter."""
        url = self.running.url
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

    def start(self) -> None:
        self.running.start()

    def stop(self) -> None:
        self.running.stop()

    def kill(self) -> None:
        self.running.kill()

    def revive(self) -> str | None:
        """Start what has ended; returns what the servers wrote last, or None where all of them run."""
        if self._running is None or not (ended := self._running.ended):
            return None
        words = f"{self._name}: the server {', '.join(ended)} has ended, and is started again\n{self._running.log}"
        self._running.start()
        return words

    def end(self) -> None:
        """Leave nothing behind."""
        Door(State(self.folder)).down([self._name])
        shutil.rmtree(self.folder.parent)
        self._running = None


service: Callable[[str], Service] = cache(Service)
"""The one object of a service in this process, by its name."""


def revive_all() -> list[str]:
    """What servers wrote last that have ended. They run again afterwards: one that dies fails one test, not all."""
    return [words for words in (each.revive() for each in _started) if words] if HOW == "local" else []


def end_all() -> None:
    """End what was started. After the last test."""
    while _started:
        _started.pop().end()


class Url:
    """The ``url`` of a suite: that of a service, which is started when the first law is to be tested."""

    def __init__(self, of: Service, **options: object) -> None:
        self._service = of
        self._options = options

    def __get__(self, suite: object, kind: type) -> str:
        return self._service.url(**self._options)
