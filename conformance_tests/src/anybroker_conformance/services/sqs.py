"""ElasticMQ, which speaks the protocol of Amazon SQS."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.requirements import JAVA, JAVA_OPTIONS, Jars
from anybroker_conformance.services.service import Node, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.requirements import Requirement

_JARS = Jars("elasticmq", "1.7.1")
_DURABLE = ";WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE"
"""How H2 keeps messages, which by default it writes half a second later, and so loses in a crash.

And at SIGTERM it would close while ElasticMQ still answers, which then confirms what it does not store.
"""


class Sqs(Service):
    """Queues and messages survive SIGKILL and SIGTERM, also in the midst of work."""

    name = "sqs"
    ports: ClassVar = {"http": 19324}

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [JAVA, _JARS]

    @property
    def product(self) -> str:
        return f"ElasticMQ {_JARS.version}"

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:
        home = folder / self.name
        settings = {
            "rest-sqs.bind-hostname": "127.0.0.1",
            "rest-sqs.bind-port": ports["http"],
            "node-address.host": "127.0.0.1",
            "node-address.port": ports["http"],
            "rest-stats.enabled": "false",
            "queues-storage.enabled": "true",
            "queues-storage.path": home / "queues.conf",
            "messages-storage.enabled": "true",
            "messages-storage.uri": f"jdbc:h2:{home / 'messages'}{_DURABLE}",
        }
        options = [f"-D{name}={value}" for name, value in settings.items()]
        main = "org.elasticmq.server.Main"
        return [Node(self.name, (JAVA.path(), *JAVA_OPTIONS, *options, "-cp", _JARS.class_path(), main))]

    def probe(self, ports: Mapping[str, int]) -> str:
        probes.http_get(ports["http"], "/health")
        return ""

    def url(self, ports: Mapping[str, int]) -> str:
        return f"sqs://local:local@elasticmq/?endpoint=http://127.0.0.1:{ports['http']}"  # it takes any credentials
