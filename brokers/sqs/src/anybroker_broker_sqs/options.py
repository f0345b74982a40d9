"""What a URL says: region, account, credentials if they must be, and the typed options."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

from anybroker.errors import ConfigurationError
from anybroker.loading import parse_url, read_options

KIB = 1024
FIFO_SUFFIX = ".fifo"
MAX_NAME = 80
"""Characters of the name of a queue, the suffix ``.fifo`` included (Amazon SQS, "Quotas")."""
MAX_WAIT = 20
"""Seconds of the longest poll (ReceiveMessage, WaitTimeSeconds)."""
MAX_LEASE = 43_200
"""Seconds after which a message that was received is visible again whatever is done (ChangeMessageVisibility)."""
MAX_DELAY = 900
"""Seconds for which a message of a standard queue can be delayed (SendMessage, DelaySeconds)."""
BATCH = 10
"""Entries of one call (SendMessageBatch, DeleteMessageBatch, ChangeMessageVisibilityBatch, ReceiveMessage)."""

_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,40}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"(?![0-9]+$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""As botocore checks it, too: the region is part of a host name."""


class Options(msgspec.Struct, frozen=True):
    """Options of an ``sqs://`` URL."""

    endpoint: str | None = None
    """Another server than Amazon's, or a VPC endpoint: ``http://localhost:9324``."""
    prefix: str = ""
    """Begins the name of every queue, and separates applications that share an account."""
    create: bool = True
    """Whether queues are created when they are first used. No: they must be there, and nobody needs the permission."""
    fifo: bool = False
    """FIFO queues: an order for each ordering key."""
    visibility: timedelta = timedelta(seconds=30)
    """Visibility timeout of queues that are created; of other consumers, since a lease is always asked for."""
    wait: Annotated[int, msgspec.Meta(ge=1, le=MAX_WAIT)] = MAX_WAIT
    """Seconds of the longest poll of an idle consumer."""
    message_size: Annotated[int, msgspec.Meta(ge=32 * KIB, le=1024 * KIB)] = 256 * KIB
    """Bytes of the largest message that the queues take; 1048576 where all of them allow it."""
    calls: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """Calls in flight at most for one ``enqueue``, ``acquire``, ``ack``..."""
    kms_key: str | None = None
    """KMS key id, ARN or alias by which created queues are encrypted; else by SQS's own key."""
    tags: str = ""
    """Tags of created queues: ``team:mail,env:prod``."""
    profile: str | None = None
    """Profile of the AWS configuration files; else what boto3 finds."""


class Settings(msgspec.Struct, frozen=True):
    """A URL, read."""

    region: str
    account: str | None
    """12 digits; None: whoever the credentials belong to, and queue URLs are looked up."""
    credentials: tuple[str, str] | None
    """Access key id and secret of the URL; None: found by boto3's own chain."""
    options: Options
    tags: dict[str, str]
    endpoint: str | None

    def __repr__(self) -> str:
        """Show the settings without the credentials."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """List the same, for tools that print structures."""
        return [(name, getattr(self, name)) for name in ("region", "account", "options")]

    @property
    def shown(self) -> str:
        """What error messages call the service."""
        return self.endpoint or f"SQS in {self.region}"


def read_settings(url: str) -> Settings:
    """Read ``sqs://[key:secret@]region[/account]/?option=value``. Raises ``ConfigurationError``."""
    address = parse_url(url)
    region, port = address.hosts[0] if len(address.hosts) == 1 else ("", None)
    if port is not None or not _REGION.fullmatch(region):
        raise ConfigurationError(
            f"{address} names no region; write sqs://eu-west-1/, and for another server than Amazon's "
            "sqs://eu-west-1/?endpoint=http://localhost:9324"
        )
    account = address.path.strip("/")
    if account and not _ACCOUNT.fullmatch(account):
        raise ConfigurationError(f"{address}: what stands behind the region is an account, of 12 digits")
    if (address.user is None) != (address.password is None):
        raise ConfigurationError(f"{address}: before the @ stand an access key id, a colon and a secret")
    options = read_options(address, Options)
    if not _PREFIX.fullmatch(options.prefix):
        raise ConfigurationError(f"{address}: prefix takes up to 40 letters, digits, - and _")
    if not 0 <= options.visibility.total_seconds() <= MAX_LEASE:
        raise ConfigurationError(f"{address}: visibility is at most 12 h")
    return Settings(
        region=region,
        account=account or None,
        credentials=(address.user, address.password or "") if address.user is not None else None,
        options=options,
        tags=_tags(options.tags, str(address)),
        endpoint=_endpoint(options.endpoint, str(address)),
    )


def _endpoint(text: str | None, shown: str) -> str | None:
    if text is None:
        return None
    host = _host(text)
    if host is None:
        raise ConfigurationError(f"{shown}: an endpoint is written http://host:port or https://host")
    if not (is_valid_endpoint_url(text) or is_valid_ipv6_endpoint_url(text)):
        raise ConfigurationError(
            f"{shown}: boto3 takes no endpoint with the host {host!a}, only letters, digits, hyphens and "
            "dots, and IP addresses; a container whose name has an underscore can be given an alias in its network"
        )
    return text.rstrip("/")


def _host(endpoint: str) -> str | None:
    """The host of an endpoint; None if it is not written as one."""
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:  # half an IPv6 address, or a port above 65535
        return None
    return parts.hostname if parts.scheme in {"http", "https"} and port != 0 and "@" not in parts.netloc else None


def _tags(text: str, shown: str) -> dict[str, str]:
    tags = {}
    for pair in filter(None, text.split(",")):
        name, colon, value = pair.partition(":")
        if not name or not colon:
            raise ConfigurationError(f"{shown}: tags are written name:value,name:value")
        tags[name] = value
    return tags
