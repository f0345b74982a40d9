"""What a test may do to a service that runs."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING

from anybroker_conformance.services.catalogue import SERVICES
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import State

if TYPE_CHECKING:
    from pathlib import Path

    from anybroker_conformance.services.state import Entry


class Running:
    """A service that was started by ``python -m anybroker_conformance.services up``."""

    def __init__(self, door: Door, entry: Entry) -> None:
        self._door = door
        self._entry = entry

    @property
    def name(self) -> str:
        """What it is called on the command line: "redis", "sqs"..."""
        return self._entry.name

    @property
    def url(self) -> str:
        """The URL that an adapter takes."""
        return SERVICES[self.name].url(self._entry.ports)

    @property
    def ports(self) -> dict[str, int]:
        """Its ports on 127.0.0.1 by name; the data nodes' of redis-sentinel too, which its URL does not have."""
        return self._entry.ports

    @property
    def version(self) -> str:
        """The version of the server."""
        return self._entry.version

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that `env` prints for it."""
        return SERVICES[self.name].variables(self._entry.ports)

    @property
    def nodes(self) -> list[str]:
        """The nodes that the other methods take; a single server is one node."""
        return list(SERVICES[self.name].containers)

    @property
    def ended(self) -> list[str]:
        """The nodes that do not run: they were stopped, or died."""
        return [node for node, state in self._door.states(self._entry).items() if state == "ended"]

    @property
    def log(self) -> str:
        """The last lines that its servers wrote."""
        return self._door.log(self._entry)

    def restart(self, signal: signals.Signals = signals.SIGTERM, node: str | None = None) -> None:
        """End a node, or all, with SIGTERM or SIGKILL; start it again with the same port and data; wait until ready.

        Raises ServiceError if it does not become ready.
        """
        self._door.restart(self._entry, node, signal)

    def stop(self, node: str | None = None) -> None:
        """End a node, or all, by SIGTERM. With `kill` and `start` it can be the ``server`` of a conformance suite."""
        self._door.stop(self._entry, node, signals.SIGTERM)

    def kill(self, node: str | None = None) -> None:
        """End a node, or all, by SIGKILL."""
        self._door.stop(self._entry, node, signals.SIGKILL)

    def start(self) -> None:
        """Start it again with the same ports and data, and wait until it is ready; nothing while it runs."""
        self._door.start(self._entry)

    def pause(self, node: str | None = None) -> None:
        """Freeze a node, or all: connections stay open, nothing is answered. Raises ServiceError if it has ended."""
        self._door.pause(self._entry, node)

    def resume(self, node: str | None = None) -> None:
        """Let a node, or all, go on after a pause. Raises ServiceError if it has ended."""
        self._door.resume(self._entry, node)


def running(folder: Path | None = None) -> dict[str, Running]:
    """The services that are up, by name; `folder` is where their state is, if not in the usual place."""
    door = Door(State(folder))
    return {name: Running(door, entry) for name, entry in door.state.entries().items() if entry.version}
