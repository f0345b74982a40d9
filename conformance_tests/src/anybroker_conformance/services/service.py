"""What a service is: how its servers are started here, how one knows that they answer, and the URL of it all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

if TYPE_CHECKING:
    from anybroker_conformance.services.requirements import Requirement


class NotReadyError(Exception):
    """The server answers, but cannot be worked with yet."""


class Node(msgspec.Struct, frozen=True):
    """One server process of a service that runs as local processes."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = {}
    after: Callable[[], object] | None = None
    """What must return before the process is started; it raises NotReadyError or OSError until then."""
    helper: bool = False
    """Whether it only serves the other nodes: it is left alone by restart and pause."""


class Service(ABC):
    """One kind of server, or a group of servers that is used as one.

    A service keeps no state: ports and folders are given to each method.
    """

    name: ClassVar[str]
    ports: ClassVar[Mapping[str, int]]
    """The ports that it listens to: their names, and their numbers in compose.yaml."""
    more_ports: ClassVar[Sequence[str]] = ()
    """Names of ports that it needs when it runs as local processes, and that nobody but its own nodes uses."""
    node_names: ClassVar[Sequence[str]] = ()
    """The nodes that can be restarted and paused one by one; empty if the service is a single server."""
    formed_by_compose: ClassVar[bool] = False
    """Whether compose.yaml does by itself what `form` does."""

    @property
    @abstractmethod
    def requirements(self) -> Sequence[Requirement]:
        """What must be on this machine to run it as local processes."""

    @property
    def product(self) -> str:
        """What runs here as a local process, if the server itself does not tell."""
        return ""

    @abstractmethod
    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:
        """Its processes in the order in which to start them; writes the configuration that is missing in `folder`.

        Each process runs in ``folder / node.name``. Called again before a restart, with the same folder and ports.
        """

    def form(self, ports: Mapping[str, int]) -> None:  # noqa: B027 - most services are whole once they run
        """Make one service of the nodes that were started for the first time.

        Raises NotReadyError or OSError when it is too early; what was formed already stays as it is.
        """

    @abstractmethod
    def probe(self, ports: Mapping[str, int]) -> str:
        """The version that the server tells (or nothing), once all of it can be worked with.

        Raises NotReadyError or OSError until then.
        """

    @abstractmethod
    def url(self, ports: Mapping[str, int]) -> str:
        """The URL that an adapter takes."""

    def variables(self, ports: Mapping[str, int]) -> dict[str, str]:
        """The environment variables that tell tests where the service is."""
        return {f"{self.prefix}_URL": self.url(ports)}

    @property
    def prefix(self) -> str:
        """What the names of its environment variables begin with."""
        return f"ANYBROKER_TEST_{self.name.upper().replace('-', '_')}"

    @property
    def containers(self) -> dict[str, str]:
        """The names in compose.yaml of the nodes that can be restarted and paused."""
        if not self.node_names:
            return {self.name: self.name}
        return {node: f"{self.name}-{node}" for node in self.node_names}
