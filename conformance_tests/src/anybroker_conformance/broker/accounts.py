"""What must be true when all who worked at once have finished: every message is accounted for."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from anybroker.capabilities import Guarantee
from anybroker_conformance.history.checkers import check, forgettable
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_conformance.history.calls import History
    from anybroker_conformance.subject import Subject


def settle_accounts(subject: Subject, queues: Sequence[str], *, within: float = PATIENCE) -> None:
    """Drain the queues, then see that every message of theirs is accounted for.

    ``within``: seconds without a message after which what is missing is lost. What an ``ack`` without an answer has
    left there may rest for as long as ``transit`` declares.
    """
    left = open_accounts(subject.history(), queues)
    within = max(within, subject.capabilities.transit + PATIENCE)
    deadline = time.monotonic() + within
    emptied = False
    while (left or not emptied or _rests(subject, queues)) and time.monotonic() < deadline:
        taken = subject.broker.acquire(list(queues), limit=100, wait=WATCH, lease=subject.long)
        answers = subject.broker.ack(taken)
        left -= {one.message.id for one, gone in zip(taken, answers, strict=True) if gone}
        emptied = not taken
        deadline = time.monotonic() + within if taken else deadline
    judge(subject.history(), subject)
    if left:
        raise LawBroken(f"{len(left)} messages were lost", min(left))
    subject.assert_gone(*queues, why="everything was acknowledged")


def _rests(subject: Subject, queues: Sequence[str]) -> bool:
    declared = subject.capabilities
    return declared.inspect and declared.transit > 0 and any(subject.stats(queue).total for queue in queues)


def open_accounts(history: History, queues: Sequence[str]) -> set[str]:
    """Ids of what was stored in these queues for certain, and not acknowledged for certain nor perhaps."""
    stored, gone = set(), set()
    for call in history.calls:
        for item in call.items:
            if call.verb == "enqueue" and item.content.queue in queues:
                stored |= {item.id} if call.outcome == "ok" or item.id in call.stored else set()
            elif call.verb == "ack" and (item.answer or call.outcome == "unknown"):
                gone.add(item.id)
    return stored - gone


def judge(history: History, subject: Subject) -> None:
    """Find what must never be seen."""
    declared = subject.capabilities
    unheard = any(call.verb == "acquire" and call.outcome == "unknown" for call in history.calls)
    for violation in check(history, declared, drained=False):
        if unheard and violation.law == "order":
            continue  # who was delivered to a call that failed, nobody knows
        raise LawBroken(f"{violation.text} (law {violation.law!r}, under concurrency)", violation.message_id)
    if declared.exclusive is not Guarantee.EXACT or declared.fencing is not Guarantee.EXACT:
        return
    acked = Counter(
        item.id for call in history.calls if call.verb == "ack" for item in call.items if item.answer is True
    )
    sent = Counter(item.id for call in history.calls if call.verb == "enqueue" for item in call.items)
    if declared.update is not Guarantee.EXACT:  # one whose end nobody saw may have left two of it
        cut = [call for call in history.calls if call.verb == "update" and call.outcome == "unknown"]
        sent.update(item.id for call in cut for item in call.items)
    forgotten = forgettable(history.deaths, declared)
    again = [call for call in history.calls if call.verb == "ack" and forgotten(call, float("inf"))]
    sent.update(item.id for call in again for item in call.items)
    for id_, times in acked.items():
        if times > sent[id_]:
            raise LawBroken(f"{times} acks of it answered True, and it was enqueued {sent[id_]} times", id_)
