"""What the server's persistence keeps, as far as it may be asked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from anybroker.capabilities import Durability
from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from anybroker_broker_redis.link import Link

_log = logging.getLogger("anybroker.redis")

ASK_AGAIN = 1.0
"""Seconds for which a server that did not answer is left alone."""
_BY_FSYNC = {"always": Durability.POWER_CUT, "no": Durability.SERVER}
"""With ``always`` what was acknowledged is on the disk, with ``no`` it is the operating system's. With ``everysec`` it
may be neither: while an fsync is under way, the server keeps what it has acknowledged to itself, for up to two seconds
(``flushAppendOnlyFile`` in its aof.c), and a SIGKILL then loses it."""
_KEEPS_ALL = "noeviction"


def ask(link: Link) -> Durability:
    """The durability of what this server has acknowledged. Raises ``BrokerUnavailable``.

    Snapshots alone lose what came after the last one, and so do not count. A server that refuses to tell, as most
    hosted ones do, is taken to keep nothing, and so is one that makes room by throwing away what it has.
    """
    try:
        found = _pairs(link.send("CONFIG", "GET", "append*")) | _pairs(link.send("CONFIG", "GET", "maxmemory*"))
    except ConfigurationError:
        return Durability.PROCESS
    policy = found.get("maxmemory-policy", _KEEPS_ALL)
    if found.get("maxmemory", "0") != "0" and policy != _KEEPS_ALL:
        _log.warning(
            "%s: with maxmemory-policy %s this server throws away what it has when its memory is used up; set %s",
            *(link.address, policy, _KEEPS_ALL),
        )
        return Durability.PROCESS
    if found.get("appendonly") != "yes":
        return Durability.PROCESS
    return _BY_FSYNC.get(found.get("appendfsync", ""), Durability.PROCESS)


def _pairs(answer: Any) -> dict[str, str]:
    """The answer as a mapping, which it is in RESP3 alone."""
    if not isinstance(answer, dict):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    return {name.decode(): value.decode() for name, value in answer.items()}
