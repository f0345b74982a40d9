"""What Pub/Sub and gRPC raise, as errors of anybroker: the one place where they are translated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from anybroker_broker_pubsub.connection import Method

_MISTAKES = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED}
"""What would be refused again, however often it is tried."""


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


def translated(error: grpc.RpcError, method: Method, resource: str, shown: str) -> AnybrokerError:
    """The error of anybroker for one of a call; ``shown`` is what the service is called."""
    code, details = error.code(), " ".join((error.details() or "").split())[:300]
    what = f"{shown}: {method.name} on {resource}"
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return NotThere(f"{what}: it does not exist; create it, or leave out create=no")
        case grpc.StatusCode.ALREADY_EXISTS:
            return AlreadyThere(f"{what}: it exists")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimedOut(f"{what}: no answer in time")
        case grpc.StatusCode.PERMISSION_DENIED:
            return BrokerUnavailable(f"{what}: the permission {method.permission} is missing ({details})")
        case grpc.StatusCode.UNAUTHENTICATED:
            return BrokerUnavailable(f"{what}: the credentials are not accepted ({details})")
    if method.settles and code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}:
        return Refused(f"{what}: {details}", _reasons(error))
    if code in _MISTAKES:
        return ConfigurationError(f"{what}: {details}")
    return BrokerUnavailable(f"{what}: {details or code.name}")


def _reasons(error: grpc.RpcError) -> dict[str, str]:
    """Which ack ids were refused, and why ("Exactly-once delivery", "Handle requests with temporary failures")."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return dict(info.metadata)
    return {}
