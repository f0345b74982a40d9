"""A single Redis server, with its append-only file."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.requirements import Program
from anybroker_conformance.services.service import Node, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.requirements import Requirement

SERVER = Program("redis-server", apt="redis-server", brew="redis")
CLIENT = Program("redis-cli", apt="redis-tools", brew="redis")
OPTIONS = ("--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "no", "--save", "")


class Redis(Service):
    """What is written to it survives SIGKILL, for the operating system has it by then.

    With Redis's own default, ``appendfsync everysec``, it may not: while an fsync is under way, the server keeps what
    it has acknowledged to itself, for up to two seconds.
    """

    name = "redis"
    ports: ClassVar = {"redis": 16379}

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [SERVER]

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:  # noqa: ARG002
        return [Node(self.name, (SERVER.path(), "--port", str(ports["redis"]), *OPTIONS))]

    def probe(self, ports: Mapping[str, int]) -> str:
        probes.redis(ports["redis"], "PING")
        return probes.redis_info(ports["redis"], "server")["redis_version"]

    def url(self, ports: Mapping[str, int]) -> str:
        return f"redis://127.0.0.1:{ports['redis']}/0"
