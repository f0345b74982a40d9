"""Redis Sentinel: a master, a replica, and the sentinels 1 to 3 that make the replica the master when it is gone."""

# ruff: noqa: D102  Service says what its methods are for
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from anybroker_conformance.services import probes
from anybroker_conformance.services.redis import SERVER
from anybroker_conformance.services.service import Node, NotReadyError, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anybroker_conformance.services.requirements import Requirement

_DATA = ("master", "replica")
_SENTINELS = ("1", "2", "3")
_MASTER = "mymaster"
_SERVER = """\
port {port}
bind 127.0.0.1
appendonly yes
appendfsync no
save ""
repl-diskless-sync-delay 0
"""
_SENTINEL = f"""\
port {{port}}
bind 127.0.0.1
sentinel monitor {_MASTER} 127.0.0.1 {{master}} 2
sentinel down-after-milliseconds {_MASTER} 1000
sentinel failover-timeout {_MASTER} 5000
"""


class RedisSentinel(Service):
    """The nodes master and replica are called after what they are at first; a failover swaps their roles.

    Redis itself rewrites the configuration files when a role changes, so they are only written once.
    """

    name = "redis-sentinel"
    ports: ClassVar = {"master": 17101, "replica": 17102, "1": 17111, "2": 17112, "3": 17113}
    node_names = (*_DATA, *_SENTINELS)

    @property
    def requirements(self) -> Sequence[Requirement]:
        return [SERVER]

    def nodes(self, folder: Path, ports: Mapping[str, int]) -> Sequence[Node]:
        replica = f"replicaof 127.0.0.1 {ports['master']}\n"
        texts = {node: _SERVER.format(port=ports[node]) for node in _DATA}
        texts["replica"] += replica
        texts |= {node: _SENTINEL.format(port=ports[node], master=ports["master"]) for node in _SENTINELS}
        for node, text in texts.items():
            file = folder / node / "redis.conf"
            if not file.exists():
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
        server = (SERVER.path(), "redis.conf")
        # A sentinel that meets a master without a replica looks for one again only after ten seconds.
        return [
            *(Node(node, server) for node in _DATA),
            *(Node(node, (*server, "--sentinel"), after=lambda: self._replicated(ports)) for node in _SENTINELS),
        ]

    def probe(self, ports: Mapping[str, int]) -> str:
        self._replicated(ports)
        masters = set()
        for node in _SENTINELS:
            probes.redis(ports[node], "SENTINEL", "CKQUORUM", _MASTER)
            masters.add(probes.redis(ports[node], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", _MASTER).split()[-1])
        working = {str(ports[node]) for node in _DATA if self._info(ports[node])["role"] == "master"}
        if masters != working:
            raise NotReadyError(f"the sentinels name {masters} as the master, which is {working}")
        return probes.redis_info(ports["master"], "server")["redis_version"]

    def _replicated(self, ports: Mapping[str, int]) -> None:
        """Raise unless one of the two is the replica of the other, and has its data."""
        links = [self._info(ports[node]).get("master_link_status") for node in _DATA]
        if sorted(links, key=str) != [None, "up"]:
            raise NotReadyError("the replica is not connected to the master")

    def _info(self, port: int) -> dict[str, str]:
        return probes.redis_info(port, "replication")

    def url(self, ports: Mapping[str, int]) -> str:
        addresses = ",".join(f"127.0.0.1:{ports[node]}" for node in _SENTINELS)
        return f"redis+sentinel://{addresses}/0?service={_MASTER}"
