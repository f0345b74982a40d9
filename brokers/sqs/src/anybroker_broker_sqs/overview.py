"""What SQS tells of its queues: which there are, about how many messages they hold; and that it empties them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.broker import Estimate
from anybroker_broker_sqs import names
from anybroker_broker_sqs.options import FIFO_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker_broker_sqs.connection import Connection
    from anybroker_broker_sqs.options import Options

PAGE = 1000
"""Queues that one call lists (ListQueues, MaxResults)."""
READY, LEASED, DELAYED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def known_queues(connection: Connection, options: Options) -> list[str]:
    """The queues with our prefix. One whose name SQS does not take is read from its tags."""
    found = [_name(connection, url, options) for url in _urls(connection, options.prefix)]
    return sorted(name for name in found if name is not None)


def estimate(connection: Connection, queue: str, *, fifo: bool) -> Estimate:
    """Counts of a queue. SQS hides what waits in a FIFO queue, and counts it as in flight or, before that, as ready."""
    url = connection.known_url(queue)
    if url is None:
        return Estimate(ready=0)
    told = connection.call("GetQueueAttributes", QueueUrl=url, AttributeNames=[READY, LEASED, DELAYED])
    counts = {name: int(value) for name, value in told.get("Attributes", {}).items()}
    if fifo:
        return Estimate(ready=counts.get(READY))
    return Estimate(ready=counts.get(READY), leased=counts.get(LEASED), delayed=counts.get(DELAYED))


def clear(connection: Connection, queue: str) -> None:
    """Purge a queue, which SQS does once in 60 seconds."""
    url = connection.known_url(queue)
    if url is not None:
        connection.call("PurgeQueue", QueueUrl=url)


def _urls(connection: Connection, prefix: str) -> Iterator[str]:
    more: dict[str, str] = {"QueueNamePrefix": prefix} if prefix else {}
    while True:
        page = connection.call("ListQueues", MaxResults=PAGE, **more)
        yield from page.get("QueueUrls", ())
        if not page.get("NextToken"):
            return
        more["NextToken"] = page["NextToken"]


def _name(connection: Connection, url: str, options: Options) -> str | None:
    sqs_name = url.rpartition("/")[2]
    if not sqs_name.startswith(options.prefix) or sqs_name.endswith(FIFO_SUFFIX) != options.fifo:
        return None
    plain = names.original(sqs_name, prefix=options.prefix, fifo=options.fifo)
    return plain or names.from_tags(connection.call("ListQueueTags", QueueUrl=url).get("Tags", {}))
