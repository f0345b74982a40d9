"""What pymongo raises, in the words of the contract. The one place where its exceptions are translated."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bson.errors import BSONError
from pymongo import errors

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, MessageTooLarge
from anybroker.loading import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.loading import Address

DUPLICATE_KEY = 11000
NOT_IMPLEMENTED = 238

_TOO_LARGE = frozenset({10334, 17280, 17419, 17420})
"""BSONObjectTooLarge, an index key too long, documents that would grow over 16 MB."""
_AUTHENTICATION_FAILED = 18
_LACKS = "the server lacks a command that is needed; MongoDB 5.0 and later has all of them"
_CONFIGURATION = {
    13: "the user may not do this; it needs the role readWrite on the database",
    _AUTHENTICATION_FAILED: "user or password are wrong, or authSource is missing",
    85: "an index of the same name has another form; was the collection made by something else?",
    40573: "a server alone has no change streams, a replica set has them; leave out wake=stream",
    86: "an index of the same name has another form; was the collection made by something else?",
    59: _LACKS,
    115: _LACKS,
    NOT_IMPLEMENTED: _LACKS,
}
"""Codes of MongoDB that no repetition mends."""
_ATLAS = 8000
"""What Atlas says of everything; of a wrong user or password with this text."""
_BAD_AUTH = "bad auth"


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Let what pymongo raises inside be an error of the contract, with its cause, and without credentials."""
    try:
        yield
    except AnybrokerError:
        raise
    except (errors.PyMongoError, BSONError, UnicodeError, OverflowError, ValueError, TypeError) as error:
        raise translation(error, address) from error


def translation(error: Exception, address: Address) -> AnybrokerError:
    """The contract's error for what pymongo raised, or Python on the way to it."""
    if isinstance(error, errors.BulkWriteError):
        error = _first_failure(error)
    text = _text(error, address)
    code = error.code if isinstance(error, errors.OperationFailure) else None
    if isinstance(error, errors.DocumentTooLarge) or code in _TOO_LARGE:
        return MessageTooLarge(f"{address}: a document of MongoDB has at most 16 MiB: {text}")
    if code == _ATLAS and _BAD_AUTH in text:
        code = _AUTHENTICATION_FAILED
    if code in _CONFIGURATION:
        return ConfigurationError(f"{address}: {_CONFIGURATION[code]}: {text}")
    if _is_lookup(error):
        return BrokerUnavailable(f"{address}: its name could not be resolved: {text}")
    if isinstance(error, UnicodeError | OverflowError | BSONError):
        return ConfigurationError(f"ids, queues and keys are valid Unicode, numbers have 64 bits: {text}")
    if isinstance(error, errors.ConfigurationError | errors.InvalidName | ValueError | TypeError):
        return ConfigurationError(f"{address}: {text}")
    return BrokerUnavailable(f"{address}: {text}")


def _first_failure(error: errors.BulkWriteError) -> errors.OperationFailure:
    """What went wrong first in a bulk write, which itself says only that something did."""
    failures = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
    if not failures:
        return error
    return errors.OperationFailure(failures[0].get("errmsg", str(error)), failures[0].get("code"))


def _is_lookup(error: Exception) -> bool:
    """Whether dnspython failed to look up ``mongodb+srv://``, which pymongo calls a wrong configuration."""
    cause = error.__cause__ or error.__context__
    return isinstance(error, errors.ConfigurationError) and type(cause).__module__.partition(".")[0] == "dns"


def _text(error: Exception, address: Address) -> str:
    """The first line of what it says; behind it pymongo lists the whole answer, and the state of every server."""
    text = str(error).partition(", full error:")[0].partition(", Topology Description:")[0].partition("\n")[0]
    for secret in address.secrets():
        text = text.replace(secret, "***")
    return redact(text) or type(error).__name__
