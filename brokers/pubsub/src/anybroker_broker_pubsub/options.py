"""What a ``pubsub://`` URL says, and the limits of the service."""

from __future__ import annotations

import os
import re
from datetime import timedelta

import msgspec

from anybroker.errors import ConfigurationError
from anybroker.loading import parse_url, read_options

MIN_ACK_DEADLINE, MAX_ACK_DEADLINE = 10, 600
"""Seconds of a subscription's ack deadline (Subscription.ack_deadline_seconds)."""
MIN_LEASE, MAX_LEASE = 1, 600
"""Seconds of a message's own deadline (ModifyAckDeadlineRequest: 0 to 600, in whole seconds; 0 gives it back)."""
MAX_REQUEST = 10_000_000
"""Bytes of a publish request ("Quotas and limits")."""
MAX_BODY = MAX_REQUEST - 4_000
"""Bytes of a body; the rest is left to what is around it."""
MAX_ATTRIBUTE = 1024
"""Bytes of the value of an attribute ("Quotas and limits")."""
PUBLISH_BATCH = 1000
"""Messages of a publish request ("Quotas and limits")."""
PULL_BATCH = 1000
"""Messages of a pull; the service gives no more."""
MIN_RETENTION, MAX_RETENTION = timedelta(minutes=10), timedelta(days=31)
"""How long a subscription keeps a message that nobody acknowledges (Subscription.message_retention_duration)."""
DEFAULT_RETENTION = timedelta(days=7)
"""Of a subscription that was made without saying (Subscription.message_retention_duration)."""
PULL_WAIT = 60.0
"""Seconds for the answer to a pull, as in Google's clients: more than the service takes to say that nothing is there.

A pull that ends before that may be the one that a message has just been handed out to.
"""
MAX_PULL_WAIT = 600.0
EMULATED_RETENTION = timedelta(days=7)
"""The longest that the emulator takes."""

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9._-]{2,99}")
_PROJECT = re.compile(r"[a-z0-9.:-]+")
_PUBLIC = "pubsub.googleapis.com:443"


class Options(msgspec.Struct, frozen=True):
    """Options of a ``pubsub://`` URL."""

    endpoint: str | None = None
    """``host:port`` of an emulator, or a regional endpoint such as ``europe-west1-pubsub.googleapis.com:443``."""
    prefix: str = "anybroker-"
    """Begins the name of every topic and subscription, and separates applications that share a project."""
    create: bool = True
    """Whether topics and subscriptions are created when they are first used. No: they must be there."""
    exactly_once: bool = False
    """Subscriptions with exactly-once delivery: acks and leases are certain, at the cost of speed."""
    ordering: bool = False
    """Subscriptions with message ordering: of the messages with one ordering key one at a time, in order."""
    ack_deadline: timedelta = timedelta(seconds=30)
    """Of subscriptions that are created, 10 s to 600 s. A lease of just this length costs no call of its own."""
    retention: timedelta | None = None
    """How long created subscriptions keep a message that nobody takes, 10 minutes to 31 days; as long as they can."""
    wait: timedelta | None = None
    """Seconds of a pull of an idle consumer, up to 10 minutes: 60; on an emulator as long as a worker asks for."""


class Settings(msgspec.Struct, frozen=True):
    """A URL, read."""

    project: str
    options: Options
    endpoint: str
    """``host:port``"""

    @property
    def emulated(self) -> bool:
        """Whether the endpoint is not Google's: then the connection is neither encrypted nor authenticated."""
        return not self.endpoint.partition(":")[0].endswith(".googleapis.com")

    @property
    def retention(self) -> timedelta:
        """How long subscriptions keep a message."""
        return self.options.retention or (EMULATED_RETENTION if self.emulated else MAX_RETENTION)

    @property
    def pull_wait(self) -> float:
        """Seconds of a pull at least; 0: as long as an ``acquire`` waits.

        The emulator answers in time, and does not notice that a client has gone: a long pull would outlive its process.
        """
        if self.options.wait is not None:
            return self.options.wait.total_seconds()
        return 0.0 if self.emulated else PULL_WAIT

    @property
    def shown(self) -> str:
        """What error messages call the service."""
        return f"Pub/Sub at {self.endpoint}"


def read_settings(url: str) -> Settings:
    """Read ``pubsub://project/?option=value``. Raises ``ConfigurationError``."""
    address = parse_url(url)
    project, port = address.hosts[0] if len(address.hosts) == 1 else ("", None)
    if port is not None:
        raise ConfigurationError(
            f"{address}: what stands behind pubsub:// is a project; an emulator is pubsub://project/?endpoint=host:port"
        )
    if not _PROJECT.fullmatch(project) or address.path.strip("/"):
        raise ConfigurationError(f"{address} names no project; write pubsub://my-project/")
    if address.user is not None or address.password is not None:
        raise ConfigurationError(
            f"{address}: credentials are found as all of Google's clients find them "
            "(GOOGLE_APPLICATION_CREDENTIALS, gcloud, the metadata server), and not written into the URL"
        )
    options = read_options(address, Options)
    if not _PREFIX.fullmatch(options.prefix) or options.prefix.lower().startswith("goog"):
        raise ConfigurationError(
            f"{address}: prefix is 3 to 100 letters, digits, '-', '_' and '.', begins with a letter, and not with goog"
        )
    if not MIN_ACK_DEADLINE <= options.ack_deadline.total_seconds() <= MAX_ACK_DEADLINE:
        raise ConfigurationError(f"{address}: ack_deadline is 10 s to 600 s")
    if options.retention is not None and not MIN_RETENTION <= options.retention <= MAX_RETENTION:
        raise ConfigurationError(f"{address}: retention is 10 minutes to 31 days")
    if options.wait is not None and not 0 <= options.wait.total_seconds() <= MAX_PULL_WAIT:
        raise ConfigurationError(f"{address}: wait is at most 10 minutes")
    return Settings(project, options, _endpoint(options.endpoint, str(address)))


def _endpoint(text: str | None, shown: str) -> str:
    """The endpoint of the URL, else that which Google's clients use."""
    text = text or os.environ.get("PUBSUB_EMULATOR_HOST") or _PUBLIC
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or "/" in text or "@" in text:
        raise ConfigurationError(f"{shown}: an endpoint is written host:port")
    return text
