"""Law 11, of the moment at which a consumer begins to wait: what is sent then is not missed."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from anybroker_conformance.backend.racing import one_within_another
from anybroker_conformance.broker.consuming import another
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker.broker import Message
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

LINES = 400
"""Lines of an adapter at which something is sent, at most."""
RACING = 2.0
"""Seconds that this may take, of each object."""
LATE = 0.8
"""Seconds after which a consumer has not been woken, but has looked again."""
PAUSES = 2
"""How often a loaded machine may stand still for so long."""


class Missed:
    """Law 11."""

    def test_law11_prompt__sent_while_it_looks(self, realtime: Subject) -> None:
        """A message that is sent at whichever line of a waiting consumer's code wakes it."""
        subject = realtime
        bound = subject.capabilities.wake_bound
        late: list[float] = []
        for consumer in dict.fromkeys([subject.broker, another(subject)]):
            queue = subject.queue()
            messages = {one.id: one for one in (subject.message(queue) for _ in range(LINES))}
            wait = partial(_woken, consumer, queue, bound + 2 * PATIENCE, subject.long)
            for id_, woken, sent in one_within_another(
                wait, partial(_send, subject.broker, messages), [*messages], seconds=RACING
            ):
                if woken - sent > bound + PATIENCE:
                    raise LawBroken("a consumer has missed a message that was sent as it began to wait", id_)
                late += [woken - sent] if woken - sent > bound + LATE else []
        if len(late) > PAUSES:
            raise LawBroken(
                f"{len(late)} messages that were sent as a consumer began to wait came up to {max(late):.1f} s late"
            )


def _send(broker: RecordedBroker, messages: dict[str, Message], id_: str) -> float:
    broker.enqueue([messages[id_]])
    return time.monotonic()


def _woken(consumer: RecordedBroker, queue: str, wait: float, lease: float, _: str) -> float:
    """When it has got a message; never, if it got none. Not recorded: only the adapter's lines are to count."""
    taken = consumer.recorded.acquire([queue], limit=1, wait=wait, lease=lease)
    woken = time.monotonic()
    consumer.recorded.ack(taken)
    return woken if taken else float("inf")
