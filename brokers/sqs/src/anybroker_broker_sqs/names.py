"""Names of queues: any text of 1 to 80 characters, as one of SQS, and back.

SQS takes letters, digits, ``-`` and ``_``. A name of these is kept, behind the prefix, so that the console shows what
the application says. Any other one becomes what is readable of it and a digest of the whole; its original is a tag of
the queue. A name that itself looks like one with a digest gets one, too, so no two names ever meet.
"""

from __future__ import annotations

import base64
import hashlib
import re

from anybroker.errors import ConfigurationError
from anybroker_broker_sqs.options import FIFO_SUFFIX, MAX_NAME

TAG = "anybroker-queue"
"""Holds the original name of a queue, base64url in UTF-8; what does not fit goes on in :data:`MORE`."""
MORE = "anybroker-queue-2"
_TAG_VALUE = 256
"""Characters of a tag's value (Amazon SQS, "Queue tags")."""
PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_DIGESTED = re.compile(r".*--[a-z2-7]{26}")
_UNREADABLE = re.compile(r"[^A-Za-z0-9]+")
_DIGEST = 26
"""Characters of a digest in base32: 130 bits."""


def queue_name(name: str, *, prefix: str, fifo: bool) -> str:
    """The name of the SQS queue for a queue. Raises ``ConfigurationError`` for one that is not valid Unicode."""
    suffix = FIFO_SUFFIX if fifo else ""
    room = MAX_NAME - len(prefix) - len(suffix)
    if len(name) <= room and PLAIN.fullmatch(name) and not _DIGESTED.fullmatch(name):
        return f"{prefix}{name}{suffix}"
    digest = base64.b32encode(hashlib.sha256(utf8(name)).digest()).decode()[:_DIGEST].lower()
    readable = _UNREADABLE.sub("-", name).strip("-")[: room - _DIGEST - 2]
    return f"{prefix}{readable}--{digest}{suffix}"


def original(sqs_name: str, *, prefix: str, fifo: bool) -> str | None:
    """The name of a queue by that of its SQS queue; None where only its tags know, or it is no queue of ours."""
    if not sqs_name.startswith(prefix) or sqs_name.endswith(FIFO_SUFFIX) != fifo:
        return None
    name = sqs_name[len(prefix) :].removesuffix(FIFO_SUFFIX)
    return None if not name or _DIGESTED.fullmatch(name) else name


def to_tags(name: str) -> dict[str, str]:
    """The tags that keep the name of a queue."""
    encoded = base64.urlsafe_b64encode(utf8(name)).decode()
    tags = {TAG: encoded[:_TAG_VALUE]}
    return tags | {MORE: encoded[_TAG_VALUE:]} if len(encoded) > _TAG_VALUE else tags


def from_tags(tags: dict[str, str]) -> str | None:
    """The name that tags keep; None if they keep none."""
    encoded = tags.get(TAG, "") + tags.get(MORE, "")
    try:
        return base64.urlsafe_b64decode(encoded).decode() or None
    except ValueError:  # somebody else's tag
        return None


def utf8(text: str) -> bytes:
    """An id, a key or the name of a queue in UTF-8. Raises ``ConfigurationError`` for one with a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"ids, queues and keys are valid Unicode, and {text!a:.100} is not") from None
