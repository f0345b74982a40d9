"""Law 4, of many leases at once, of leases of no length, and of those that were waited for."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from anybroker_conformance.broker.waiting import Waiter
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.subject import Subject

WAITED = 1.0
"""Seconds for which a delivery is waited for."""
RESOLUTION = timedelta(seconds=0.5)
"""Of what tells when a lease ends: some tell it in whole seconds."""


class ExpiryOfMany:
    """Law 4: as many as an acquire takes."""

    def test_law04_expiry__of_all_that_one_acquire_took(self, subject: Subject) -> None:
        subject.require_timed_leases()
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
        subject.require_timed_leases()
        queue = subject.queue()
        message = subject.put(queue)
        held = subject.take(queue)
        if subject.broker.extend(held, lease=0) != [True]:
            raise LawBroken("extend by 0 s answered False with a valid lease", message.id)
        subject.expire(subject.capabilities.min_lease)
        subject.take(queue)

    def test_law04_expiry__acquired_for_nothing(self, subject: Subject) -> None:
        """A lease of 0 s is one of 0 s, or the shortest that is declared, and no other that somebody prefers."""
        subject.require_timed_leases()
        queue = subject.queue()
        subject.put(queue)
        wait = 0.0 if subject.clock else PATIENCE
        assert subject.broker.acquire([queue], limit=1, wait=wait, lease=0), "a message was not delivered for 0 s"
        subject.expire(subject.capabilities.min_lease)
        subject.take(queue)

    def test_law04_expiry__lease_until_after_a_wait(self, realtime: Subject) -> None:
        """It tells when the lease ends, which begins with the delivery and not with the call that waited for it."""
        realtime.require_timed_leases()
        queue = realtime.queue()
        realtime.put(queue)
        [at_once] = realtime.take(queue)
        ahead = at_once.lease_until - realtime.now()  # at least so far is its end ahead of a call that has just ended
        waiter = Waiter(realtime.broker, [queue], lease=realtime.long)
        time.sleep(WAITED)
        sent = realtime.now()
        realtime.put(queue)
        for one in waiter.result(realtime.capabilities.wake_bound + PATIENCE):
            if one.lease_until < sent + ahead - RESOLUTION:
                late = (sent + ahead - one.lease_until).total_seconds()
                raise LawBroken(f"lease_until is {late:.3f} s before the lease can end", one.message.id)
