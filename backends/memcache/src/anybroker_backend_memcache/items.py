"""What is stored under which key, and for how long."""

from __future__ import annotations

import math
import re
import time
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from anybroker.backend import Result, State
from anybroker.errors import ConfigurationError, DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEY = 250
"""Bytes of a key, which has neither blanks nor control characters (memcached, protocol.txt)."""
_plain = re.compile(r"[!$&-~]*", re.ASCII).fullmatch
"""A name that is a part of its key as it is, as most are: printable, without blanks, %, which quotes, and #."""
_SAFE = "!$&'()*+,-./:;<=>?@[]^_`{|}~"
"""What stays as it is in the others, beside letters and digits."""
_MEMBER = 16
"""Bytes that stand for a member of a group; two of a group are never the same by chance."""
_SEALED = b"sealed"
_SLACK = 2
"""Seconds by which the clock of memcached may be behind."""
_LONGEST_RELATIVE = 30 * 86400
"""Seconds: a longer time is given as a moment, in seconds since 1970 (protocol.txt, *Expiration times*)."""
_LAST_MOMENT = 2**31 - 1
"""Since 1970; what is to be kept beyond is kept for ever."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, int, bytes]).decode


def key(prefix: str, kind: str, name: str) -> str:
    """The key of a result, group or lock: readable where it fits, else a digest. No two names have the same key."""
    try:
        readable = f"{prefix}{kind}:{name if _plain(name) else quote(name, safe=_SAFE)}"
        if len(readable) <= MAX_KEY:
            return readable
        return f"{prefix}{kind}#{blake2b(name.encode(), digest_size=32).hexdigest()}"
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"ids and keys are valid Unicode, and {name!r} is not") from error


def expiry(ttl: float | None) -> int:
    """A ttl in seconds as memcached takes it.

    Its clock counts whole seconds, by a timer that may come late and then skips one: what is to live for n seconds may
    be gone after n - 2. So two are added, and a result lives for at least its ttl, and at most three seconds longer.
    """
    if ttl is None:
        return 0
    moment = time.time() + ttl + _SLACK
    if moment > _LAST_MOMENT:
        return 0
    seconds = math.ceil(ttl) + _SLACK
    return max(1, seconds) if seconds <= _LONGEST_RELATIVE else math.ceil(moment)


def to_item(result: Result) -> bytes:
    """A result as it is stored: its state, attempt and body, as MessagePack."""
    return _encode((result.state.value, result.attempt, result.body))


def to_result(id_: str, item: bytes) -> Result:
    """A result from what was stored. Raises ``DecodeError`` for what something else has stored."""
    try:
        state, attempt, body = _decode(item)
        return Result(id_, State(state), attempt, body)
    except (msgspec.DecodeError, ValueError) as error:
        raise DecodeError(f"under the key of the result {id_!r} there is something else: {error}") from error


def member(id_: str) -> bytes:
    """What stands for a member in the item of its group, to which it is appended."""
    try:
        return blake2b(id_.encode(), digest_size=_MEMBER).digest()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"ids are valid Unicode, and {id_!r} is not") from error


def sealed() -> bytes:
    """The item of a group whose callback has been enqueued."""
    return _SEALED


def is_sealed(group: bytes) -> bool:
    """Whether it is that; members may have been appended since. No group begins so by chance: see ``opened``."""
    return group.startswith(_SEALED)


def opened(first: bytes) -> bytes:
    """The item of a new group, with its first member."""
    return b"opened" + first


def members(group: bytes) -> set[bytes]:
    """Those that have finished, each once, however often it was appended."""
    return set(_parts(group[len(_SEALED) :]))


def _parts(text: bytes) -> Iterator[bytes]:
    return (text[start : start + _MEMBER] for start in range(0, len(text), _MEMBER))
