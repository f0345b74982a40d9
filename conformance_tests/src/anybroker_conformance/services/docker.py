"""Services as the containers of compose.yaml, on the fixed ports that stand there."""

# ruff: noqa: D102  Engine says what its methods are for
from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anybroker_conformance.services.engine import NodeState, ServiceError, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anybroker_conformance.services.service import Service

COMPOSE_FILE = Path(__file__).parent / "compose.yaml"
_ANSWER_SECONDS = 10.0
_STOP_SECONDS = 30
_FORM_SECONDS = 60.0
_LOG_LINES = 20
_log = logging.getLogger(__name__)


class Docker:
    """The engine for whoever has Docker and its Compose."""

    how: Literal["docker", "local"] = "docker"

    @staticmethod
    def answers() -> bool:
        """Whether there is a Docker engine that works, and `docker compose`."""
        if not shutil.which("docker"):
            return False
        questions = (("docker", "version"), ("docker", "compose", "version"))
        try:
            for each in questions:
                subprocess.run(each, capture_output=True, timeout=_ANSWER_SECONDS, check=True)  # noqa: S603  our own words
        except subprocess.SubprocessError:
            return False
        return True

    def ports(self, service: Service) -> dict[str, int]:
        return dict(service.ports)

    def prepare(self, services: Sequence[Service]) -> None:
        names = [name for service in services for name in _all(service)]
        _compose("up", "--detach", "--quiet-pull", *names)

    def start(self, service: Service, folder: Path, ports: Mapping[str, int]) -> None:
        if service.formed_by_compose:
            return
        wait_for(lambda: service.form(ports), _FORM_SECONDS, lambda: self.states(service, folder))

    def stop(self, service: Service, folder: Path, node: str, number: signal.Signals) -> None:
        container = service.containers[node]
        self.resume(service, folder, node)
        if number == signal.SIGKILL:
            _compose("kill", container)
        else:
            _compose("stop", "--timeout", str(_STOP_SECONDS), container)

    def revive(self, service: Service, folder: Path, ports: Mapping[str, int], node: str) -> None:  # noqa: ARG002
        _compose("start", service.containers[node])

    def pause(self, service: Service, folder: Path, node: str) -> None:
        if self.states(service, folder)[node] != "paused":
            _compose("pause", service.containers[node])

    def resume(self, service: Service, folder: Path, node: str) -> None:
        if self.states(service, folder)[node] == "paused":
            _compose("unpause", service.containers[node])

    def states(self, service: Service, folder: Path) -> dict[str, NodeState]:  # noqa: ARG002
        found: dict[str, str] = {item["Service"]: item["State"] for item in _listed(service)}
        names: dict[str, NodeState] = {"running": "running", "paused": "paused"}
        return {node: names.get(found.get(container, ""), "ended") for node, container in service.containers.items()}

    def version(self, service: Service, told: str) -> str:
        if told:
            return told
        images = json.loads(_compose("config", "--format", "json"))["services"]
        return str(images[service.name]["image"]).rpartition(":")[2]

    def log(self, service: Service, folder: Path) -> str:  # noqa: ARG002
        return _compose("logs", "--no-color", "--tail", str(_LOG_LINES), *_all(service))

    def end(self, services: Mapping[Path, Service]) -> None:
        if not self.answers():
            forgotten = ", ".join(service.name for service in services.values())
            _log.warning("Docker no longer answers; forgotten, as no container can be reached: %s", forgotten)
            return
        names = [item["Service"] for service in services.values() for item in _listed(service)]
        if names:
            _compose("kill", *names)
            _compose("rm", "--force", "--volumes", *names)
        if not _compose("ps", "--all", "--quiet").strip():
            _compose("down", "--volumes")


def _all(service: Service) -> list[str]:
    """The names in compose.yaml of all containers of a service; the first is the one that is called like it."""
    return list(dict.fromkeys((service.name, *service.containers.values())))


def _listed(service: Service) -> list[dict[str, Any]]:
    """The containers that exist of a service."""
    answer = _compose("ps", "--all", "--format", "json")
    items = json.loads(answer) if answer.startswith("[") else [json.loads(line) for line in answer.splitlines()]
    return [item for item in items if item["Service"] in _all(service)]


def _compose(*arguments: str) -> str:
    """What `docker compose` prints. Raises ServiceError with its complaint."""
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own words
    except FileNotFoundError:
        raise ServiceError("the program docker, with which services were started, is no longer there") from None
    if done.returncode:
        raise ServiceError(f"docker compose {arguments[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
