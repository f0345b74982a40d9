"""Laws 1 and 3, of messages of every kind: what one field does not change, two of them together may."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING

from anybroker.capabilities import Guarantee
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker.broker import Message
    from anybroker_conformance.subject import Subject

SIZES = (0, 1, 1500, 70_000, 300_000)


class Combinations:
    """Sizes, etas, priorities and ordering keys in every combination."""

    def test_law01_durable__every_combination_alone_and_in_one_batch(self, subject: Subject) -> None:
        alone, together = subject.queue(), subject.queue()
        messages = [message for queue in (alone, together) for message in every_combination(subject, queue)]
        for message in messages:
            if message.queue == alone:
                subject.broker.enqueue([message])
        subject.broker.enqueue([message for message in messages if message.queue == together])
        subject.expire()
        for queue in (alone, together):
            sent = {message.id: message for message in messages if message.queue == queue}
            for delivery in subject.take(queue, len(sent)):
                wanted = sent.pop(delivery.message.id, None)
                if wanted is None:
                    raise LawBroken("delivered twice, or never enqueued", delivery.message.id, law="exclusive")
                if delivery.message != wanted:
                    raise LawBroken("came back changed", wanted.id, law="exact")
            if sent:
                raise LawBroken(f"{len(sent)} messages are lost", next(iter(sent)))

    def test_law03_exclusive__every_combination_at_every_delivery(self, subject: Subject) -> None:
        subject.require_timed_leases()
        queue = subject.queue()
        lease = 2 * subject.short
        sent = every_combination(subject, queue)
        subject.broker.enqueue(sent)
        subject.expire()
        for delivery in range(1, 5):
            began = subject.now()
            subject.take(queue, len(sent), lease=lease)
            subject.advance((0.95 if subject.clock else 0.6) * lease)
            early = subject.broker.acquire([queue], limit=1, wait=0, lease=lease)
            passed = (subject.now() - began).total_seconds()
            if early and passed < lease and subject.capabilities.exclusive is Guarantee.EXACT:
                text = f"delivered {passed:.2f} s after delivery {delivery}, which was for {lease:g} s"
                raise LawBroken(text, early[0].message.id)
            subject.expire(lease)


def every_combination(subject: Subject, queue: str) -> list[Message]:
    """A message of every kind that the broker declares to take, each with an ordering key of its own."""
    low, high = subject.capabilities.priorities or (0, 0)
    keyed = subject.capabilities.ordering.keyed
    now = subject.now()
    etas = (None, now - timedelta(days=2), now + timedelta(seconds=subject.short / 2))
    return [
        subject.message(
            queue,
            bytes([number % 256]) * min(size, subject.capabilities.max_body),
            eta=eta,
            priority=priority,
            ordering_key=f"key {number}" if key else None,
        )
        for number, (size, eta, priority, key) in enumerate(
            product(SIZES, etas, sorted({low, 0, high}), (False, True) if keyed else (False,))
        )
    ]
