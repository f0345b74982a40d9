"""Messages with an ordering key that are not due: left unacknowledged in their queue, and their key waits with them.

Each time that such a hold runs out counts as a delivery for Pub/Sub, which gives a message up after 100. So who has
pulled one goes on holding it for as long as the process lives. If it dies, another consumer pulls the message, at the
latest after the 600 s for which it was held.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from anybroker_broker_pubsub import settling
from anybroker_broker_pubsub.options import MAX_ACK_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker_broker_pubsub.connection import Connection

RENEWED = MAX_ACK_DEADLINE / 2
"""Seconds after which a message is held anew."""


class Parked(NamedTuple):
    """A message that is held."""

    subscription: str
    ack_id: str
    eta: datetime
    held_from: float = -math.inf
    """By ``time.monotonic``."""


class Parking:
    """What one object holds until it is due. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parked: list[Parked] = []
        self._lock = threading.Lock()

    def hold(self, messages: Iterable[Parked]) -> None:
        """Hold messages until they are due."""
        with self._lock:
            self._parked += messages
        self.renew()

    def renew(self) -> None:
        """Hold on to what was held for a while. What is held until it is due is forgotten: then it is delivered."""
        now, clock = datetime.now(UTC), time.monotonic()
        with self._lock:
            old = [one for one in self._parked if one.held_from <= clock - RENEWED]
            if not old:
                return
            longer = [one for one in old if (one.eta - now).total_seconds() > MAX_ACK_DEADLINE]
            self._parked = [one for one in self._parked if one.held_from > clock - RENEWED]
            self._parked += [one._replace(held_from=clock) for one in longer]
        holds: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        for one in old:
            seconds = max(1, min(MAX_ACK_DEADLINE, math.ceil((one.eta - now).total_seconds())))
            holds[one.subscription, seconds].append(one.ack_id)
        for (subscription, seconds), ack_ids in holds.items():
            settling.modify(self._connection, subscription, ack_ids, seconds)
