"""Publishing: as few requests as the limits allow, in flight together, every one confirmed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_broker_pubsub.connection import CALL_TIMEOUT, PUBLISH, PublishRequest
from anybroker_broker_pubsub.options import MAX_REQUEST, PUBLISH_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anybroker_broker_pubsub.connection import Call, Connection

IN_FLIGHT = 8
"""Requests on their way at a time."""
SLOWEST = 500_000
"""Bytes a second that a connection is expected to carry at least."""
_FRAME = 8
"""Bytes that a message adds to a request, at most."""


def publish(
    connection: Connection, batches: Iterable[tuple[str, Sequence[Any]]]
) -> tuple[set[int], AnybrokerError | None]:
    """Publish messages to topics; returns the ``id()`` of those that are stored, and the first error.

    All messages of a batch have the same ordering key, which Pub/Sub wants of a request, or none. Of one key, no
    request begins before the one before it is confirmed.
    """
    stored: set[int] = set()
    failed: AnybrokerError | None = None
    calls: deque[tuple[Call, Sequence[Any]]] = deque()

    def confirm() -> None:
        nonlocal failed
        call, messages = calls.popleft()
        try:
            call.result()
            stored.update(map(id, messages))
        except AnybrokerError as error:
            failed = failed or error

    for topic, messages in batches:
        for number, (chunk, size) in enumerate(_chunks(topic, messages)):
            in_turn = number > 0 and bool(chunk[0].ordering_key)
            while calls and (in_turn or len(calls) == IN_FLIGHT):
                confirm()
            if failed:
                break
            request = PublishRequest(topic=topic, messages=chunk)
            try:
                call = connection.start(PUBLISH, request, timeout=CALL_TIMEOUT + size / SLOWEST)
            except BrokerUnavailable as error:
                failed = error
                break
            calls.append((call, chunk))
    while calls:
        confirm()
    return stored, failed


def _chunks(topic: str, messages: Sequence[Any]) -> Iterator[tuple[Sequence[Any], int]]:
    """Messages in order, in portions that a request takes, each with its size in bytes."""
    chunk: list[Any] = []
    size = base = len(topic) + _FRAME
    for message in messages:
        own = message.ByteSize() + _FRAME
        if chunk and (len(chunk) == PUBLISH_BATCH or size + own > MAX_REQUEST):
            yield chunk, size
            chunk, size = [], base
        chunk.append(message)
        size += own
    if chunk:
        yield chunk, size
