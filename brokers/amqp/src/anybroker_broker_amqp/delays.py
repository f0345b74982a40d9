"""Delays of any length without a plugin and with a constant number of queues.

A delay is a number of ticks, written in binary. For each bit there is a queue whose messages all expire after that many
ticks, and an exchange before it. A message enters at its highest bit; its routing key, ``1.0.1. ... .queue``, lets the
exchange put it into its queue where the bit is 1, and pass it on to the next exchange where it is 0. What expires is
dead-lettered to the next exchange, and behind the last bit it reaches the queue that its key ends with. All messages of
one queue wait equally long, so that none waits behind a later one. The queues are quorum queues that dead-letter *at
least once*: what waits survives the death of the server at any moment, also between two of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pika import spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pika.amqp_object import Method

TICK = 0.064
"""Seconds."""
BITS = 26
LONGEST = (2**BITS - 1) * TICK
"""Seconds, 49.7 days: RabbitMQ's longest time-to-live is below the next bit's. Longer delays take several rounds."""
_HOP = 0.001
"""Seconds by which RabbitMQ may let a message expire early in each queue, for it counts in milliseconds."""


def exchange(prefix: str, bit: int) -> str:
    """The exchange before the queue of a bit; that of -1 leads to the destinations."""
    return f"{prefix}delay.{bit}" if bit >= 0 else f"{prefix}delay.done"


def ready(prefix: str) -> str:
    """The exchange that is declared last: where it exists, all others do."""
    return f"{prefix}delay.ready"


def declarations(prefix: str) -> Iterator[Method]:
    """What makes the topology; may be repeated."""
    yield done(prefix)
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


def done(prefix: str) -> Method:
    """The exchange through which delayed messages come to their queues."""
    return spec.Exchange.Declare(0, exchange(prefix, -1), "topic", durable=True)


def destination(prefix: str, queue: str) -> Method:
    """What lets delayed messages reach this queue of RabbitMQ."""
    return spec.Queue.Bind(0, queue, exchange(prefix, -1), f"#.{queue.removeprefix(prefix)}", arguments={})


def route(prefix: str, queue: str, seconds: float) -> tuple[str, str]:
    """The exchange and the routing key by which a message reaches a queue of RabbitMQ so much later, never earlier."""
    ticks = min(math.ceil((min(seconds, LONGEST) + BITS * _HOP) / TICK), 2**BITS - 1)
    bits = ".".join(format(ticks, f"0{BITS}b"))
    return exchange(prefix, ticks.bit_length() - 1), f"{bits}.{queue.removeprefix(prefix)}"
