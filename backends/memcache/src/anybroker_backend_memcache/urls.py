"""What a ``memcache://`` URL may say."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Annotated

import msgspec

from anybroker.errors import ConfigurationError
from anybroker.loading import Address, parse_url, read_options

PORT = 11211
SOCKETS = "memcache+unix"
MAX_BODY = 1024 * 1024 - 1024
"""Bytes. An item has at most 1 MiB, unless memcached was started with ``-I``, and its key and header are in it too."""

Server = str | tuple[str, int]
"""The path of a socket, or a host and its port."""


class Options(msgspec.Struct, frozen=True):
    """Options of the URL."""

    prefix: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{0,40}$")] = "anybroker:"
    """Begins every key, so that several applications can share a server."""
    max_body: Annotated[int, msgspec.Meta(ge=1, le=1024**3)] = MAX_BODY
    """Bytes; more than the default only where memcached was started with a larger ``-I``."""
    group_ttl: timedelta = timedelta(days=7)
    """After its first ``join``, a group is forgotten."""
    connect_timeout: timedelta = timedelta(seconds=3)
    timeout: timedelta = timedelta(seconds=5)
    """For one answer."""
    tls: bool = False
    tls_ca: str | None = None
    """A file with the certificate of the authority; without it, those of the system are trusted."""


class Target(msgspec.Struct, frozen=True):
    """Where a URL leads."""

    address: Address
    servers: tuple[Server, ...]
    options: Options
    tls: ssl.SSLContext | None = None


def read_url(url: str) -> Target:
    """``memcache://host[:port][,host[:port]...]`` or ``memcache+unix:///path``. Raises ``ConfigurationError``."""
    address = parse_url(url)
    options = read_options(address, Options)
    if address.user is not None or address.password is not None:
        raise ConfigurationError(f"{address}: memcached is used without user and password; it must not be reachable")
    for name in ("group_ttl", "connect_timeout", "timeout"):
        if getattr(options, name) <= timedelta():
            raise ConfigurationError(f"{address}: the option '{name}' must be more than nothing")
    return Target(address, _servers(address), options, _tls(address, options))


def _servers(address: Address) -> tuple[Server, ...]:
    if address.scheme == SOCKETS:
        if address.hosts or not address.path.strip("/"):
            raise ConfigurationError(f"{address} names no socket; write {SOCKETS}:///path/to/socket (three slashes)")
        return (address.path,)
    if address.scheme != "memcache":
        raise ConfigurationError(f"this opens memcache:// and {SOCKETS}://, not {address.scheme}://")
    if not address.hosts or not all(host for host, _ in address.hosts) or address.path.strip("/"):
        raise ConfigurationError(f"{address}: write memcache://host1:11211,host2:11211, without a path")
    servers = tuple((host, PORT if port is None else port) for host, port in address.hosts)
    if len(set(servers)) < len(servers):
        raise ConfigurationError(f"{address} names a server twice")
    return servers


def _tls(address: Address, options: Options) -> ssl.SSLContext | None:
    if not options.tls:
        if options.tls_ca is not None:
            raise ConfigurationError(f"option 'tls_ca' in {address} needs tls=yes")
        return None
    if address.scheme == SOCKETS:
        raise ConfigurationError(f"option 'tls' in {address}: a socket of the file system is not encrypted")
    try:
        return ssl.create_default_context(cafile=options.tls_ca)
    except OSError as error:
        raise ConfigurationError(f"option 'tls_ca' in {address}: {error.strerror or error}") from error
