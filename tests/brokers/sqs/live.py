"""The real SQS server that these tests need, started once per process of the tests, when it is first asked for."""

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
def live(name: str = "sqs") -> Running:
    """A service by its name; one that cannot be started is an error."""
    folder = Path(tempfile.mkdtemp(prefix="sqs")) / "state"
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


def endpoint() -> str:
    """Where ElasticMQ listens."""
    return f"http://127.0.0.1:{live().ports['http']}"


class LiveUrl:
    """The ``url`` of a suite: that of a service, which is started when the first law is to be tested."""

    def __init__(self, options: str = "") -> None:
        self._options = options

    def __get__(self, suite: object, kind: type) -> str:
        return f"{live().url}{self._options}"


class LiveServer:
    """The ``server`` of a suite: a service as a whole."""

    def stop(self) -> None:
        live().stop()

    def kill(self) -> None:
        live().kill()

    def start(self) -> None:
        live().start()
