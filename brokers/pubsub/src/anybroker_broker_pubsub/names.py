"""What a queue is called in Pub/Sub: its topic and its subscription have the same name.

Pub/Sub takes 3 to 255 letters, digits and ``-_.~+%``, the first one a letter ("Resource names"). A queue whose name
fits is called by it; any other by its SHA-256 behind a ``~``, which no readable name has. The name as it was is then
in the labels.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256

LATER = "~later"
"""Ends the name of the one topic that holds the messages of all queues that are not due."""
_READABLE = re.compile(r"[A-Za-z0-9._-]+")
_LABEL = 63
"""Characters of a label ("Labels": lower case letters, digits, ``-`` and ``_``)."""


class Names:
    """Names of the topics and subscriptions of one project and prefix."""

    def __init__(self, project: str, prefix: str) -> None:
        self._project = project
        self._prefix = prefix
        self.later = prefix + LATER
        """Id of the topic and of the subscription of messages that are not due."""

    def of(self, queue: str) -> str:
        """The id of a queue's topic and subscription."""
        readable = _READABLE.fullmatch(queue)
        return self._prefix + (queue if readable else "~" + sha256(queue.encode("utf-8", "surrogatepass")).hexdigest())

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return f"projects/{self._project}/topics/{name}"

    def subscription(self, name: str) -> str:
        """The full name of a subscription."""
        return f"projects/{self._project}/subscriptions/{name}"

    def labels(self, queue: str) -> dict[str, str]:
        """The labels ``anybroker-queue-0``, ``-1``...: the queue's name in base32, without padding, in pieces.

        None where the topic is called as the queue is.
        """
        if _READABLE.fullmatch(queue):
            return {}
        text = base64.b32encode(queue.encode("utf-8", "surrogatepass")).decode().rstrip("=").lower()
        pieces = [text[start : start + _LABEL] for start in range(0, len(text), _LABEL)]
        return {f"anybroker-queue-{number}": piece for number, piece in enumerate(pieces)}
