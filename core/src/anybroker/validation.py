"""What every adapter checks before it stores anything, so that a mistake costs nothing and is never half-stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.broker import MAX_QUEUE_NAME
from anybroker.errors import ConfigurationError, MessageTooLarge, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker.backend import Result
    from anybroker.broker import Delivery, Message
    from anybroker.capabilities import BackendCapabilities, Capabilities


def check_messages(messages: Iterable[Message], capabilities: Capabilities) -> None:
    """Check messages against what a broker declares; call it first in ``enqueue``.

    Raises ``MessageTooLarge`` for a body over ``max_body`` (law 2), ``Unsupported`` for a priority or an ordering key
    that the broker does not declare (law 15), ``ConfigurationError`` for a queue name of no or too many characters
    (law 9) and for an ``eta`` without time zone.
    """
    max_body = capabilities.max_body
    lowest, highest = capabilities.priorities or (0, 0)
    keyed = capabilities.ordering.keyed
    checked = None
    for message in messages:
        if len(message.body) > max_body:
            raise MessageTooLarge(
                f"message {message.id!r}: {len(message.body):,} bytes, and this broker takes at most {max_body:,}"
            )
        if message.queue != checked:
            checked = check_queue_name(message.queue)
        if not lowest <= message.priority <= highest:
            raise Unsupported(
                f"message {message.id!r}: priority {message.priority}, and this broker takes {lowest} to {highest}"
            )
        if message.ordering_key is not None and not keyed:
            raise Unsupported(
                f"message {message.id!r}: this broker keeps no order per key, so it takes no ordering_key"
            )
        if message.eta is not None and message.eta.utcoffset() is None:
            raise ConfigurationError(
                f"message {message.id!r}: eta {message.eta.isoformat()} has no time zone; use an aware datetime"
            )


def check_changes(changes: Iterable[tuple[Delivery, Message]], capabilities: Capabilities) -> None:
    """Check the new versions of an ``update``, as :func:`check_messages` does.

    Raises ``ConfigurationError`` also for one with another id: ``update`` keeps the id.
    """
    pairs = list(changes)
    check_messages([message for _, message in pairs], capabilities)
    for delivery, message in pairs:
        if message.id != delivery.message.id:
            raise ConfigurationError(f"update keeps the id: {delivery.message.id!r} cannot become {message.id!r}")


def check_results(results: Iterable[Result], capabilities: BackendCapabilities) -> None:
    """Check results against what a backend declares; call it first in ``store``.

    Raises ``MessageTooLarge`` for a body over ``max_body`` (law 2).
    """
    max_body = capabilities.max_body
    for result in results:
        if len(result.body) > max_body:
            raise MessageTooLarge(
                f"result {result.id!r}: {len(result.body):,} bytes, and this backend takes at most {max_body:,}"
            )


def check_queue_name(name: str) -> str:
    """Return a queue name as it is, or raise ``ConfigurationError`` if it is no text, empty or too long (law 9)."""
    given: object = name  # for those who do not run a type checker
    if not isinstance(given, str):
        raise ConfigurationError(f"a queue's name is a text, and {given!r} is none")
    if not 0 < len(name) <= MAX_QUEUE_NAME:
        raise ConfigurationError(f"a queue name has 1 to {MAX_QUEUE_NAME} characters, and {name!r} has {len(name)}")
    return name
