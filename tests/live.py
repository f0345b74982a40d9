"""The real servers that tests need: each is started once per process of the tests, when it is first asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

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
        self.name = name
        self._how = how
        self._running: Running | None = None
        self.folder = Path()
        """Of its state, while it runs."""

    @property
    def running(self) -> Running:
        """The service, started. One that cannot be started is a failure of the test, never a reason to skip it."""
        if self._running is None:
            self.folder = Path(tempfile.mkdtemp(prefix=self.name)) / "state"
            _started.append(self)
            _, failures = Door(State(self.folder)).up([self.name], self._how)
            assert not failures, "\n".join(failures)
            self._running = running(self.folder)[self.name]
        return self._running

    @property
    def version(self) -> str:
        """For the report, beside its name."""
        return self.running.version

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
        words = f"{self.name}: the server {', '.join(ended)} has ended, and is started again\n{self._running.log}"
        self._running.start()
        return words

    def end(self) -> None:
        """Leave nothing behind."""
        Door(State(self.folder)).down([self.name])
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


class HasUrl(Protocol):
    """What is started when it is asked for its URL."""

    def url(self, **options: object) -> str: ...


class Url:
    """The ``url`` of a suite: that of a server, which is started when the first law is to be tested.

    The class itself has none. pytest looks at each attribute of a class that it collects, and a run of other tests
    would start the server.
    """

    def __init__(self, of: HasUrl, **options: object) -> None:
        self._server = of
        self._options = options

    def __get__(self, suite: object | None, kind: type) -> str:
        if suite is None:
            raise AttributeError("ask an object of the suite for its URL")
        return self._server.url(**self._options)
