"""A server that answers as it is told: what the emulator never says, and the real service does."""

from __future__ import annotations

from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.pubsub_v1 import types
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Callable

_ANSWERS = {"Publish": types.PublishResponse.pb(), "Pull": types.PullResponse.pb()}
_REQUESTS = {
    "Publish": types.PublishRequest.pb(),
    "Pull": types.PullRequest.pb(),
    "Acknowledge": types.AcknowledgeRequest.pb(),
    "ModifyAckDeadline": types.ModifyAckDeadlineRequest.pb(),
    "CreateTopic": types.Topic.pb(),
    "CreateSubscription": types.Subscription.pb(),
    "GetSubscription": types.GetSubscriptionRequest.pb(),
}


class Scripted(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every call with an empty message, unless told otherwise."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        """What was asked, in order: the name of the method and the request."""
        self.later = 0
        """How often it was asked for what is not due."""
        self._script: defaultdict[str, deque[Callable[[Any, Any], Any]]] = defaultdict(deque)
        self._server = grpc.server(
            ThreadPoolExecutor(4), handlers=(self,), options=[("grpc.max_receive_message_length", -1)]
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def answer(self, method: str, *answers: Callable[[Any, Any], Any]) -> None:
        """The next answers to a method, one per call; each gets the request and the context."""
        self._script[method].extend(answers)

    def asked(self, method: str) -> list[Any]:
        """The requests of a method."""
        return [request for name, request in self.requests if name == method]

    def close(self) -> None:
        self._server.stop(None).wait()

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]

        def handle(request: Any, context: Any) -> Any:
            later = name == "Pull" and request.subscription.endswith("~later")
            self.later += later
            if not later:
                self.requests.append((name, request))
            if self._script[name] and not later:
                return self._script[name].popleft()(request, context)
            if name in {"CreateTopic", "CreateSubscription"}:
                return request
            return _ANSWERS.get(name, empty_pb2.Empty)()

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=_REQUESTS[name].FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )


def accepting(*_: Any) -> Any:
    """The answer to an ack or a change of deadlines that is done."""
    return empty_pb2.Empty()


def failing(code: grpc.StatusCode, details: str) -> Callable[[Any, Any], Any]:
    """An answer that is an error."""
    return lambda _, context: context.abort(code, details)


def refusing(reasons: dict[str, str]) -> Callable[[Any, Any], Any]:
    """An answer to an ack or a change of deadlines of a subscription with exactly-once delivery."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="EXACTLY_ONCE_ACKID_FAILURE", metadata=reasons))
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="some ids failed", details=[detail])
    return lambda _, context: context.abort_with_status(rpc_status.to_status(status))


def bringing(*ack_ids: str, ordering_key: str = "") -> Callable[[Any, Any], Any]:
    """An answer to a pull."""
    messages = [
        types.ReceivedMessage.pb()(
            ack_id=one,
            message={"data": b"x", "message_id": one, "attributes": {"id": one}, "ordering_key": ordering_key},
        )
        for one in ack_ids
    ]
    return lambda *_: types.PullResponse.pb()(received_messages=messages)
