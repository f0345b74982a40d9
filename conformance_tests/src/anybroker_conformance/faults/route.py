"""Which URL leads through a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from anybroker.errors import ConfigurationError
from anybroker.loading import parse_url

if TYPE_CHECKING:
    from anybroker.loading import Address

_DEFAULT_PORTS = {
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
    "mongodb": 27017,
    "memcache": 11211,
    "http": 80,
    "https": 443,
}
_ENCRYPTED = {"rediss", "amqps", "https"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class NoRoute(Exception):
    """A URL cannot be led through a proxy; the message says why."""


def upstream(url: str | None) -> tuple[str, int]:
    """The one host and port where the server of a URL is. Raises ``NoRoute``."""
    if url is None:
        raise NoRoute("the suite has no URL, and so no address of a server is known")
    try:
        address = parse_url(url)
    except ConfigurationError as error:
        raise NoRoute(str(error)) from None
    endpoint = address.query.get("endpoint")
    return _endpoint(endpoint) if endpoint else _host(address)


def route(url: str, host: str, port: int) -> str:
    """The URL that leads to another host and port, and says the same otherwise. Raises ``NoRoute``."""
    old_host, _ = upstream(url)
    endpoint = parse_url(url).query.get("endpoint")
    if endpoint is None:
        return _with_host(url, host, port)
    scheme = f"{endpoint.partition('://')[0]}://" if "://" in endpoint else ""
    if scheme.removesuffix("://") in _ENCRYPTED and old_host not in _LOOPBACK:
        raise NoRoute(_of_certificate(old_host))
    rest = endpoint.removeprefix(scheme)
    moved = f"{scheme}{host}:{port}{rest[len(rest.partition('/')[0]) :]}"
    before, query = url.split("?", 1)
    pairs = [_replaced(pair, moved) for pair in query.split("&")]
    return f"{before}?{'&'.join(pairs)}"


def _replaced(pair: str, endpoint: str) -> str:
    name = pair.partition("=")[0]
    return f"{name}={quote(endpoint, safe=':/')}" if unquote(name) == "endpoint" else pair


def _with_host(url: str, host: str, port: int) -> str:
    scheme, rest = url.split("://", 1)
    end = min((rest.index(mark) for mark in "/?" if mark in rest), default=len(rest))
    userinfo = rest[:end].rpartition("@")[0]
    return f"{scheme}://{userinfo}{'@' if userinfo else ''}{host}:{port}{rest[end:]}"


def _endpoint(endpoint: str) -> tuple[str, int]:
    scheme, mark, rest = endpoint.rpartition("://")
    try:
        return _host(parse_url(f"{scheme if mark else 'endpoint'}://{rest}"))
    except ConfigurationError as error:
        raise NoRoute(f"the endpoint: {error}") from None


def _host(address: Address) -> tuple[str, int]:
    if len(address.hosts) == 0 or not address.hosts[0][0]:
        raise NoRoute(f"{address.scheme}:// names no host: there is no network in between")
    if len(address.hosts) > 1:
        raise NoRoute("the URL names several hosts, and a proxy stands before one")
    host, port = address.hosts[0]
    port = port or _DEFAULT_PORTS.get(address.scheme)
    if port is None:
        raise NoRoute(f"{address.scheme}:// names no port: there is no network in between")
    if address.scheme in _ENCRYPTED and host not in _LOOPBACK:
        raise NoRoute(_of_certificate(host))
    return host, port


def _of_certificate(host: str) -> str:
    return f"the connection is encrypted, and the certificate is that of {host}"
