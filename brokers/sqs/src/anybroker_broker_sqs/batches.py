"""Calls about many messages: ten at a time, several at once, and an outcome for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.errors import AnybrokerError, BrokerUnavailable, LeaseLost
from anybroker_broker_sqs.errors import LostInRepetition, of_answer
from anybroker_broker_sqs.options import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anybroker_broker_sqs.connection import Connection
    from anybroker_broker_sqs.envelope import Sendable
    from anybroker_broker_sqs.leases import Lease

Outcomes = list[AnybrokerError | None]
"""For each entry why it failed, or None."""


class Call(msgspec.Struct, frozen=True):
    """One call about at most ten entries."""

    operation: str
    """``SendMessageBatch``, ``DeleteMessageBatch`` or ``ChangeMessageVisibilityBatch``."""
    url: str
    entries: Sequence[dict[str, Any]]
    places: Sequence[int]
    """Of the entries, in the list of all outcomes."""


def send(
    connection: Connection, messages: Sequence[tuple[str, Sendable]], *, limit: int, in_order: bool = False
) -> Outcomes:
    """Send messages to the queues of these URLs; ``limit`` is in bytes a call.

    ``in_order``: one call after the other, as FIFO queues keep the order of arrival; the first failure of a queue is
    also that of what was to follow in later calls, which would have overtaken the message that failed.
    """
    calls: list[Call] = []
    for url, places in _by_url(url for url, _ in messages):
        calls += [
            Call("SendMessageBatch", url, [messages[place][1].entry for place in portion], portion)
            for portion in _portions(places, [sendable.size for _, sendable in messages], limit)
        ]
    return _make(connection, calls, len(messages), in_order=in_order)


def delete(connection: Connection, leases: Sequence[Lease]) -> Outcomes:
    """Delete messages.

    A FIFO queue refuses a receipt handle that has expired, and one whose message is gone. A repeated call that was
    refused while the lease was valid tells that the first one has deleted the message.
    """
    outcomes = _settle(
        connection,
        "DeleteMessageBatch",
        [lease.key for lease in leases],
        lambda place: {"ReceiptHandle": leases[place].handle},
    )
    return [
        None if isinstance(outcome, LostInRepetition) and lease.valid else outcome
        for lease, outcome in zip(leases, outcomes, strict=True)
    ]


def change_visibility(connection: Connection, changes: Sequence[tuple[str, str, int]]) -> Outcomes:
    """Hide messages, by URL and receipt handle, for so many seconds from now."""
    return _settle(
        connection,
        "ChangeMessageVisibilityBatch",
        changes,
        lambda place: {"ReceiptHandle": changes[place][1], "VisibilityTimeout": changes[place][2]},
    )


def _settle(
    connection: Connection, operation: str, items: Sequence[Sequence[Any]], entry: Callable[[int], dict[str, Any]]
) -> Outcomes:
    calls = [
        Call(operation, url, [entry(place) for place in places[start : start + BATCH]], places[start : start + BATCH])
        for url, places in _by_url(item[0] for item in items)
        for start in range(0, len(places), BATCH)
    ]
    return _make(connection, calls, len(items))


def _make(connection: Connection, calls: Sequence[Call], number: int, *, in_order: bool = False) -> Outcomes:
    found: Outcomes = [None] * number
    made = _make_in_order(connection, calls) if in_order else connection.each(partial(_make_one, connection), calls)
    for call, outcomes in zip(calls, made, strict=True):
        for place, outcome in zip(call.places, outcomes, strict=True):
            found[place] = outcome
    return found


def _make_in_order(connection: Connection, calls: Sequence[Call]) -> list[Outcomes]:
    made: list[Outcomes] = []
    failures: dict[str, AnybrokerError | None] = {}
    for call in calls:
        failure = failures.get(call.url)
        outcomes: Outcomes = _make_one(connection, call) if failure is None else [failure] * len(call.places)
        failures[call.url] = next(filter(None, outcomes), None)
        made.append(outcomes)
    return made


def _make_one(connection: Connection, call: Call) -> Outcomes:
    entries = [{"Id": str(number), **entry} for number, entry in enumerate(call.entries)]
    try:
        answer = connection.call(call.operation, QueueUrl=call.url, Entries=entries)
    except AnybrokerError as error:
        return [error] * len(entries)
    name = call.operation.removesuffix("Batch")
    unheard = BrokerUnavailable(f"{connection.where}: {name} was not answered for every message")
    outcomes: Outcomes = [unheard] * len(entries)
    for done in answer.get("Successful", ()):
        outcomes[int(done["Id"])] = None
    for failed in answer.get("Failed", ()):
        outcomes[int(failed["Id"])] = of_answer(failed, name, connection.where)
    if answer["ResponseMetadata"]["RetryAttempts"]:
        return [LostInRepetition(str(one)) if isinstance(one, LeaseLost) else one for one in outcomes]
    return outcomes


def _by_url(urls: Iterable[str]) -> Iterable[tuple[str, list[int]]]:
    """The places of each URL, in order."""
    found: dict[str, list[int]] = {}
    for place, url in enumerate(urls):
        found.setdefault(url, []).append(place)
    return found.items()


def _portions(places: Sequence[int], sizes: Sequence[int], limit: int) -> Iterable[list[int]]:
    """Cut into calls: ten messages at most, and so many bytes together."""
    portion: list[int] = []
    total = 0
    for place in places:
        if portion and (len(portion) == BATCH or total + sizes[place] > limit):
            yield portion
            portion, total = [], 0
        portion.append(place)
        total += sizes[place]
    if portion:
        yield portion
