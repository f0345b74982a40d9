"""Google Cloud Pub/Sub: Google's emulator if the Cloud SDK has it, else a stand-in of ours."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.requirements import CURL, JAVA, JAVA_OPTIONS, STAND_INS, GoProgram
from anybroker_conformance.services.service import Node, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anybroker_conformance.services.requirements import Requirement

_STAND_IN = GoProgram(STAND_INS / "pubsub", "1")
_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"


class PubSub(Service):
    """It holds everything in memory: what it has is gone after a restart."""

    name = "pubsub"
    ports: ClassVar = {"grpc": 18085}

    @property
    def requirements(self) -> Sequence[Requirement]:
        """With what the guide lets a shell send a task by, for that is a test."""
        return [JAVA if _emulator() else _STAND_IN, CURL]

    @property
    def product(self) -> str:
        jar = _emulator()
        return f"emulator {jar.name.split('-')[3]}" if jar else f"stand-in {_STAND_IN.version}"

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:  # noqa: ARG002
        jar, port = _emulator(), ports["grpc"]
        if not jar:
            return [Node(self.name, (_STAND_IN.path(), "-port", str(port)))]
        return [Node(self.name, (JAVA.path(), *JAVA_OPTIONS, "-jar", jar, "--host=127.0.0.1", f"--port={port}"))]

    def probe(self, ports: Mapping[str, int]) -> str:
        probes.http2(ports["grpc"])
        return ""

    def url(self, ports: Mapping[str, int]) -> str:
        return f"pubsub://anybroker/?endpoint=127.0.0.1:{ports['grpc']}"


def _emulator() -> Path | None:
    """The emulator in the installation that the program ``gcloud`` belongs to."""
    gcloud = shutil.which("gcloud")
    if not gcloud:
        return None
    return max(Path(gcloud).resolve().parents[1].glob(_JAR), default=None)
