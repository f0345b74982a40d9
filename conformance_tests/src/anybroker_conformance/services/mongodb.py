"""MongoDB: a replica set of one where there is a ``mongod``, else a stand-in, which is no replica set.

Hardly a system's packages have ``mongod``. The stand-in is mongo-java-server with the gaps filled that a queue meets.
"""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import mongo_wire
from anybroker_conformance.services.requirements import JAVA, JAVA_OPTIONS, JAVAC, STAND_INS, Jars, JavaClass, Program
from anybroker_conformance.services.service import Node, NotReadyError, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.requirements import Requirement

_SERVER = Program("mongod", apt="mongodb-org-server", brew="mongodb-community")
_JARS = Jars("mongodb", "1.47.0")
_STAND_IN = JavaClass(STAND_INS / "MongoStandIn.java", _JARS)
_PORT_IN_CONTAINER = 27017
_NO_SUCH_COMMAND = 59
_ALREADY_INITIALIZED = 23


class MongoDB(Service):
    """What was acknowledged survives SIGKILL."""

    name = "mongodb"
    ports: ClassVar = {"mongodb": 17017}

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [_SERVER] if _SERVER.found() else [JAVA, JAVAC, _JARS, _STAND_IN]

    @property
    def product(self) -> str:
        return "" if _SERVER.found() else f"mongo-java-server {_JARS.version}"

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:
        home, port = folder / self.name, str(ports["mongodb"])
        if _SERVER.found():
            home.mkdir(exist_ok=True)
            options = ("--bind_ip", "127.0.0.1", "--port", port, "--dbpath", home, "--replSet", "rs0")
            return [Node(self.name, (_SERVER.path(), *options))]
        class_path = f"{_STAND_IN.folder}:{_JARS.class_path()}"
        return [Node(self.name, (JAVA.path(), *JAVA_OPTIONS, "-cp", class_path, "MongoStandIn", port, home / "data"))]

    def form(self, ports: Mapping[str, int]) -> None:
        # In a container the server knows itself by another port than we do.
        answers = []
        for port in (ports["mongodb"], _PORT_IN_CONTAINER):
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            answer = mongo_wire.command(ports["mongodb"], replSetInitiate={"_id": "rs0", "members": members})
            if answer["ok"] == 1 or answer.get("code") in {_ALREADY_INITIALIZED, _NO_SUCH_COMMAND}:
                return
            answers.append(answer.get("errmsg"))
        raise NotReadyError(f"replSetInitiate: {answers}")

    def probe(self, ports: Mapping[str, int]) -> str:
        if not mongo_wire.command(ports["mongodb"], hello=1).get("isWritablePrimary"):
            raise NotReadyError("the server is not primary yet")
        return str(mongo_wire.command(ports["mongodb"], buildInfo=1)["version"])

    def url(self, ports: Mapping[str, int]) -> str:
        # A client is not to look for the member under the address that only the container knows.
        return f"mongodb://127.0.0.1:{ports['mongodb']}/anybroker?directConnection=true"
