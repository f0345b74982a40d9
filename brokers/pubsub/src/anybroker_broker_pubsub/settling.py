"""Acks and changed deadlines: in batches, and answered for every message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.errors import AnybrokerError
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


def acknowledge(
    connection: Connection, subscription: str, ack_ids: Sequence[str], answers: dict[str, bool] | None = None
) -> dict[str, bool]:
    """Remove messages; returns, by ack id, False where Pub/Sub says that the lease was lost.

    ``answers`` is what is filled and returned: when this raises, it has those that were given.
    """

    def start(ids: Sequence[str]) -> Call:
        return connection.start(ACKNOWLEDGE, AcknowledgeRequest(subscription=subscription, ack_ids=ids))

    return _in_batches(start, ack_ids, {} if answers is None else answers)


def modify(
    connection: Connection,
    subscription: str,
    ack_ids: Sequence[str],
    seconds: int,
    answers: dict[str, bool] | None = None,
) -> dict[str, bool]:
    """Hold messages for ``seconds`` from now, 0: give them back. Answers are those of :func:`acknowledge`."""

    def start(ids: Sequence[str]) -> Call:
        request = ModifyRequest(subscription=subscription, ack_ids=ids, ack_deadline_seconds=seconds)
        return connection.start(MODIFY, request)

    return _in_batches(start, ack_ids, {} if answers is None else answers)


def _in_batches(
    start: Callable[[Sequence[str]], Call], ack_ids: Sequence[str], answers: dict[str, bool]
) -> dict[str, bool]:
    """All requests are on their way together; one that fails does not keep the others from being answered."""
    batches = [ack_ids[begin : begin + BATCH] for begin in range(0, len(ack_ids), BATCH)]
    failed: AnybrokerError | None = None
    for batch, call in [(batch, start(batch)) for batch in batches]:
        try:
            _collect(start, batch, call, answers)
        except AnybrokerError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return answers


def _collect(
    start: Callable[[Sequence[str]], Call], ack_ids: Sequence[str], call: Call, answers: dict[str, bool]
) -> None:
    """Wait for one answer per message of a request, also of one that was refused in parts."""
    for turn in range(ROUNDS):
        try:
            call.result()
        except NotThere:  # the subscription is gone, and with it every lease
            answers |= dict.fromkeys(ack_ids, False)
            return
        except Refused as refused:
            if not refused.reasons:
                _divide(start, ack_ids, answers)
                return
            lost = {one for one, reason in refused.reasons.items() if reason.startswith(_FOR_GOOD)}
            again = [one for one in ack_ids if one in refused.reasons and one not in lost]
            answers |= {one: one not in lost for one in ack_ids if one in lost or one not in refused.reasons}
            if again and turn == ROUNDS - 1:
                raise
            ack_ids = again
        else:
            answers |= dict.fromkeys(ack_ids, True)
            return
        if not ack_ids:
            return
        call = start(ack_ids)


def _divide(start: Callable[[Sequence[str]], Call], ack_ids: Sequence[str], answers: dict[str, bool]) -> None:
    """A request was refused as a whole, since one ack id is none: find out which."""
    if len(ack_ids) == 1:
        answers[ack_ids[0]] = False
        return
    middle = len(ack_ids) // 2
    for part in (ack_ids[:middle], ack_ids[middle:]):
        _collect(start, part, start(part), answers)
