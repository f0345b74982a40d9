"""Law 3, of leases of different lengths on one queue: each is its own message's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.capabilities import Guarantee, Lease
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.subject import Subject


class LeasesOfDifferentLengths:
    """Law 3: what one consumer asks for does not become another one's lease."""

    def test_law03_exclusive__a_long_lease_beside_short_ones(self, subject: Subject) -> None:
        if subject.capabilities.lease is not Lease.TIMED:
            subject.untested("leases do not run out by time, and the broker declares so")
        before, beside, after = subject.queue(), subject.queue(), subject.queue()
        held = []
        for queue in (before, beside, after):
            subject.broker.enqueue([subject.message(queue), subject.message(queue)])
        for queue, leases in (
            (before, (subject.long, subject.short)),
            (beside, (subject.short, subject.long)),
            (after, (subject.long, subject.long)),
        ):
            taken = [(subject.take(queue, lease=lease)[0], lease) for lease in leases]
            held += [delivery for delivery, lease in taken if lease == subject.long]
        subject.broker.extend(held[-1:], lease=subject.short)
        kept = {delivery.message.id for delivery in held[:-1]}
        subject.expire()
        for queue in (before, beside, after):
            for delivery in subject.take(queue):
                if delivery.message.id in kept and subject.capabilities.exclusive is Guarantee.EXACT:
                    raise LawBroken("its lease was long, and ended with a short one beside it", delivery.message.id)
            subject.assert_nothing(queue, why="the lease of the other message is long")
