"""What pymemcache and sockets raise, in the words of the contract. The one place where they are translated."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pymemcache.exceptions import MemcacheError, MemcacheServerError

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker_backend_memcache.urls import Server

_TOO_LARGE = "too large"
"""What memcached says to an item over its limit: ``object too large for cache`` (protocol.txt, *Error strings*)."""


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """Let what is raised inside be an error of the contract, with its cause."""
    try:
        yield
    except (MemcacheError, OSError) as error:
        raise translation(error, server) from error


def translation(error: MemcacheError | OSError, server: Server) -> AnybrokerError:
    """The contract's error for what pymemcache or a socket raised."""
    where = server if isinstance(server, str) else f"{server[0]}:{server[1]}"
    if isinstance(error, OSError):
        return BrokerUnavailable(f"memcached at {where}: {error.strerror or error}")
    reason = error.args[0] if error.args else type(error).__name__
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    if isinstance(error, MemcacheServerError):
        if _TOO_LARGE in text:
            return MessageTooLarge(f"memcached at {where} says {text!r}: start it with a larger item limit, e.g. -I 8m")
        return BrokerUnavailable(f"memcached at {where}: {text or 'the connection was closed'}")
    return ConfigurationError(f"memcached at {where}: {text}")
