"""What runs the servers of a service: processes of this machine, or containers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from anybroker_conformance.services.service import NotReadyError

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.service import Service

_POLL = 0.05
T = TypeVar("T")
NodeState = Literal["running", "paused", "ended"]


class ServiceError(Exception):
    """A service did not start, or does not answer; the message says why."""


class Engine(Protocol):
    """Starts and ends servers; `folder` is always the folder of the service among the state."""

    how: Literal["docker", "local"]

    def ports(self, service: Service) -> dict[str, int]:
        """The ports for a service that is about to be started."""
        ...

    def prepare(self, services: Sequence[Service]) -> None:
        """Do what is best done for all services that are about to be started."""
        ...

    def start(self, service: Service, folder: Path, ports: Mapping[str, int]) -> None:
        """Start a service for the first time."""
        ...

    def stop(self, service: Service, folder: Path, node: str, number: signal.Signals) -> None:
        """End one node with a signal, and see that it has ended."""
        ...

    def revive(self, service: Service, folder: Path, ports: Mapping[str, int], node: str) -> None:
        """Start one node again, on its data."""
        ...

    def pause(self, service: Service, folder: Path, node: str) -> None:
        """Freeze a node: its connections stay, it does nothing."""
        ...

    def resume(self, service: Service, folder: Path, node: str) -> None:
        """Let a paused node go on; of no effect on one that runs."""
        ...

    def states(self, service: Service, folder: Path) -> dict[str, NodeState]:
        """What each node is doing."""
        ...

    def version(self, service: Service, told: str) -> str:
        """The version to report; `told` is what the server itself says, maybe nothing."""
        ...

    def log(self, service: Service, folder: Path) -> str:
        """The last lines that the servers wrote."""
        ...

    def end(self, services: Mapping[Path, Service]) -> None:
        """End all servers of services, given by their folders, and discard what the engine keeps of them."""
        ...


def wait_for(what: Callable[[], T], seconds: float, states: Callable[[], Mapping[str, NodeState]]) -> T:
    """The result of a probe, once it no longer raises NotReadyError or OSError.

    Raises ServiceError with the last complaint: at the deadline, or as soon as a node has ended.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return what()
        except (NotReadyError, OSError) as error:
            if ended := [node for node, state in states().items() if state == "ended"]:
                raise ServiceError(f"the server {', '.join(ended)} has ended") from error
            if time.monotonic() > deadline:
                raise ServiceError(f"not ready within {seconds:.0f} seconds: {error}") from error
        time.sleep(_POLL)
