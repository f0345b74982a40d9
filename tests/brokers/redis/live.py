"""The real servers that these tests need, each started once per process of the tests, when it is first asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from anybroker_conformance.services import Running, running
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

HOW = os.environ.get("ANYBROKER_TEST_SERVICES", "local")
"""``local``, or ``docker`` to run the same tests on containers."""


_started: dict[str, Door] = {}


@cache
def live(name: str) -> Running:
    """A service by its name; one that cannot be started is an error."""
    folder = Path(tempfile.mkdtemp(prefix="redis")) / "state"
    door = _started[name] = Door(State(folder))
    _, failures = door.up([name], HOW)
    if failures:
        raise AssertionError("\n".join(failures))
    return running(folder)[name]


def end_all() -> None:
    """End what was started. After the last test."""
    while _started:
        name, door = _started.popitem()
        door.down([name])
        shutil.rmtree(door.state.folder.parent)
    live.cache_clear()


class LiveUrl:
    """The ``url`` of a suite: that of a service, which is started when the first law is to be tested."""

    def __init__(self, name: str, options: str = "") -> None:
        self._name = name
        self._options = options

    def __get__(self, suite: object, kind: type) -> str:
        url = live(self._name).url
        return f"{url}{'&' if '?' in url else '?'}{self._options}" if self._options else url


class LiveServer:
    """The ``server`` of a suite: a service as a whole."""

    def __init__(self, name: str) -> None:
        self._name = name

    def stop(self) -> None:
        live(self._name).stop()

    def kill(self) -> None:
        live(self._name).kill()

    def start(self) -> None:
        live(self._name).start()
