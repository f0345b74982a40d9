"""Services as processes of this machine, each in a folder of its own and on ports that are free now."""

# ruff: noqa: D102  Engine says what its methods are for
from __future__ import annotations

import secrets
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from anybroker_conformance.services import process
from anybroker_conformance.services.engine import NodeState, ServiceError, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.service import Node, Service

_PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: one of those must not take a port during a restart."""
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOG_LINES = 20


class Local:
    """The engine that needs nothing but the servers' programs."""

    how: Literal["docker", "local"] = "local"

    def __init__(self) -> None:
        self._given: set[int] = set()

    def ports(self, service: Service) -> dict[str, int]:
        return {name: self._free_port() for name in (*service.ports, *service.more_ports)}

    def _free_port(self) -> int:
        while True:
            port = secrets.choice(_PORTS)
            if port in self._given:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            self._given.add(port)
            return port

    def prepare(self, services: Sequence[Service]) -> None:
        """Nothing: each service is started by itself."""

    def start(self, service: Service, folder: Path, ports: Mapping[str, int]) -> None:
        for node in service.nodes(folder, ports):
            self._start(service, folder, node)
        wait_for(lambda: service.form(ports), _START_SECONDS, lambda: self.states(service, folder))

    def _start(self, service: Service, folder: Path, node: Node) -> None:
        if node.after:
            wait_for(node.after, _START_SECONDS, lambda: self.states(service, folder))
        process.start(folder / node.name, node.command, node.environment)

    def stop(self, service: Service, folder: Path, node: str, number: signal.Signals) -> None:  # noqa: ARG002
        if found := process.read(folder / node):
            process.end(found, number, _STOP_SECONDS)

    def revive(self, service: Service, folder: Path, ports: Mapping[str, int], node: str) -> None:
        (wanted,) = (each for each in service.nodes(folder, ports) if each.name == node)
        process.start(folder / node, wanted.command, wanted.environment)

    def pause(self, service: Service, folder: Path, node: str) -> None:
        found = process.read(folder / node)
        if not found or not process.pause(found):
            raise ServiceError(f"{service.name}: the server {node} has ended")

    def resume(self, service: Service, folder: Path, node: str) -> None:
        found = process.read(folder / node)
        if not found or not process.send(found, signal.SIGCONT):
            raise ServiceError(f"{service.name}: the server {node} has ended")

    def states(self, service: Service, folder: Path) -> dict[str, NodeState]:
        found = self._processes(folder)
        return {node: process.state(found[node]) for node in service.containers if node in found}

    def version(self, service: Service, told: str) -> str:
        return service.product or told

    def log(self, service: Service, folder: Path) -> str:  # noqa: ARG002
        logs = {file.parent.name: file.read_text(errors="replace") for file in sorted(folder.glob("*/log"))}
        return "\n".join(f"{node}: {line}" for node, text in logs.items() for line in text.splitlines()[-_LOG_LINES:])

    def end(self, services: Mapping[Path, Service]) -> None:
        found = [each for folder in services for each in self._processes(folder).values()]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda each: process.end(each, signal.SIGKILL, _STOP_SECONDS), found))

    def _processes(self, folder: Path) -> dict[str, process.Process]:
        """Every process that was started in the folder, also those of an `up` that was killed."""
        found = {file.parent.name: process.read(file.parent) for file in folder.glob("*/pid")}
        return {node: each for node, each in found.items() if each}
