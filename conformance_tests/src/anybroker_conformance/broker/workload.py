"""Work of one consumer and producer, also of one in another process: what is imported here, each of those imports."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import msgspec

from anybroker.broker import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Broker, Delivery

MOST_HELD = 12
QUIET = 0.5
"""Seconds without a message after which a consumer believes that there are no more."""


def work(
    broker: Broker, *, seed: int, prefix: str, queues: Sequence[str], rounds: int, seconds: float, lease: float
) -> None:
    """Enqueue, acquire, extend, update and acknowledge at random; in the end nothing is held."""
    chance = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    declared = broker.capabilities
    low, high = declared.priorities or (0, 0)
    keyed = declared.ordering.keyed
    held: list[Delivery] = []
    sent = 0
    deadline = time.monotonic() + seconds
    for _ in range(rounds):
        if time.monotonic() > deadline:
            break
        batch = chance.choice((0, 1, 1, 2, 5))
        messages = [
            Message(
                f"{prefix}.{sent + number}",
                chance.choice(queues),
                chance.randbytes(chance.choice((0, 1, 40))),
                priority=max(low, min(high, chance.randrange(-1, 3))),
                ordering_key=f"{prefix}{chance.randrange(3)}" if keyed and chance.random() < 0.3 else None,
            )
            for number in range(batch)
        ]
        sent += batch
        if messages:
            broker.enqueue(messages)
        if len(held) < MOST_HELD:
            wanted = chance.sample(list(queues), len(queues))
            held += broker.acquire(wanted, limit=chance.randrange(1, 6), wait=chance.choice((0, 0, 0.01)), lease=lease)
        held = _go_on(broker, held, queues, chance, lease)
    if held:
        broker.ack(held)


def _go_on(
    broker: Broker, held: list[Delivery], queues: Sequence[str], chance: random.Random, lease: float
) -> list[Delivery]:
    """Do something with a part of what is held; returns the rest."""
    chance.shuffle(held)
    cut = chance.randrange(len(held) + 1)
    some, rest = held[:cut], held[cut:]
    match chance.randrange(5):
        case 0 | 1 if some:
            broker.ack(some)
            return rest
        case 2 if some:
            broker.update([(one, _changed(one.message, queues, chance)) for one in some])
            return rest
        case 3 if some:
            broker.extend(some, lease=lease)
    return held


def _changed(message: Message, queues: Sequence[str], chance: random.Random) -> Message:
    queue = chance.choice(queues) if chance.random() < 0.3 else message.queue
    return msgspec.structs.replace(message, body=chance.randbytes(8), queue=queue)


def hold_all(broker: Broker, *, queues: list[str], limit: int, lease: float) -> list[str]:
    """Acquire until nothing comes any more; returns the ids. Nothing is settled."""
    held: list[str] = []
    quiet_since = time.monotonic()
    while time.monotonic() < quiet_since + QUIET:
        taken = broker.acquire(queues, limit=limit, wait=0.05, lease=lease)
        held += [one.message.id for one in taken]
        quiet_since = time.monotonic() if taken else quiet_since
    return held
