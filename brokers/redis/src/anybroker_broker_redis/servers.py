"""From a URL to connections: to one server, to the master that sentinels name, or to the node that has a key."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from anybroker_broker_redis.errors import FAILURES
from anybroker_broker_redis.options import PORT, SENTINEL_PORT, database, encrypted, on_socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.loading import Address
    from anybroker_broker_redis.options import Options

SENTINEL_TIMEOUT = 1.0
"""Seconds for one sentinel; there are others."""
NO_LIMIT = 2**31
"""Of the connections that a pool makes in its life: it is told of none that has ended."""


class Servers(Protocol):
    """Where to connect to."""

    def connection(self) -> Connection:
        """A new connection, not yet connected, to where everything of one hash tag is."""
        ...

    def at(self, host: str, port: int) -> Connection:
        """A new connection to one node of a cluster."""
        ...

    def changed(self) -> None:
        """The server that was there is gone, or another one has the keys now."""
        ...

    def close(self) -> None:
        """End the connections to those who know where the servers are."""
        ...


class OneServer:
    """A server at an address, or whichever the sentinels name."""

    def __init__(self, connect: Callable[[], Connection], sentinel: Sentinel | None = None) -> None:
        self._connect = connect
        self._sentinel = sentinel

    def connection(self) -> Connection:
        """A new connection. A managed one asks the sentinels for the master when it connects."""
        return self._connect()

    def at(self, host: str, port: int) -> Connection:
        """One server redirects nobody."""
        raise NotImplementedError(f"{host}:{port}")

    def changed(self) -> None:
        """A new connection finds out by itself."""

    def close(self) -> None:
        """End the connections to the sentinels."""
        for client in self._sentinel.sentinels if self._sentinel else ():
            client.connection_pool.disconnect()


class Cluster:
    """The nodes of a cluster; ``key`` decides which of them has what is asked for.

    ``hosts`` is a list that others have, too: the one that has answered is the first to be asked by all of them.
    """

    def __init__(self, hosts: list[tuple[str, int]], key: bytes, settings: dict[str, Any]) -> None:
        self._hosts = hosts
        self._key = key
        self._settings = settings
        self._node: tuple[str, int] | None = None

    def connection(self) -> Connection:
        """A new connection to the master of the slot that the key is in."""
        node = self._node
        if node is None:
            node = self._node = self._find()
        return self.at(*node)

    def at(self, host: str, port: int) -> Connection:
        """A new connection to a node that another one named.

        One that does not know where it is itself names a port alone, which is at the host that was asked.
        """
        host = host or (self._node or self._hosts[0])[0]
        settings = dict(self._settings)
        kind = SSLConnection if settings.pop("ssl", False) else Connection
        return kind(host=host, port=port, **settings)

    def changed(self) -> None:
        """Ask again which node has what."""
        self._node = None

    def close(self) -> None:
        """The connections that find a node are ended at once."""

    def _find(self) -> tuple[str, int]:
        failure: Exception | None = None
        for host in list(self._hosts):
            try:
                found = self._ask(ClusterNode(*host))
            except FAILURES as error:
                failure = error
            else:
                self._hosts[:] = [host, *(other for other in self._hosts if other != host)]
                return found
        raise failure or RedisClusterException("no nodes")

    def _ask(self, node: ClusterNode) -> tuple[str, int]:
        """Where the slot is, by one of the nodes."""
        try:
            cluster = RedisCluster(startup_nodes=[node], require_full_coverage=False, **self._settings)
        except IndexError as error:  # what redis-py makes of nodes that know of no slots
            raise RedisClusterException("no node of the cluster has been given slots") from error
        with cluster:
            master = cluster.nodes_manager.get_node_from_slot(cluster.keyslot(self._key))
            return master.host, master.port


def nodes(address: Address) -> list[tuple[str, int]]:
    """The nodes of a cluster that a URL names."""
    return [(host, port or PORT) for host, port in address.hosts]


def servers(address: Address, options: Options, key: bytes, hosts: list[tuple[str, int]] | None = None) -> Servers:
    """Where a URL leads; nothing is connected yet.

    In a cluster, ``key`` is one with the hash tag that matters, and ``hosts`` are its :func:`nodes`, for all who share
    what one of them finds out.
    """
    settings: dict[str, Any] = {
        "socket_timeout": options.timeout.total_seconds(),
        "socket_connect_timeout": options.timeout.total_seconds(),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": options.protocol,
        "username": address.user,
        "password": address.password,
        "client_name": "anybroker",
    }
    if on_socket(address):
        del settings["socket_keepalive"]
        path, number = "/" + address.path.lstrip("/"), database(address, options)
        on_path: Any = UnixDomainSocketConnection  # which redis-py's annotations do not know of
        return OneServer(partial(on_path, path=path, db=number, **settings))
    tls = _tls(address, options)
    if address.scheme == "redis+cluster":
        return Cluster(nodes(address) if hosts is None else hosts, key, settings | tls | ({"ssl": True} if tls else {}))
    settings["db"] = database(address, options)
    if address.scheme == "redis+sentinel":
        return _by_sentinels(address, options, settings, tls)
    [(host, port)] = address.hosts
    kind = SSLConnection if tls else Connection
    return OneServer(partial(kind, host=host, port=port or PORT, **settings, **tls))


def _tls(address: Address, options: Options) -> dict[str, Any]:
    if not encrypted(address, options):
        return {}
    return {
        "ssl_ca_certs": options.tls_ca,
        "ssl_certfile": options.tls_cert,
        "ssl_keyfile": options.tls_key,
        "ssl_cert_reqs": "required" if options.tls_verify else "none",
        "ssl_check_hostname": options.tls_verify,
    }


def _by_sentinels(address: Address, options: Options, settings: dict[str, Any], tls: dict[str, Any]) -> OneServer:
    hosts = [(host, port or SENTINEL_PORT) for host, port in address.hosts]
    patience = min(SENTINEL_TIMEOUT, options.timeout.total_seconds())
    of_sentinels = {
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": Retry(NoBackoff(), 0),
        "username": options.sentinel_user,
        "password": options.sentinel_password,
        **({"ssl": True} | tls if tls else {}),
    }
    sentinel = Sentinel(hosts, sentinel_kwargs=of_sentinels)
    pool: Any = SentinelConnectionPool(
        options.service, sentinel, ssl=bool(tls), max_connections=NO_LIMIT, **settings, **tls
    )
    return OneServer(pool.make_connection, sentinel)
