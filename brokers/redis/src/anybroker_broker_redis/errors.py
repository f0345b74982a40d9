"""The exceptions of redis-py and the refusals of the server, translated: the one place."""

from __future__ import annotations

import re

from redis import exceptions

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError

_FOR_NOW = re.compile(
    r"\b(OOM|READONLY|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|NOREPLICAS|MISCONF|UNBLOCKED|NOSCRIPT)\b"
    r"|max number of clients|not enough good replicas|maxmemory"
)
"""Errors of the server that pass; https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors."""
_FOR_NOW_TYPES = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.TryAgainError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    OSError,
)
_REFUSED = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)

FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""What redis-py raises."""


def translated(error: BaseException, where: str) -> AnybrokerError:
    """What to raise instead; ``where`` is the server, without credentials."""
    said = f"{where}: {str(error).strip() or type(error).__name__}"
    if isinstance(error, _REFUSED):
        return ConfigurationError(f"{said} (user and password are those of the URL)")
    if isinstance(error, _FOR_NOW_TYPES) or _FOR_NOW.search(str(error)):
        return BrokerUnavailable(said)
    return ConfigurationError(f"{said} (Redis 6.2 or later is needed, and keys that nobody else writes to)")
