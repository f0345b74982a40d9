"""What a Redis URL may say, for the broker and the result backend alike: one URL serves both."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from anybroker.capabilities import Durability
from anybroker.errors import ConfigurationError
from anybroker.loading import is_secret, parse_url, read_options

if TYPE_CHECKING:
    from anybroker.loading import Address

SCHEMES = ("redis", "rediss", "redis+unix", "unix", "redis+sentinel", "redis+cluster")
PORT = 6379
SENTINEL_PORT = 26379


class Options(msgspec.Struct, frozen=True):
    """The options of a Redis URL."""

    prefix: Annotated[str, msgspec.Meta(min_length=1, max_length=80)] = "anybroker"
    """Begins every key: applications with different ones share a server and see nothing of each other."""
    timeout: timedelta = timedelta(seconds=5)
    """For one answer of the server, and for one connection."""
    replicas: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Replicas that must have a change before the call that made it returns (``WAIT``); leases are no such change."""
    protocol: Annotated[int, msgspec.Meta(ge=2, le=3)] = 2
    """Version of RESP, the wire protocol."""
    durability: Durability | None = None
    """What the server's persistence keeps, where its configuration may not be read."""
    max_body: Annotated[int, msgspec.Meta(ge=1, le=500_000_000)] = 16 * 1024 * 1024
    """Bytes of the largest message, and of the largest result. Redis itself takes 512 MB."""
    group_ttl: timedelta = timedelta(days=7)
    """How long a group of tasks of which nothing is heard is remembered (result backend)."""
    db: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The database, where the path of the URL is that of a socket."""
    service: str | None = None
    """The name by which the sentinels know the master."""
    sentinel_user: str | None = None
    sentinel_password: str | None = None
    tls: bool = False
    """Encrypted, as ``rediss://`` is, for Sentinel and Cluster."""
    tls_ca: str | None = None
    """File of the certificates to trust; those of the system by default."""
    tls_cert: str | None = None
    """File of the client's certificate."""
    tls_key: str | None = None
    """File of its key."""
    tls_verify: bool = True
    """Whether the server's certificate, and the host in it, must be right."""

    def __repr__(self) -> str:
        """Show the options, secrets masked."""
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """List the options, secrets masked, for tools that print structures."""
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, "***" if value is not None and is_secret(name) else value) for name, value in values]


def read_url(url: str) -> tuple[Address, Options]:
    """Take a URL apart. Raises ``ConfigurationError``, before anything is connected, for what cannot work."""
    address = parse_url(url)
    if address.scheme not in SCHEMES:
        raise ConfigurationError(f"this opens {', '.join(f'{name}://' for name in SCHEMES)}, not {address.scheme}://")
    options = read_options(address, Options)
    if set("{}") & set(options.prefix):
        raise ConfigurationError(f"{address}: the option 'prefix' must not contain braces")
    if min(options.timeout, options.group_ttl) <= timedelta():
        raise ConfigurationError(f"{address}: the options 'timeout' and 'group_ttl' must be more than nothing")
    if address.user is not None and address.password is None:
        raise ConfigurationError(f"{address} has a user and no password; write redis://user:password@host")
    _check_place(address, options)
    return address, options


def database(address: Address, options: Options) -> int:
    """The number of the database, 0 unless given. Raises ``ConfigurationError``."""
    path = "" if on_socket(address) else address.path.strip("/")
    if not path:
        return options.db or 0
    if not (path.isascii() and path.isdigit()):
        raise ConfigurationError(f"{address}: what follows the host is the number of a database, e.g. /0")
    if options.db is not None:
        raise ConfigurationError(f"{address}: give the database once, in the path or as the option 'db'")
    return int(path)


def on_socket(address: Address) -> bool:
    """Whether the server is at a unix socket."""
    return address.scheme in {"redis+unix", "unix"}


def encrypted(address: Address, options: Options) -> bool:
    """Whether the connections are to be encrypted."""
    return options.tls or address.scheme == "rediss"


def check_files(address: Address, options: Options) -> None:
    """Raise ``ConfigurationError`` for certificates or a key that cannot be read: no server has to do with that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if options.tls_ca:
            context.load_verify_locations(options.tls_ca)
        if options.tls_cert:
            context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as error:
        files = f"tls_ca={options.tls_ca}, tls_cert={options.tls_cert}"
        raise ConfigurationError(f"{address}: {files}: {error.strerror or error}") from error


def _check_place(address: Address, options: Options) -> None:
    """Whether the URL says where the server is, and in the way of its scheme."""
    scheme = address.scheme
    number = database(address, options)
    if on_socket(address):
        if address.hosts or not address.path.strip("/"):
            raise ConfigurationError(f"which socket? write {scheme}:///path/to/redis.sock (three slashes)")
        if encrypted(address, options):
            raise ConfigurationError(f"{address}: a unix socket is not encrypted")
        return
    if not address.hosts or not all(host for host, _ in address.hosts):
        raise ConfigurationError(f"which server? write {scheme}://localhost{'' if '+' in scheme else ':6379/0'}")
    if len(address.hosts) > 1 and "+" not in scheme:
        raise ConfigurationError(f"{address} names several hosts; use redis+sentinel:// or redis+cluster://")
    if (scheme == "redis+sentinel") != (options.service is not None):
        example = "redis+sentinel://host1,host2/0?service=mymaster"
        raise ConfigurationError(f"{address}: the option 'service' belongs to sentinels, which need it: {example}")
    if scheme == "redis+cluster" and number:
        raise ConfigurationError(f"{address}: a cluster has no database but 0")
    if not encrypted(address, options) and (options.tls_ca or options.tls_cert or options.tls_key):
        raise ConfigurationError(f"{address}: options of TLS, and no TLS; write rediss:// or tls=yes")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ConfigurationError(f"{address}: the options 'tls_cert' and 'tls_key' go together")
