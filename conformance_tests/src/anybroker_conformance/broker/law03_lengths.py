"""Law 3, of leases of different lengths on one queue, of many, and of those that were waited for: each is whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from anybroker.capabilities import Guarantee
from anybroker_conformance.broker.deliveries import (
    Window,
    another,
    assert_hidden,
    assert_not_early,
    brief,
    lasting,
    moment,
    watch,
)
from anybroker_conformance.broker.waiting import Waiter
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.subject import Subject

MANY, FEWER = 300, 120
"""Messages of one acquire, more than many a service gives in one answer; fewer where it takes long to send them."""
WAITED_FOR = 3
"""Consumers that wait for a message, each on a queue of its own."""


class LeasesOfDifferentLengths:
    """Law 3: what one consumer asks for does not become another one's lease."""

    def test_law03_exclusive__a_long_lease_beside_short_ones(self, subject: Subject) -> None:
        subject.require_timed_leases()
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

    def test_law03_exclusive__of_all_that_one_acquire_took(self, subject: Subject) -> None:
        """The last as long as the first, however many requests it took."""
        queue = subject.queue()
        lease = brief(subject, 2)
        started = time.monotonic()
        subject.broker.enqueue([subject.message(queue) for _ in range(FEWER)])
        if time.monotonic() - started < 0.2:
            subject.broker.enqueue([subject.message(queue) for _ in range(MANY - FEWER)])
        began = moment(subject)
        taken = subject.broker.acquire([queue], limit=MANY, wait=0.0 if subject.clock else PATIENCE, lease=lease)
        windows = {one.message.id: lasting(subject, lease, began, moment(subject)) for one in taken}
        assert_not_early(subject, watch(subject, [queue], windows, broker=another(subject)))

    def test_law03_exclusive__extended_by_each_object(self, subject: Subject) -> None:
        """Not only by the one that was made first."""
        subject.require_timed_leases()
        queues = [subject.queue() for _ in range(3)]
        subject.broker.enqueue([subject.message(queue) for queue in queues])
        lease = brief(subject, 6)
        began = moment(subject)
        for queue, consumer in zip(queues, (subject.broker, another(subject), another(subject)), strict=True):
            held = subject.take(queue, lease=lease, broker=consumer)
            if consumer.extend(held, lease=subject.long) != [True] and moment(subject) - began < lease:
                raise LawBroken("extend of a valid lease answered False", held[0].message.id)
        if moment(subject) - began > lease:
            subject.untested("this machine was too slow: a lease had run out before all were extended")
        subject.expire(lease)
        assert_hidden(subject, *queues, why="its lease was extended")

    def test_law03_exclusive__no_shorter_than_declared(self, subject: Subject) -> None:
        """A lease for less than ``min_lease`` holds for that long."""
        shortest = subject.capabilities.min_lease
        if shortest == 0:
            return
        subject.require_timed_leases()
        queue = subject.queue()
        message = subject.put(queue)
        began = moment(subject)
        subject.take(queue, lease=shortest / 10)
        subject.advance(0.6 * shortest)
        early = subject.broker.acquire([queue], limit=1, wait=0, lease=subject.long)
        passed = moment(subject) - began
        if early and passed < shortest and subject.capabilities.exclusive is Guarantee.EXACT:
            raise LawBroken(
                f"delivered again after {passed:.2f} s, and no lease is shorter than {shortest:g} s", message.id
            )

    def test_law03_exclusive__after_a_wait(self, realtime: Subject) -> None:
        """A lease begins with its delivery, and not with the call that waited for it."""
        lease = brief(realtime)
        queues = [realtime.queue() for _ in range(WAITED_FOR)]
        waiters = [Waiter(realtime.broker, [queue], lease=lease) for queue in queues]
        time.sleep(0.7 * lease)
        sent = moment(realtime)
        realtime.broker.enqueue([realtime.message(queue) for queue in queues])
        windows: dict[str, Window] = {}
        for waiter in waiters:
            taken = waiter.result(realtime.capabilities.wake_bound + PATIENCE)
            window = lasting(realtime, lease, sent, waiter.ended)
            windows |= {one.message.id: window for one in taken}
        assert_not_early(realtime, watch(realtime, queues, windows, broker=another(realtime)))
