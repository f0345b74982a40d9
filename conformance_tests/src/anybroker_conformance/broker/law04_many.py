"""Law 4, of many leases at once, and of leases that are ended by extending them by nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.capabilities import Lease
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.subject import Subject


class ExpiryOfMany:
    """Law 4: as many as an acquire takes."""

    def test_law04_expiry__of_all_that_one_acquire_took(self, subject: Subject) -> None:
        if subject.capabilities.lease is not Lease.TIMED:
            subject.untested("leases do not run out by time, and the broker declares so")
        queue = subject.queue()
        number = 1200 if subject.clock else 400
        messages = [subject.message(queue) for _ in range(number)]
        subject.broker.enqueue(messages)
        subject.take(queue, number, lease=subject.short)
        subject.expire()
        waiting = {message.id for message in messages}
        while waiting:
            wait = 0.0 if subject.clock else PATIENCE
            taken = subject.broker.acquire([queue], limit=number, wait=wait, lease=subject.long)
            if not taken:
                raise LawBroken(f"{len(waiting)} of {number} never came back", next(iter(waiting)))
            waiting -= {one.message.id for one in taken}

    def test_law04_expiry__extended_by_nothing(self, subject: Subject) -> None:
        """An extend may shorten a lease, down to nothing."""
        if subject.capabilities.lease is not Lease.TIMED:
            subject.untested("leases do not run out by time, and the broker declares so")
        queue = subject.queue()
        message = subject.put(queue)
        held = subject.take(queue)
        if subject.broker.extend(held, lease=0) != [True]:
            raise LawBroken("extend by 0 s answered False with a valid lease", message.id)
        subject.expire(subject.capabilities.min_lease)
        subject.take(queue)
