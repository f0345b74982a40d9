"""Acks and changed deadlines: in batches, and answered for every message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anybroker_broker_pubsub.connection import ACKNOWLEDGE, MODIFY, AcknowledgeRequest, ModifyRequest
from anybroker_broker_pubsub.errors import NotThere, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker_broker_pubsub.connection import Call, Connection

BATCH = 1000
"""Ack ids of a request; 512 KiB is the limit ("Quotas and limits"), and an ack id has about 200 bytes."""
ROUNDS = 4
"""How often a part of a request is tried that was refused for the moment."""
_FOR_GOOD = "PERMANENT_FAILURE"


def acknowledge(connection: Connection, subscription: str, ack_ids: Sequence[str]) -> list[bool]:
    """Remove messages; False where Pub/Sub says that the lease was lost."""

    def start(ids: Sequence[str]) -> Call:
        return connection.start(ACKNOWLEDGE, AcknowledgeRequest(subscription=subscription, ack_ids=ids))

    return _in_batches(start, ack_ids)


def modify(connection: Connection, subscription: str, ack_ids: Sequence[str], seconds: int) -> list[bool]:
    """Hold messages for ``seconds`` from now, 0: give them back. False where Pub/Sub says that the lease was lost."""

    def start(ids: Sequence[str]) -> Call:
        request = ModifyRequest(subscription=subscription, ack_ids=ids, ack_deadline_seconds=seconds)
        return connection.start(MODIFY, request)

    return _in_batches(start, ack_ids)


def _in_batches(start: Callable[[Sequence[str]], Call], ack_ids: Sequence[str]) -> list[bool]:
    starts = range(0, len(ack_ids), BATCH)
    calls = [(begin, start(ack_ids[begin : begin + BATCH])) for begin in starts]
    answers: list[bool] = []
    for begin, call in calls:
        answers += _answers(start, ack_ids[begin : begin + BATCH], call)
    return answers


def _answers(start: Callable[[Sequence[str]], Call], ack_ids: Sequence[str], call: Call) -> list[bool]:
    """One answer per message of a request, also of one that was refused in parts."""
    lost: set[str] = set()
    waiting: Sequence[str] = ack_ids
    for turn in range(ROUNDS):
        try:
            call.result()
            break
        except NotThere:  # the subscription is gone, and with it every lease
            lost.update(waiting)
            break
        except Refused as refused:
            if not refused.reasons:
                return _divided(start, ack_ids, lost)
            lost.update(one for one, reason in refused.reasons.items() if reason.startswith(_FOR_GOOD))
            waiting = [one for one in waiting if one in refused.reasons and one not in lost]
            if not waiting:
                break
            if turn == ROUNDS - 1:
                raise
            call = start(waiting)
    return [one not in lost for one in ack_ids]


def _divided(start: Callable[[Sequence[str]], Call], ack_ids: Sequence[str], lost: set[str]) -> list[bool]:
    """A request was refused as a whole, since one ack id is none: find out which."""
    if len(ack_ids) == 1:
        return [False]
    middle = len(ack_ids) // 2
    answers: list[bool] = []
    for part in (ack_ids[:middle], ack_ids[middle:]):
        left: Any = [one for one in part if one not in lost]
        found = dict(zip(left, _answers(start, left, start(left)) if left else (), strict=True))
        answers += [found.get(one, False) for one in part]
    return answers
