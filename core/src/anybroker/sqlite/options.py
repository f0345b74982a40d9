"""What a ``sqlite://`` URL may say, for both the broker and the result backend."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from anybroker.loading import Address

MAX_BODY = 16 * 1024 * 1024
"""Bytes. SQLite itself takes a gigabyte."""
BUSY_TIMEOUT = 10.0
"""Seconds."""
GROUP_TTL = 7 * 86400.0
"""Seconds."""

Synchronous = Literal["full", "normal"]

_MaxBody = Annotated[int, msgspec.Meta(ge=1, le=900_000_000)]


class BrokerOptions(msgspec.Struct, frozen=True):
    """Options of the broker's URL."""

    synchronous: Synchronous = "full"
    busy_timeout: timedelta = timedelta(seconds=BUSY_TIMEOUT)
    max_body: _MaxBody = MAX_BODY


class BackendOptions(msgspec.Struct, frozen=True):
    """Options of the result backend's URL."""

    synchronous: Synchronous = "normal"
    busy_timeout: timedelta = timedelta(seconds=BUSY_TIMEOUT)
    max_body: _MaxBody = MAX_BODY
    group_ttl: timedelta = timedelta(seconds=GROUP_TTL)


def file_path(address: Address) -> str:
    """The path in a ``sqlite://`` URL: three slashes and a relative one, or four and an absolute one.

    Raises ``ConfigurationError`` for another scheme, and where the path is missing or taken for a host.
    """
    if address.scheme != "sqlite":
        raise ConfigurationError(f"this opens sqlite:///path/to/file.db, not {address.scheme}://")
    if address.hosts:
        raise ConfigurationError(
            f"sqlite:// names a file, not a host; write sqlite:///{address.hosts[0][0]}{address.path} (three slashes)"
        )
    if not address.path.strip("/") or address.path.endswith("/"):
        raise ConfigurationError("which file? write sqlite:///anybroker.db, or sqlite:////absolute/path/to/file.db")
    return address.path[1:]
