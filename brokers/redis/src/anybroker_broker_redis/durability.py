"""What the server's persistence keeps, as far as it may be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anybroker.capabilities import Durability
from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from anybroker_broker_redis.link import Link

_BY_FSYNC = {"always": Durability.POWER_CUT, "everysec": Durability.SERVER, "no": Durability.SERVER}
"""https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/: what was written is the operating
system's before a reply is sent, and the disk's by then with ``always``."""


def ask(link: Link) -> Durability:
    """The durability of what this server has acknowledged. Raises ``BrokerUnavailable``.

    Snapshots alone lose what came after the last one, and so do not count. Where the server refuses to tell, it is
    taken to keep nothing.
    """
    try:
        found = _pairs(link.send("CONFIG", "GET", "append*"))
        if found.get("appendonly") == "yes":
            return _BY_FSYNC.get(found.get("appendfsync", ""), Durability.SERVER)
    except ConfigurationError:  # not permitted, as with most hosted servers
        try:
            if b"aof_enabled:1" in link.send("INFO", "persistence"):
                return Durability.SERVER
        except ConfigurationError:
            pass
    return Durability.PROCESS


def _pairs(answer: Any) -> dict[str, str]:
    """The answer as a mapping, which it is in RESP3 alone."""
    if not isinstance(answer, dict):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    return {name.decode(): value.decode() for name, value in answer.items()}
