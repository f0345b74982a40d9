"""The exceptions of redis-py and the refusals of the server, translated: the one place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from redis import exceptions

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.loading import Address

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
    exceptions.AskError,
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


_ARGUMENTS = ", with args beginning with"
"""What a server repeats behind this of a command that it does not know may be a password, or half of one."""


def translated(error: BaseException, address: Address) -> AnybrokerError:
    """What to raise instead. Neither it nor ``error``, which is its cause, shows a password afterwards."""
    _mask(error, address.secrets())
    said = f"{address}: {str(error).strip() or type(error).__name__}"
    if isinstance(error, _REFUSED) or isinstance(error.__cause__, _REFUSED):  # by all nodes of a cluster
        return ConfigurationError(f"{said} (user and password are those of the URL)")
    if isinstance(error, _FOR_NOW_TYPES) or _FOR_NOW.search(str(error)):
        return BrokerUnavailable(said)
    return ConfigurationError(f"{said} (Redis 6.2 or later is needed, and keys that nobody else writes to)")


def not_unicode(error: UnicodeEncodeError) -> ConfigurationError:
    """What to raise for a name with a lone surrogate, which UTF-8 cannot carry."""
    return ConfigurationError(f"ids, queues and keys are valid Unicode, and {error.object!r} is not")


def _mask(error: BaseException, secrets: Sequence[str]) -> None:
    """Take the secrets out of what an error says, and of what it came from: a log shows them all."""
    link: BaseException | None = error
    while link is not None:
        said = str(link)
        text = said.partition(_ARGUMENTS)[0]
        for secret in secrets:
            text = text.replace(secret, "***")
        if text != said:
            link.args = (text,)
        link = link.__cause__ or link.__context__
