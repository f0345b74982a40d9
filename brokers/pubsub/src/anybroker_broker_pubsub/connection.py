"""One channel to Pub/Sub, and calls over it that can be waited for together.

The calls are those of ``google.pubsub.v1``, with the messages and the credentials of Google's client library. Its own
publisher and subscriber clients are not used: they batch, buffer, extend and retry in threads of their own, which is
what anybroker's core does.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from anybroker_broker_pubsub.forks import gate  # isort: skip (before grpc)

import google.auth.exceptions
import grpc
from google.api_core.gapic_v1 import routing_header
from google.protobuf import empty_pb2
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker_broker_pubsub.errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_broker_pubsub.options import Settings

CALL_TIMEOUT = 10.0
"""Seconds for an answer to a call that does not wait for messages."""
STUCK = 2.0
"""Seconds after its deadline at which a call that did not end is given up: gRPC does not work in this process."""
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),  # a pull may bring many messages of 10 MB
    ("grpc.keepalive_time_ms", 30_000),  # as in Google's client
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # the least time that a connection may take to come about
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),  # core retries
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for every object
]


class Method(NamedTuple):
    """A call of ``google.pubsub.v1``."""

    service: str
    name: str
    request: Any
    response: Any
    resource: str
    """The field of the request that names what it is about; Pub/Sub routes by it."""
    permission: str
    settles: bool = False
    """It is about ack ids, and may be refused for some of them."""


PublishRequest, PubsubMessage = types.PublishRequest.pb(), types.PubsubMessage.pb()
PullRequest = types.PullRequest.pb()
AcknowledgeRequest, ModifyRequest = types.AcknowledgeRequest.pb(), types.ModifyAckDeadlineRequest.pb()
Topic, Subscription = types.Topic.pb(), types.Subscription.pb()
GetSubscriptionRequest = types.GetSubscriptionRequest.pb()
DeleteTopicRequest, DeleteSubscriptionRequest = types.DeleteTopicRequest.pb(), types.DeleteSubscriptionRequest.pb()
ListTopicsRequest, SeekRequest = types.ListTopicsRequest.pb(), types.SeekRequest.pb()

PUBLISH = Method("Publisher", "Publish", PublishRequest, types.PublishResponse.pb(), "topic", "pubsub.topics.publish")
PULL = Method(
    "Subscriber", "Pull", PullRequest, types.PullResponse.pb(), "subscription", "pubsub.subscriptions.consume"
)
ACKNOWLEDGE = Method(
    "Subscriber",
    "Acknowledge",
    AcknowledgeRequest,
    empty_pb2.Empty,
    "subscription",
    "pubsub.subscriptions.consume",
    settles=True,
)
MODIFY = Method(
    "Subscriber",
    "ModifyAckDeadline",
    ModifyRequest,
    empty_pb2.Empty,
    "subscription",
    "pubsub.subscriptions.consume",
    settles=True,
)
CREATE_TOPIC = Method("Publisher", "CreateTopic", Topic, Topic, "name", "pubsub.topics.create")
CREATE_SUBSCRIPTION = Method(
    "Subscriber", "CreateSubscription", Subscription, Subscription, "name", "pubsub.subscriptions.create"
)
GET_SUBSCRIPTION = Method(
    "Subscriber", "GetSubscription", GetSubscriptionRequest, Subscription, "subscription", "pubsub.subscriptions.get"
)
DELETE_TOPIC = Method("Publisher", "DeleteTopic", DeleteTopicRequest, empty_pb2.Empty, "topic", "pubsub.topics.delete")
DELETE_SUBSCRIPTION = Method(
    "Subscriber",
    "DeleteSubscription",
    DeleteSubscriptionRequest,
    empty_pb2.Empty,
    "subscription",
    "pubsub.subscriptions.delete",
)
LIST_TOPICS = Method(
    "Publisher", "ListTopics", ListTopicsRequest, types.ListTopicsResponse.pb(), "project", "pubsub.topics.list"
)
SEEK = Method(
    "Subscriber", "Seek", SeekRequest, types.SeekResponse.pb(), "subscription", "pubsub.subscriptions.consume"
)


class Call:
    """A call under way."""

    def __init__(
        self, method: Method, resource: str, timeout: float, shown: str, answered: Callable[[], object]
    ) -> None:
        self._method = method
        self._resource = resource
        self._shown = shown
        self._answered = answered
        self._latest = time.monotonic() + timeout + STUCK
        self._ended = threading.Event()
        self._future: Any = None
        self.done_at = 0.0
        """When the answer came; seconds of ``time.monotonic``."""

    @property
    def done(self) -> bool:
        """Whether :meth:`result` returns, or raises, at once."""
        return self._ended.is_set() or time.monotonic() > self._latest

    def result(self) -> Any:
        """The answer, when it is there. Raises ``BrokerUnavailable`` or ``ConfigurationError``."""
        if not self._ended.wait(max(0.0, self._latest - time.monotonic())):
            raise BrokerUnavailable(
                f"{self._shown}: {self._method.name} never ended; if this process is a fork of one that had loaded "
                "gRPC before anybroker, set GRPC_ENABLE_FORK_SUPPORT=1 in its environment"
            )
        try:
            with gate.entered():
                return self._future.result()
        except grpc.FutureCancelledError as error:
            raise BrokerUnavailable(f"{self._shown}: closed during {self._method.name}") from error
        except grpc.RpcError as error:
            raise translated(error, self._method, self._resource, self._shown) from error

    def when_done(self, wake: Callable[[], object]) -> None:
        """Call ``wake`` from another thread when it has ended; it must not wait for anything."""
        with gate.entered():
            self._future.add_done_callback(lambda _: wake())

    def cancel(self) -> None:
        """Wait for it no longer."""
        with gate.entered():
            self._future.cancel()

    def _start(self, stub: Any, request: Any, timeout: float) -> None:
        def ended(future: Any) -> None:
            self.done_at = time.monotonic()
            if future.code() is grpc.StatusCode.OK:
                self._answered()
            self._ended.set()

        metadata: Any = routing_header.to_grpc_metadata(((self._method.resource, self._resource),))  # type: ignore[no-untyped-call]
        with gate.entered():
            self._future = stub.future(request, timeout=timeout, metadata=(metadata,))
            self._future.add_done_callback(ended)


class Connection:
    """The channel of one process. Thread-safe; connects when it is first used."""

    def __init__(self, settings: Settings) -> None:
        self._shown = settings.shown
        with gate.entered():
            self._channel = _channel(settings)
        self._stubs: dict[Method, Any] = {}
        self.answered_at = 0.0
        """When the service last answered a call; seconds of ``time.monotonic``."""

    def start(self, method: Method, request: Any, *, timeout: float = CALL_TIMEOUT) -> Call:
        """Begin a call. Raises ``BrokerUnavailable`` after :meth:`close`."""
        call = Call(method, getattr(request, method.resource), timeout, self._shown, self._answered)
        try:
            call._start(self._stub(method), request, timeout)  # noqa: SLF001 (the two are one)
        except ValueError as error:  # what gRPC says of a closed channel
            raise BrokerUnavailable(f"{self._shown}: this broker was closed") from error
        return call

    def call(self, method: Method, request: Any, *, timeout: float = CALL_TIMEOUT) -> Any:
        """Make a call, and wait for its answer."""
        return self.start(method, request, timeout=timeout).result()

    def close(self) -> None:
        """End all calls."""
        with gate.entered():
            self._channel.close()

    def _answered(self) -> None:
        self.answered_at = time.monotonic()

    def _stub(self, method: Method) -> Any:
        stub = self._stubs.get(method)
        if stub is None:
            stub = self._stubs[method] = self._channel.unary_unary(
                f"/google.pubsub.v1.{method.service}/{method.name}",
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return stub


def _channel(settings: Settings) -> grpc.Channel:
    if settings.emulated:
        return grpc.insecure_channel(settings.endpoint, options=[*_OPTIONS, ("grpc.enable_http_proxy", 0)])
    try:
        return SubscriberGrpcTransport.create_channel(settings.endpoint, options=_OPTIONS)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise ConfigurationError(
            f"{settings.shown}: no credentials were found; set GOOGLE_APPLICATION_CREDENTIALS, "
            "or run: gcloud auth application-default login"
        ) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise BrokerUnavailable(f"{settings.shown}: the credentials cannot be used now") from error
