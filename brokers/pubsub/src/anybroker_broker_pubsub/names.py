"""What a queue is called in Pub/Sub: its topic and its subscription have the same name.

Pub/Sub takes 3 to 255 letters, digits and ``-_.~+%``, the first one a letter ("Resource names"). A queue whose name
fits is called by it; any other by its SHA-256 behind a ``~``, which no readable name has. The name as it was is then
in the labels.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LATER = "~later"
"""Ends the name of the one topic that holds the messages of all queues that are not due."""
_READABLE = re.compile(r"[A-Za-z0-9._-]+")
_LABELS = "anybroker-queue-"
_LABEL = 63
"""Characters of a label ("Labels": lower case letters, digits, ``-`` and ``_``)."""


class Names:
    """Names of the topics and subscriptions of one project and prefix."""

    def __init__(self, project: str, prefix: str) -> None:
        self.project = f"projects/{project}"
        """Full name."""
        self._prefix = prefix
        self.later = prefix + LATER
        """Id of the topic and of the subscription of messages that are not due."""

    def of(self, queue: str) -> str:
        """The id of a queue's topic and subscription."""
        readable = _READABLE.fullmatch(queue)
        return self._prefix + (queue if readable else "~" + sha256(queue.encode("utf-8", "surrogatepass")).hexdigest())

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return f"{self.project}/topics/{name}"

    def subscription(self, name: str) -> str:
        """The full name of a subscription."""
        return f"{self.project}/subscriptions/{name}"

    def labels(self, queue: str) -> dict[str, str]:
        """The labels ``anybroker-queue-0``, ``-1``...: the queue's name in base32, without padding, in pieces.

        None where the topic is called as the queue is.
        """
        if _READABLE.fullmatch(queue):
            return {}
        text = base64.b32encode(queue.encode("utf-8", "surrogatepass")).decode().rstrip("=").lower()
        pieces = [text[start : start + _LABEL] for start in range(0, len(text), _LABEL)]
        return {f"{_LABELS}{number}": piece for number, piece in enumerate(pieces)}

    def original(self, topic: str, labels: Mapping[str, str]) -> str | None:
        """The queue of a topic, by its full name and its labels; None for one that is no queue of ours."""
        name = topic.rpartition("/")[2]
        queue = name.removeprefix(self._prefix)
        if not name.startswith(self._prefix) or name == self.later:
            return None
        if not queue.startswith("~"):
            return queue
        text = "".join(labels.get(f"{_LABELS}{number}", "") for number in range(len(labels))).upper()
        try:
            return base64.b32decode(text + "=" * (-len(text) % 8)).decode("utf-8", "surrogatepass") or None
        except ValueError:  # somebody else's labels
            return None
