"""Delays of any length without a plugin and with a constant number of queues.

A delay is a number of ticks, written in binary. For each bit there is a queue whose messages all expire after that many
ticks, and an exchange before it. A message enters at its highest bit; its routing key, ``1.0.1. ... .queue``, lets the
exchange put it into its queue where the bit is 1, and pass it on to the next exchange where it is 0. What expires is
dead-lettered to the next exchange, and behind the last bit it reaches the queue that its key ends with. All messages of
one queue wait equally long, so that none waits behind a later one. The queues are quorum queues that dead-letter *at
least once*: what waits survives the death of the server at any moment, also between two of them.

What comes due when its queue is gone comes into a queue for such *strays*, by an alternate exchange. It is not sent on
from there by RabbitMQ, which drops or keeps messages that it dead-letters in a circle, but by a broker object.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pika import spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pika.amqp_object import Method

TICK = 0.064
"""Seconds."""
BITS = 26
LONGEST = (2**BITS - 1) * TICK
"""Seconds, 49.7 days: RabbitMQ's longest time-to-live is below the next bit's. Longer delays take several rounds."""
NO_LIMIT = 2**31 - 1
"""RabbitMQ 4 drops a message that was delivered 20 times, unless told otherwise. Here that is core's to decide."""
_HOP = 0.001
"""Seconds by which RabbitMQ may let a message expire early in each queue, for it counts in milliseconds."""


def exchange(prefix: str, bit: int) -> str:
    """The exchange before the queue of a bit; that of -1 leads to the destinations."""
    return f"{prefix}delay.{bit}" if bit >= 0 else f"{prefix}delay.done"


def strays(prefix: str) -> str:
    """The queue of what came due when its own was gone, and the exchange before it."""
    return f"{prefix}delay.strays"


def target(prefix: str, headers: Mapping[str, Any]) -> str:
    """The queue of RabbitMQ to which a stray was to go; none where it is no stray."""
    try:
        key = str(headers["x-death"][0]["routing-keys"][0])
        return prefix + key.split(".", BITS)[BITS]
    except (LookupError, TypeError):
        return ""


def ready(prefix: str) -> str:
    """The exchange that is declared last: where it exists, all others do."""
    return f"{prefix}delay.ready"


def declarations(prefix: str) -> Iterator[Method]:
    """What makes the topology; may be repeated."""
    stray, done = strays(prefix), exchange(prefix, -1)
    yield spec.Exchange.Declare(0, stray, "fanout", durable=True)
    yield spec.Exchange.Declare(0, done, "topic", durable=True, arguments={"alternate-exchange": stray})
    kept = {"x-queue-type": "quorum", "x-delivery-limit": NO_LIMIT}
    yield spec.Queue.Declare(0, stray, durable=True, arguments=kept)
    yield spec.Queue.Bind(0, stray, stray, "", arguments={})
    for bit in range(BITS):
        yield spec.Exchange.Declare(0, exchange(prefix, bit), "topic", durable=True)
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": round(2**bit * TICK * 1000),
            "x-dead-letter-exchange": exchange(prefix, bit - 1),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        queue = exchange(prefix, bit)
        yield spec.Queue.Declare(0, queue, durable=True, arguments=arguments)
        before = "*." * (BITS - 1 - bit)
        yield spec.Queue.Bind(0, queue, exchange(prefix, bit), f"{before}1.#", arguments={})
        yield spec.Exchange.Bind(0, exchange(prefix, bit - 1), exchange(prefix, bit), f"{before}0.#", arguments={})
    yield spec.Exchange.Declare(0, ready(prefix), "fanout", durable=True)


def destination(prefix: str, queue: str) -> Method:
    """What lets delayed messages reach this queue of RabbitMQ."""
    return spec.Queue.Bind(0, queue, exchange(prefix, -1), f"#.{queue.removeprefix(prefix)}", arguments={})


def route(prefix: str, queue: str, seconds: float) -> tuple[str, str]:
    """The exchange and the routing key by which a message reaches a queue of RabbitMQ so much later, never earlier."""
    ticks = min(math.ceil((min(seconds, LONGEST) + BITS * _HOP) / TICK), 2**BITS - 1)
    bits = ".".join(format(ticks, f"0{BITS}b"))
    return exchange(prefix, ticks.bit_length() - 1), f"{bits}.{queue.removeprefix(prefix)}"
