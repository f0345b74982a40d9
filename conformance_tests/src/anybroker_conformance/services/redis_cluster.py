"""Redis Cluster: three masters with a replica each; its nodes are called 1 to 6."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.redis import CLIENT, OPTIONS, SERVER
from anybroker_conformance.services.service import Node, NotReadyError, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.requirements import Requirement

_NODES = tuple("123456")
_REPLICAS = 3
_CREATE_SECONDS = 60


class RedisCluster(Service):
    """Ready when every node finds the cluster whole, and every replica has its master's data."""

    name = "redis-cluster"
    ports: ClassVar = {node: 17000 + int(node) for node in _NODES}
    more_ports = tuple(f"bus-{node}" for node in _NODES)
    node_names = _NODES
    formed_by_compose = True

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [SERVER, CLIENT]

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:  # noqa: ARG002
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        return [
            Node(
                node,
                (
                    *(SERVER.path(), "--port", str(ports[node]), *OPTIONS, *cluster),
                    *("--cluster-port", str(ports[f"bus-{node}"]), "--repl-diskless-sync-delay", "0"),
                ),
            )
            for node in _NODES
        ]

    def form(self, ports: Mapping[str, int]) -> None:
        for node in _NODES:
            probes.redis(ports[node], "PING")
        if "cluster_slots_assigned:16384" in probes.redis(ports["1"], "CLUSTER", "INFO"):
            return
        addresses = [f"127.0.0.1:{ports[node]}" for node in _NODES]
        create = ("--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes")
        command = [str(CLIENT.path()), *create]
        done = subprocess.run(  # noqa: S603  our own words
            command, capture_output=True, text=True, timeout=_CREATE_SECONDS, check=False
        )
        if done.returncode:
            raise NotReadyError(f"redis-cli --cluster create: {done.stdout[-500:]}{done.stderr[-500:]}")

    def probe(self, ports: Mapping[str, int]) -> str:
        replicas = 0
        for node in _NODES:
            if "cluster_state:ok" not in probes.redis(ports[node], "CLUSTER", "INFO"):
                raise NotReadyError(f"node {node} does not find the cluster whole")
            replicas += self._is_replica(node, ports[node])
        if replicas != _REPLICAS:
            raise NotReadyError(f"{replicas} of {_REPLICAS} replicas")
        return probes.redis_info(ports["1"], "server")["redis_version"]

    def _is_replica(self, node: str, port: int) -> bool:
        replication = probes.redis_info(port, "replication")
        if replication["role"] == "master":
            return False
        if replication["master_link_status"] != "up":
            raise NotReadyError(f"node {node} is not connected to its master")
        return True

    def url(self, ports: Mapping[str, int]) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{ports[node]}" for node in _NODES)
