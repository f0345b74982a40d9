"""New versions of a message: every change that an update may make, and those that it must refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from anybroker.errors import ConfigurationError, MessageTooLarge, Unsupported
from anybroker_conformance.broker.consuming import replace

if TYPE_CHECKING:
    from anybroker.broker import Message
    from anybroker.errors import AnybrokerError
    from anybroker_conformance.subject import Subject

LARGEST_TRIED = 64 * 2**20
"""Bytes of a body that a test makes only in order to have it refused."""


def base(subject: Subject, label: str) -> dict[str, Any]:
    """What the old version has, beyond the default, so that a change changes something."""
    fields: dict[str, dict[str, Any]] = {
        "no eta any more": {"eta": datetime(2020, 2, 29, tzinfo=UTC)},
        "no priority any more": {"priority": max(subject.capabilities.priorities or (0, 0), key=abs)},
        "no key any more": {"ordering_key": "old"},
    }
    return fields.get(label, {})


def changes(subject: Subject, queue: str) -> dict[str, dict[str, Any]]:
    """The fields that an update in place may change."""
    past = datetime(2021, 3, 4, 5, 6, 7, 890_123, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    found: dict[str, dict[str, Any]] = {
        "nothing": {},
        "body": {"body": b"new"},
        "no body any more": {"body": b""},
        "a large body": {"body": _large(subject)},
        "an eta that has passed": {"eta": past, "body": b"new"},
        "no eta any more": {"eta": None},
        "an eta that is now": {"eta": subject.now()},
    }
    if subject.capabilities.priorities:
        lowest, highest = subject.capabilities.priorities
        found |= {"lowest": {"priority": lowest}, "highest": {"priority": highest, "body": b"new"}}
        found |= {"no priority any more": {"priority": 0}}
    if subject.capabilities.ordering.keyed:
        found |= {"a key": {"ordering_key": f"{queue}/1"}, "an empty key": {"ordering_key": "", "body": b"new"}}
        found |= {"no key any more": {"ordering_key": None}}
    return found


def moves(subject: Subject, used: str, never_used: str) -> dict[str, dict[str, Any]]:
    """Fields that change with the queue."""
    everything: dict[str, Any] = {"queue": used, "body": b"all", "eta": datetime(1999, 12, 31, tzinfo=UTC)}
    if subject.capabilities.priorities:
        everything["priority"] = subject.capabilities.priorities[1]
    if subject.capabilities.ordering.keyed:
        everything["ordering_key"] = "all"
    return {
        "to a queue never used": {"queue": never_used},
        "once more, with a body": {"queue": never_used, "body": b"new"},
        "to a queue in use": {"queue": used},
        "with a large body": {"queue": never_used, "body": _large(subject)},
        "everything": everything,
    }


def _large(subject: Subject) -> bytes:
    return bytes(range(256)) * (min(2**17, subject.capabilities.max_body) // 256)


def version(message: Message, n: int, moved: str) -> Message:
    """The new version of the n-th message: in place, with an eta that has passed, or in another queue."""
    fields: list[dict[str, Any]] = [{}, {"queue": moved}, {"eta": datetime(2020, 1, 1, tzinfo=UTC)}]
    return replace(message, body=b"new %d" % n, **fields[n % 3])


def refused(subject: Subject) -> list[tuple[str, dict[str, Any], type[AnybrokerError]]]:
    """New versions that cannot be, and by what they are refused."""
    declared = subject.capabilities
    found: list[tuple[str, dict[str, Any], type[AnybrokerError]]] = [
        ("another id", {"id": f"{subject.namespace}.other"}, ConfigurationError),
        ("a queue without a name", {"queue": ""}, ConfigurationError),
        ("a queue name of 81 characters", {"queue": "q" * 81}, ConfigurationError),
        ("an eta without time zone", {"eta": datetime(2030, 1, 1)}, ConfigurationError),  # noqa: DTZ001
    ]
    if declared.max_body <= LARGEST_TRIED:
        found.append(("a body that is too large", {"body": bytes(declared.max_body + 1)}, MessageTooLarge))
    lowest, highest = declared.priorities or (0, 0)
    found.append(("a priority that is too high", {"priority": highest + 1}, Unsupported))
    found.append(("a priority that is too low", {"priority": lowest - 1}, Unsupported))
    if not declared.ordering.keyed:
        found.append(("an ordering key", {"ordering_key": "k"}, Unsupported))
    return found
