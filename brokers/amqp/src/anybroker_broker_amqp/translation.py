"""What pika and the operating system report, in the words of the contract. The one place where that is translated."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pika import exceptions

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED, INTERNAL_ERROR = 403, 404, 405, 406, 541
"""Reply codes of AMQP 0-9-1."""

TOO_LARGE = "larger than the server takes; raise max_message_size in rabbitmq.conf, and let max_body not exceed it"
_LIMIT = re.compile(r"max size (\d+)")

_DENIED = (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise in the words of the contract, and with its cause, what pika or the system raises inside.

    ``where``: the server, as it may be shown.
    """
    try:
        yield
    except AnybrokerError:
        raise
    except (exceptions.AMQPError, OSError) as error:
        raise meaning(error, where) from error


def refused_with(error: BaseException) -> int:
    """The reply code with which the server has closed a channel or a connection; 0 where it has not."""
    cause = error.__cause__
    if isinstance(cause, exceptions.ChannelClosedByBroker | exceptions.ConnectionClosedByBroker):
        return int(cause.reply_code)
    return 0


def size_limit(error: BaseException) -> int | None:
    """Bytes of the largest message, where the server has refused a larger one."""
    found = _LIMIT.search(str(error)) if isinstance(error, MessageTooLarge) else None
    return int(found[1]) if found else None


def meaning(error: BaseException, where: str) -> AnybrokerError:
    """The contract's error for one of pika or of the system, its cause. No password is in it: theirs have none."""
    code = getattr(error, "reply_code", 0)
    text = f"{where}: {getattr(error, 'reply_text', '') or str(error) or type(error).__name__}"
    translation: AnybrokerError
    if isinstance(error, AnybrokerError):
        return error
    if isinstance(error, _DENIED) or (code == ACCESS_REFUSED and isinstance(error, exceptions.ConnectionClosed)):
        translation = BrokerUnavailable(f"user or password are refused, or the user may not enter: {text}")
    elif isinstance(error, exceptions.ProbableAccessDeniedError):
        translation = BrokerUnavailable(f"the virtual host does not exist, or the user may not enter it: {text}")
    elif code == ACCESS_REFUSED:
        translation = ConfigurationError(
            f"a permission is missing, which rabbitmqctl set_permissions or the management UI gives: {text}"
        )
    elif code == PRECONDITION_FAILED and "inequivalent" in text:
        translation = ConfigurationError(f"declared otherwise before: {text}")
    elif code == PRECONDITION_FAILED and "message size" in text:
        translation = MessageTooLarge(f"{TOO_LARGE}: {text}")
    else:
        translation = BrokerUnavailable(text)
    translation.__cause__ = error
    return translation
