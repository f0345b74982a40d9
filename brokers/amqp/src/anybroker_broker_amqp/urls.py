"""URLs and their options: ``amqp://user:password@host:5672,other:5672/vhost?option=value``."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from pika import ConnectionParameters, PlainCredentials, SSLOptions

from anybroker.errors import ConfigurationError
from anybroker.loading import is_host_name, parse_url

if TYPE_CHECKING:
    from anybroker.loading import Address

PORTS = {"amqp": 5672, "amqps": 5671}
MAX_BODY = 16 * 1024 * 1024
"""Bytes: what RabbitMQ 4 takes unless it is configured otherwise (``max_message_size``); older versions take more."""

_EARLIER, _EARLIER_AT_MOST = 0.02, 10.0
"""Share of the server's ``consumer_timeout``, and seconds, by which a lease is shorter."""

_LONGEST_PREFIX = 60
_SHORTEST = timedelta(seconds=1)
_DURATIONS = {
    "timeout": (timedelta(days=1), "how long a call waits for the server, 10s if not given"),
    "consumer_timeout": (timedelta(days=3650), "give what the server has (30m unless configured), or leave it out"),
    "group_ttl": (timedelta(days=3650), "how long a group is remembered, 7d if not given"),
}
"""Option -> the longest that it may be, and what to give."""

QueueType = Literal["quorum", "classic"]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What may be in the query of a URL. Broker and result backend take the same, so that one URL is for both."""

    prefix: Annotated[str, msgspec.Meta(min_length=1, max_length=_LONGEST_PREFIX, pattern=r"^(?!amq\.)[\w.-]+\Z")] = (
        "anybroker."
    )
    """Begins the name of every queue and exchange."""
    heartbeat: Annotated[int, msgspec.Meta(ge=1, le=600)] = 10
    """Seconds of silence after which either side sends a sign of life; after two, a connection counts as dead."""
    timeout: timedelta = timedelta(seconds=10)
    """How long a call waits for the server before it raises ``BrokerUnavailable``."""
    max_body: Positive = MAX_BODY
    """Bytes. The server has a limit of its own, ``max_message_size``."""
    ca: str | None = None
    """File of the authority that the server's certificate is checked against; the system's own if not given."""
    certificate: str | None = None
    """File of the client's certificate."""
    key: str | None = None
    """File of the client certificate's key, where it is not in the same file."""
    server_name: str | None = None
    """The name in the server's certificate (and in SNI), where it is not the host of the URL."""

    # of the broker

    type: QueueType = "quorum"
    """Of the queues that are declared for tasks."""
    passive: bool = False
    """Declare nothing: every queue must exist. For users without the permission to configure."""
    priorities: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Highest priority; each level is a queue of its own. 0: none."""
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 5_000
    """Most messages that one ``acquire`` takes at once."""
    consumer_timeout: timedelta = timedelta(minutes=30)
    """The server's ``consumer_timeout``: what is held for nearly as long is given back."""

    management: str | None = None
    """``http://host:15672``, RabbitMQ's management API: for what AMQP does not tell of queues."""

    # of the result backend

    group_ttl: timedelta = timedelta(days=7)
    """How long a group is remembered of which nothing is heard."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for what nothing would work with: a name of AMQP has 255 bytes."""
        if len(self.prefix.encode()) > _LONGEST_PREFIX:
            raise ValueError(f"the option 'prefix' has at most {_LONGEST_PREFIX} bytes in UTF-8")
        for name, (longest, advice) in _DURATIONS.items():
            if not _SHORTEST <= getattr(self, name) <= longest:
                raise ValueError(f"the option '{name}' is from 1s to {longest.days}d: {advice}")

    @property
    def longest_lease(self) -> float:
        """Seconds. The server counts from when it sends a message, which is before it comes: leases end earlier."""
        timeout = self.consumer_timeout.total_seconds()
        return timeout - min(timeout * _EARLIER, _EARLIER_AT_MOST)


def split(url: str) -> Address:
    """Take a URL apart. Raises ``ConfigurationError`` if it is none of an AMQP server."""
    address = parse_url(url)
    if address.scheme not in PORTS:
        raise ConfigurationError(f"this opens amqp:// and amqps://, not {address.scheme}://")
    return address


def targets(address: Address, options: Options) -> list[ConnectionParameters]:
    """How to connect to each of the hosts, in the order in which to try them. Raises ``ConfigurationError``."""
    encryption = _encryption(options) if address.scheme == "amqps" else None
    if encryption is None and (options.ca or options.certificate or options.key or options.server_name):
        raise ConfigurationError(f"{address}: ca, certificate, key and server_name are for amqps://")
    if options.server_name:
        check_host(options.server_name, address)
    return [
        ConnectionParameters(
            host=host or "localhost",
            port=port or PORTS[address.scheme],
            virtual_host=address.path[1:] or "/",
            credentials=PlainCredentials(address.user or "guest", address.password or "guest"),
            heartbeat=options.heartbeat,
            ssl_options=SSLOptions(encryption, options.server_name or host or "localhost") if encryption else None,
            client_properties={"product": "anybroker", "information": ""},
        )
        for host, port in address.hosts or (("localhost", None),)
    ]


def check_host(name: str, address: Address) -> None:
    """Raise ``ConfigurationError`` for what cannot be the name of a host, in an option."""
    if not is_host_name(name):
        raise ConfigurationError(
            f"{address}: {name!r} is no name of a host: between its dots are 1 to 63 letters, digits and hyphens"
        )


def _encryption(options: Options) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca={options.ca}, certificate={options.certificate}: {error}") from error
    return context
