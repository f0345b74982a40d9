"""Memcached: what it holds is gone after a restart, as everywhere."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.requirements import Program
from anybroker_conformance.services.service import Node, NotReadyError, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.requirements import Requirement

_SERVER = Program("memcached", apt="memcached", brew="memcached")


class Memcached(Service):
    """One server."""

    name = "memcached"
    ports: ClassVar = {"memcached": 12211}

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [_SERVER]

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:  # noqa: ARG002
        user = ("-u", "nobody") if os.getuid() == 0 else ()  # it refuses to run as root
        return [Node(self.name, (_SERVER.path(), "-l", "127.0.0.1", "-p", str(ports["memcached"]), *user))]

    def probe(self, ports: Mapping[str, int]) -> str:
        answer = probes.line(ports["memcached"], b"version\r\n")
        if not answer.startswith("VERSION "):
            raise NotReadyError(f"memcached answers {answer!r}")
        return answer.split()[1]

    def url(self, ports: Mapping[str, int]) -> str:
        return f"memcache://127.0.0.1:{ports['memcached']}"
