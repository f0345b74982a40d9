"""What the queues and exchanges of RabbitMQ are called."""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote, unquote

from anybroker.errors import ConfigurationError

_LONGEST = 150
"""Bytes of a name: of the 255 that AMQP allows, a routing key of :mod:`.delays` takes 52 and a prefix up to 60."""
_READABLE = 96
"""Of them, before a hash: a level of priority follows."""
_SAFE = "-_"


def word(name: str) -> str:
    """A text as one word of ASCII: letters, digits, ``-`` and ``_`` as they are, the rest percent-encoded.

    What would become too long is cut, and told apart by a hash. A dot is encoded too: exchanges take it to end a word.
    Raises ``ConfigurationError`` for what is not valid Unicode.
    """
    try:
        text = quote(name, safe=_SAFE).replace(".", "%2E").replace("~", "%7E")
    except UnicodeEncodeError:
        raise ConfigurationError(f"names and ids are valid Unicode, and {name!r} is not") from None
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_READABLE]}~x{sha256(name.encode()).hexdigest()[:40]}"  # x: it is no level of priority


def queue_name(prefix: str, queue: str, level: int = 0) -> str:
    """The queue of RabbitMQ that holds the messages of ``queue`` with the priority ``level``."""
    return f"{prefix}{word(queue)}{f'~{level}' if level else ''}"


def original(prefix: str, name: str) -> str | None:
    """The queue whose messages a queue of RabbitMQ holds; None for one that holds none, or whose name was cut."""
    text = name.removeprefix(prefix)
    if not name.startswith(prefix) or "." in text:  # somebody else's, or one of delays and results
        return None
    encoded, _, level = text.partition("~")
    return None if level and not level.isdecimal() else unquote(encoded)
