"""Laws 3, 6 and 7, of one call that is about messages of several queues, as a worker's calls are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from anybroker_conformance.broker.consuming import end_leases, passing_holder, replace
from anybroker_conformance.broker.deliveries import assert_hidden, brief, moment
from anybroker_conformance.broker.law07_update import only_these, update
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker.broker import Delivery, Message
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

EACH = 4
"""Messages of each queue."""


class Together:
    """Messages of three queues, in one call."""

    def test_law03_exclusive__of_every_queue_of_one_acquire(self, subject: Subject) -> None:
        """Those of the last queue are held for as long as those of the first."""
        subject.require_timed_leases()
        queues, _ = three(subject)
        lease = brief(subject, 4)
        began = moment(subject)
        take_all(subject, queues, subject.broker, lease)
        subject.advance(0.6 * lease)
        early = subject.broker.acquire(queues, limit=1, wait=0, lease=lease)
        if early and moment(subject) - began < lease:
            assert_hidden(subject, *queues, why="the leases of one acquire have not ended")
            text = f"delivered {moment(subject) - began:.2f} s after an acquire of three queues for {lease:g} s"
            raise LawBroken(text, early[0].message.id)

    def test_law03_exclusive__extended_in_one_call(self, subject: Subject) -> None:
        """As a heartbeat does: each is held for as long as the call says."""
        subject.require_timed_leases()
        queues, _ = three(subject)
        lease = brief(subject, 4)
        began = moment(subject)
        held = take_all(subject, queues, subject.broker, lease)
        all_true(subject, "extend", subject.broker.extend(held, lease=subject.long), held, began, lease)
        subject.expire(lease)
        assert_hidden(subject, *queues, why="one call has extended the leases of messages of three queues")

    def test_law06_final__of_several_queues_in_one_call(self, subject: Subject) -> None:
        queues, _ = three(subject)
        lease = brief(subject, 4)
        holder = passing_holder(subject)
        began = moment(subject)
        held = take_all(subject, queues, holder, lease)
        all_true(subject, "ack", holder.ack(held), held, began, lease)
        end_leases(subject, holder, lease)
        subject.assert_gone(*queues, why="one call has acknowledged messages of three queues")

    def test_law07_update__of_several_queues_into_one(self, subject: Subject) -> None:
        """As dead letters go: each with its own new body."""
        queues, sent = three(subject)
        dead = subject.queue("dead")
        held = take_all(subject, queues, subject.broker, subject.long)
        new = [replace(one.message, queue=dead, body=b"dead " + sent[one.message.id].body) for one in held]
        answers = update(subject.broker, list(zip(held, new, strict=True)))
        if not all(answers):
            raise LawBroken(f"an update of messages of three queues answered {answers}", held[0].message.id)
        only_these(subject, [dead, *queues], new)


def three(subject: Subject) -> tuple[list[str], dict[str, Message]]:
    """Three queues with messages, and these by id."""
    queues = [subject.queue() for _ in range(3)]
    messages = [subject.message(queue, b"%d" % n) for n, queue in enumerate(queues * EACH)]
    subject.broker.enqueue(messages)
    return queues, {one.id: one for one in messages}


def take_all(subject: Subject, queues: list[str], broker: RecordedBroker, lease: float) -> list[Delivery]:
    """All of the messages, by as few calls as the broker needs."""
    taken: dict[str, Delivery] = {}
    deadline = time.monotonic() + PATIENCE
    while len(taken) < EACH * len(queues):
        more = broker.acquire(queues, limit=EACH * len(queues), wait=0 if subject.clock else 0.2, lease=lease)
        taken |= {one.message.id: one for one in more}
        if not more and (subject.clock or time.monotonic() > deadline):
            raise LawBroken(f"{len(taken)} of {EACH * len(queues)} messages of three queues were delivered")
    return list(taken.values())


def all_true(
    subject: Subject, verb: str, answers: list[bool], held: list[Delivery], began: float, lease: float
) -> None:
    """Each lease was valid."""
    if not all(answers):
        if moment(subject) - began > lease:
            subject.untested("this machine was too slow: a lease had run out before all were taken")
        refused = held[answers.index(False)].message.id
        raise LawBroken(f"{verb} of messages of three queues answered {answers}", refused)
