"""What Pub/Sub and gRPC raise, as errors of anybroker: the one place where they are translated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_broker_pubsub.connection import Method


class NotThere(BrokerUnavailable):
    """A topic or a subscription does not exist, and may be created meanwhile."""


class AlreadyThere(AnybrokerError):
    """A topic or a subscription exists; never leaves this package."""


class TimedOut(BrokerUnavailable):
    """No answer came in time: the end of a long poll, or a server that is stuck."""


class Refused(BrokerUnavailable):
    """An ack or a change of deadline was refused for some messages, or for one that is not told."""

    def __init__(self, message: str, reasons: dict[str, str]) -> None:
        super().__init__(message)
        self.reasons = reasons
        """By ack id, as Pub/Sub's ``ErrorInfo`` says; empty where it does not."""


_REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
_KINDS: dict[grpc.StatusCode, Callable[[str], AnybrokerError]] = {
    grpc.StatusCode.NOT_FOUND: NotThere,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyThere,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    # what would be refused again, however often it is tried
    grpc.StatusCode.INVALID_ARGUMENT: ConfigurationError,
    grpc.StatusCode.OUT_OF_RANGE: ConfigurationError,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}
_REMEDIES = {
    grpc.StatusCode.NOT_FOUND: "it does not exist; create it, or leave out create=no",
    grpc.StatusCode.DEADLINE_EXCEEDED: "no answer in time",
    grpc.StatusCode.PERMISSION_DENIED: "the permission {permission} is missing ({details})",
    grpc.StatusCode.UNAUTHENTICATED: "the credentials are not accepted ({details})",
}


def translated(error: Any, method: Method, resource: str, shown: str) -> AnybrokerError:
    """The error of anybroker for one of a call; ``shown`` is what the service is called."""
    code, details = error.code(), " ".join((error.details() or "").split())[:300]
    what = f"{shown}: {method.name} on {resource}"
    if method.settles and code in _REFUSALS:
        return Refused(f"{what}: {details}", _reasons(error))
    kind = _KINDS.get(code, BrokerUnavailable)
    remedy = _REMEDIES.get(code, "{details}").format(details=details or code.name, permission=method.permission)
    return kind(f"{what}: {remedy}")


def _reasons(error: Any) -> dict[str, str]:
    """Which ack ids were refused, and why ("Exactly-once delivery", "Handle requests with temporary failures")."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return dict(info.metadata)
    return {}
