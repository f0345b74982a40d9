"""The clients of boto3, the URLs of queues, and calls at the same time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from boto3.session import Session
from botocore import xform_name
from botocore.config import Config

from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker_broker_sqs import names
from anybroker_broker_sqs.envelope import ATTRIBUTE
from anybroker_broker_sqs.errors import QueueMissing, translated
from anybroker_broker_sqs.options import MAX_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker_broker_sqs.options import Settings

T = TypeVar("T")
U = TypeVar("U")

KEPT = "MessageRetentionPeriod"
RETENTION = 14 * 86400
"""Seconds for which SQS keeps a message at most (CreateQueue, MessageRetentionPeriod)."""
DEFAULT_RETENTION = 4 * 86400
"""Seconds for which SQS keeps a message of a queue that was created without saying."""
CONNECT, READ = 4.0, 8.0
"""Seconds for a connection, and for an answer; boto3 tries three times."""
ATTEMPTS = 3
LATE = 5.0
"""Seconds by which the answer to a long poll may be late."""
POOL = 100
"""Connections that are kept; more than there are calls at the same time."""


_ATTRIBUTES = ["ApproximateReceiveCount"]
_ATTRIBUTES_OF_FIFO = [*_ATTRIBUTES, "ApproximateFirstReceiveTimestamp", "MessageGroupId", "SentTimestamp"]


@cache
def _session(profile: str | None) -> Session:
    """What clients are made of: 0.1 s of work, and the credentials, which it fetches and renews for all of them."""
    return Session(profile_name=profile)


_sessions_lock = threading.Lock()  # a session makes one client at a time


def _after_fork() -> None:
    global _sessions_lock  # noqa: PLW0603  another thread may have held it, or a lock of a session
    _sessions_lock = threading.Lock()
    _session.cache_clear()


os.register_at_fork(after_in_child=_after_fork)


class Connection:
    """SQS as one process reaches it. Thread-safe. The child of a fork needs one of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._attributes = _ATTRIBUTES_OF_FIFO if settings.options.fifo else _ATTRIBUTES
        self._lock = threading.Lock()
        self._client: Any = None
        self._polling: Any = None
        self._threads: ThreadPoolExecutor | None = None
        self._thread = threading.local()
        """``pooled`` is set in the threads of ``_threads``."""
        self._urls: dict[str, str] = {}
        self._kept: dict[str, int] = {}

    @property
    def where(self) -> str:
        """What error messages call the service."""
        return self._settings.shown

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a call, ``SendMessageBatch``, say. Raises what :mod:`anybroker_broker_sqs.errors` says."""
        with translated(operation.removesuffix("Batch"), self.where):
            answer: dict[str, Any] = getattr(self._quick(), xform_name(operation))(**parameters)
        return answer

    def receive(self, url: str, number: int, wait: int, lease: int) -> list[dict[str, Any]]:
        """Receive up to ten messages for ``lease`` seconds, waiting up to 20 for the first."""
        with translated("ReceiveMessage", self.where):
            answer = (self._patient() if wait else self._quick()).receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=number,
                WaitTimeSeconds=wait,
                VisibilityTimeout=lease,
                MessageAttributeNames=[ATTRIBUTE],
                MessageSystemAttributeNames=self._attributes,
            )
        return answer.get("Messages", [])  # type: ignore[no-any-return]  # boto3 has no types

    def each(self, function: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """Apply a function that makes a call to every item, some at the same time; in order.

        A function that itself comes here is not given other threads: all of them could be waiting for each other.
        """
        if len(items) < 2 or hasattr(self._thread, "pooled"):  # noqa: PLR2004  one needs no thread
            return [function(item) for item in items]
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(
                    self._settings.options.calls, "anybroker-sqs", setattr, (self._thread, "pooled", True)
                )
            try:
                futures = [self._threads.submit(function, item) for item in items]
            except RuntimeError as error:  # it was shut down
                raise BrokerUnavailable(f"this broker of {self.where} was closed") from error
        return [future.result() for future in futures]

    def url(self, queue: str) -> str:
        """The URL of a queue, which is created if that is allowed. Raises ``ConfigurationError`` if it is missing."""
        url = self.known_url(queue)
        if url is None:
            name = self._name(queue)
            url = self._url_in(self.call("CreateQueue", QueueName=name, **self._creation(queue)))
            account = self._settings.account
            if account and account not in url.split("/"):
                raise ConfigurationError(
                    f"{self.where}: the queue {name} was missing and has been created, but in the account of the "
                    f"credentials: {url}; create it in account {account}, and use create=no"
                )
            self._urls[queue] = url
        return url

    def known_url(self, queue: str) -> str | None:
        """The URL of a queue; None if it is still to be created. Raises as :meth:`url`."""
        url = self._urls.get(queue) or self._find(queue)
        if url is not None:
            self._urls[queue] = url
        return url

    def kept(self, queue: str) -> int:
        """Seconds for which SQS keeps a message of a queue, whoever has created it.

        Where SQS does not tell, those of a queue that was created without saying.
        """
        kept = self._kept.get(queue)
        if kept is None:
            try:
                told = self.call("GetQueueAttributes", QueueUrl=self.url(queue), AttributeNames=[KEPT])
            except BrokerUnavailable:
                return DEFAULT_RETENTION
            except ConfigurationError:  # who asks needs a permission for it
                told = {}
            kept = self._kept[queue] = int(told.get("Attributes", {}).get(KEPT, DEFAULT_RETENTION))
        return kept

    def forget(self, queue: str) -> None:
        """A queue is not where it was: look it up again."""
        self._urls.pop(queue, None)
        self._kept.pop(queue, None)

    def close(self) -> None:
        """Free the connections. Calls that are being made end as they do."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(1)
            self._threads.shutdown(wait=False)
        for client in (self._client, self._polling):
            if client is not None:
                client.close()

    def _name(self, queue: str) -> str:
        options = self._settings.options
        return names.queue_name(queue, prefix=options.prefix, fifo=options.fifo)

    def _find(self, queue: str) -> str | None:
        settings, options, name = self._settings, self._settings.options, self._name(queue)
        if settings.account and not options.create:
            return f"{settings.endpoint or self._quick().meta.endpoint_url}/{settings.account}/{name}"
        owner = {"QueueOwnerAWSAccountId": settings.account} if settings.account else {}
        try:
            return self._url_in(self.call("GetQueueUrl", QueueName=name, **owner))
        except QueueMissing as error:
            if options.create:
                return None
            raise ConfigurationError(
                f"{self.where}: queue {queue!r} does not exist there as {name}; create it, or use create=yes"
            ) from error

    def _url_in(self, answer: dict[str, Any]) -> str:
        url = answer.get("QueueUrl")
        if not isinstance(url, str):  # the connection was cut in the midst of the answer's headers
            raise BrokerUnavailable(f"{self.where} gave half an answer")
        return url

    def _creation(self, queue: str) -> dict[str, Any]:
        options = self._settings.options
        attributes = {
            "VisibilityTimeout": str(int(options.visibility.total_seconds())),
            KEPT: str(RETENTION),
            "MaximumMessageSize": str(options.message_size),
        }
        if options.fifo:
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        if options.kms_key:
            attributes["KmsMasterKeyId"] = options.kms_key
        return {"Attributes": attributes, "tags": self._settings.tags | names.to_tags(queue)}

    def _quick(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make(read_timeout=READ, attempts=ATTEMPTS)
            return self._client

    def _patient(self) -> Any:
        with self._lock:
            if self._polling is None:
                self._polling = self._make(read_timeout=MAX_WAIT + LATE, attempts=1)
            return self._polling

    def _make(self, *, read_timeout: float, attempts: int) -> Any:
        settings = self._settings
        key, secret = settings.credentials or (None, None)
        with translated("", self.where), _sessions_lock:
            return _session(settings.options.profile).client(
                "sqs",
                region_name=settings.region,
                endpoint_url=settings.endpoint,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                config=Config(
                    connect_timeout=CONNECT,
                    read_timeout=read_timeout,
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    max_pool_connections=POOL,
                    tcp_keepalive=True,
                    parameter_validation=False,  # a fifth of the time of a call, and the parameters are ours
                ),
            )
