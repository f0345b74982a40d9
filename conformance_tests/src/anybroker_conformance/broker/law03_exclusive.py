"""Law 3: while a lease is valid nobody else gets the message."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from anybroker.capabilities import Guarantee, Lease
from anybroker_conformance.broker.deliveries import (
    DAYS,
    LEASES,
    NEVER,
    Window,
    another,
    assert_hidden,
    assert_not_early,
    brief,
    collect,
    frequent_switches,
    hold,
    keep,
    lasting,
    moment,
    varied,
    volume,
    watch,
)
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

THREADS = 8
HEARTBEATS = 60
BEAT = 2.0
"""Seconds for which a heartbeat holds a lease, in real time."""


class Exclusive:
    """Law 3."""

    def test_law03_exclusive__hidden_from_everybody(self, subject: Subject) -> None:
        """From the holder itself and from others, alone or among messages, however often they ask."""
        queue = subject.queue()
        other = another(subject)
        messages = [subject.put(queue) for _ in range(12)]
        held = hold(subject, queue, 1, subject.long)
        held |= hold(subject, queue, 11, subject.long, broker=other)
        seen = Counter({one.id: 1 for one in messages})
        for broker in (subject.broker, other, another(subject)) * 3:
            for limit in (1, 100):
                seen.update(_ids(broker, [queue], limit, subject.long))
        subject.broker.enqueue([subject.message(queue) for _ in range(3)])
        seen.update(_ids(subject.broker, [queue, queue], 100, subject.long))
        seen.update(_ids(other, [queue, queue], 100, subject.long))
        _judge(subject, seen)

    def test_law03_exclusive__thousands_once_each(self, subject: Subject) -> None:
        """Two consumers take all, in turns and in portions of all sizes, and nobody gets what the other has."""
        number = min(5000, volume(subject, seconds=10))
        queues = [subject.queue() for _ in range(3)]
        messages = [*chain.from_iterable(varied(subject, queue, number // 3) for queue in queues)]
        for start in range(0, len(messages), 1001):
            subject.broker.enqueue(messages[start : start + 1001])
        brokers = (subject.broker, another(subject))
        expected = {one.id for one in messages}
        twice = [queues[0], queues[1], queues[0], queues[2]]
        found = collect(subject, twice, expected, limits=(1000, 1, 65, 7, 100), brokers=brokers, lease=keep(subject))
        seen = Counter({id_: len(deliveries) for id_, deliveries in found.items()})
        for broker in brokers:
            seen.update(_ids(broker, twice, 1000, subject.long))
        _judge(subject, seen)

    def test_law03_exclusive__whatever_the_length_of_the_lease(self, subject: Subject) -> None:
        """Neither seconds nor days hide less; asked for by acquire or by extend."""
        declared = subject.capabilities
        leases = sorted({min(max(one, declared.min_lease), declared.max_lease, 365 * DAYS) for one in LEASES})
        leases = [one for one in leases if one >= subject.short * 10 or one == declared.max_lease] or [subject.long]
        acquired, extended = subject.queue("acquired"), subject.queue("extended")
        seen: Counter[str] = Counter()
        for lease in leases:
            for queue in (acquired, extended):
                message = subject.put(queue)
                held = hold(subject, queue, 1, lease if queue is acquired else subject.long)
                seen.update(held.keys())
                if queue is extended and message.id in held:
                    subject.broker.extend([held[message.id].delivery], lease=lease)
        for broker in (subject.broker, another(subject)):
            seen.update(_ids(broker, [acquired, extended], 100, subject.long))
        _judge(subject, seen)

    def test_law03_exclusive__until_each_lease_ends(self, subject: Subject) -> None:
        """Leases of different lengths on one queue, taken by two consumers: none gives way before its own end.

        Those of connections do not end by time, and extend says that they hold.
        """
        queue = subject.queue()
        messages = [subject.message(queue) for _ in range(14)]
        subject.broker.enqueue(messages)
        base = brief(subject, 12)
        factors = (1.0, 1.7, 2.0, 3.0, 1.3, 2.4)
        windows: dict[str, Window] = {}
        for broker in (subject.broker, another(subject)):
            for factor in factors:
                held = hold(subject, queue, 1, round(base * factor, 3), broker=broker)
                windows |= {id_: Window(one.window.opens) for id_, one in held.items()}
        last = hold(subject, queue, 14 - len(windows), keep(subject))
        windows |= dict.fromkeys(last, Window())
        watched = watch(subject, [queue], windows, broker=another(subject))
        assert_not_early(subject, watched)
        if subject.capabilities.lease is Lease.CONNECTION:
            mine = [one.delivery for one in last.values()]
            if subject.broker.extend(mine, lease=subject.short) != [True] * len(mine):
                raise LawBroken("extend says that a lease is lost although the connection lives", mine[0].message.id)

    def test_law03_exclusive__until_each_long_lease_ends(self, subject: Subject) -> None:
        """Minutes, hours and days are not cut short."""
        if not subject.clock:  # nor do connections take any: until_each_lease_ends has proven theirs
            subject.untested("leases of minutes to days, which takes as long: the broker takes no clock")
        queue = subject.queue()
        leases = [one for one in LEASES if one <= 0.9 * subject.capabilities.max_lease]
        windows: dict[str, Window] = {}
        for lease in leases:
            subject.put(queue)
            windows |= {id_: Window(one.window.opens) for id_, one in hold(subject, queue, 1, lease).items()}
        assert_not_early(subject, watch(subject, [queue], windows))

    def test_law03_exclusive__as_long_as_it_is_extended(self, subject: Subject) -> None:
        """From the moment of the extend: first, middle and last of a batch, again and again, longer or shorter."""
        queue = subject.queue()
        messages = [subject.message(queue) for _ in range(9)]
        subject.broker.enqueue(messages)
        lease = 3 * brief(subject, 3)
        began = moment(subject)
        held = hold(subject, queue, 9, lease)
        names = list(held)
        windows = {id_: Window(one.window.opens) for id_, one in held.items()}
        for ids, extension in ((names[:5], keep(subject)), (names[5:7], 2 * lease), (names[6:7], keep(subject))):
            started = moment(subject)
            answers = subject.broker.extend([held[id_].delivery for id_ in ids], lease=extension)
            for id_, answer in zip(ids, answers, strict=True):
                if answer:
                    opens = lasting(subject, extension, started, NEVER).opens
                    windows[id_] = Window(opens if extension == 2 * lease else NEVER)
                elif moment(subject) - began < lease and subject.capabilities.fencing is Guarantee.EXACT:
                    raise LawBroken("extend was refused although the lease was valid", id_)
        assert_not_early(subject, watch(subject, [queue], windows, broker=another(subject)))

    def test_law03_exclusive__through_many_heartbeats(self, subject: Subject) -> None:
        """A task takes as long as it takes: days by a clock that leaps, in real time as many heartbeats."""
        subject.require_timed_leases()
        queue = subject.queue()
        message = subject.put(queue)
        lease = subject.long if subject.clock else max(BEAT, subject.short)
        held = subject.take(queue, lease=subject.long)
        until = moment(subject) + subject.long
        for _ in range(HEARTBEATS):
            began = moment(subject)
            if subject.broker.extend(held, lease=lease) != [True]:
                if moment(subject) < until:
                    raise LawBroken("extend was refused although the lease was valid", message.id)
                subject.untested("this machine was too slow: a lease had run out before its heartbeat")
            until = began + lease
            subject.advance(0.9 * lease if subject.clock else 0)
        last = subject.broker.extend(held, lease=subject.long)
        subject.advance(0.9 * subject.long if subject.clock else lease + subject.capabilities.expiry_bound)
        if last == [True]:
            assert_hidden(subject, queue, why="its holder has extended its lease again and again")

    def test_law03_exclusive__whatever_happens_to_others(self, subject: Subject) -> None:
        """A neighbour is acknowledged, updated, extended, enqueued or given back; a third consumer closes."""
        queue, away = subject.queue(), subject.queue("away")
        shared = another(subject)
        messages = [subject.put(queue) for _ in range(10)]
        held = hold(subject, queue, 8, subject.long)
        mine, neighbours = [*held][:4], [*held.values()][4:]
        shared.enqueue([subject.message(queue) for _ in range(2)])
        first, second, third, fourth = (one.delivery for one in neighbours)
        subject.broker.ack([first])
        subject.broker.update([(second, second.message), (third, msgspec.structs.replace(third.message, queue=away))])
        subject.broker.extend([fourth], lease=subject.long)
        if shared is not subject.broker:
            leaver = subject.open()
            leaver.acquire([queue], limit=1, wait=0, lease=subject.long)
            leaver.close()
            subject.open().close()
        if subject.capabilities.inspect:
            shared.remove(queue, mine)
            shared.purge(queue)
            shared.peek(queue, limit=100)
            shared.stats(queue)
        seen = Counter(mine)
        for broker in (subject.broker, shared):
            seen.update(id_ for id_ in _ids(broker, [queue], 100, subject.long) if id_ in mine)
        assert len(messages) > len(mine)
        _judge(subject, seen)
        answers = subject.broker.ack([held[id_].delivery for id_ in mine])
        if subject.capabilities.fencing is Guarantee.EXACT and not all(answers):
            raise LawBroken("the lease was lost although it was valid", mine[answers.index(False)])

    def test_law03_exclusive__threads_that_race(self, subject: Subject) -> None:
        """Threads that acquire at the same moment, from one object or from two, share the messages."""
        queue = subject.queue()
        brokers = (subject.broker, another(subject))
        barrier = threading.Barrier(THREADS)
        rounds = 25 if volume(subject, seconds=10) >= 3000 else 4

        def race(thread: int) -> list[str]:
            taken: list[str] = []
            for turn in range(rounds):
                barrier.wait(60)
                taken += _ids(brokers[thread % 2], [queue], 1 + turn % 3, subject.long)
                if barrier.wait(60) == 0:
                    brokers[0].enqueue([subject.message(queue) for _ in range(THREADS + 2)])
            return taken

        brokers[0].enqueue([subject.message(queue) for _ in range(THREADS)])
        with frequent_switches(), ThreadPoolExecutor(THREADS) as pool:
            seen = Counter(chain.from_iterable(pool.map(race, range(THREADS))))
        assert seen, "nothing was delivered to any thread"
        _judge(subject, seen)

    def test_law03_exclusive__between_processes(self, realtime: Subject) -> None:
        """What another process holds, this one does not get; nor the other way round."""
        queue = realtime.queue()
        messages = [realtime.put(queue) for _ in range(30)]
        peer = realtime.peer()
        seen: Counter[str] = Counter()
        deadline = moment(realtime) + 4 * PATIENCE
        while len(seen) < len(messages) and moment(realtime) < deadline:
            seen.update(peer.call("acquire", queues=[queue], limit=4, wait=0.2, lease=realtime.long))
            seen.update(_ids(realtime.broker, [queue], 4, realtime.long, wait=0.2))
        seen.update(peer.call("acquire", queues=[queue], limit=100, wait=0.2, lease=realtime.long))
        _judge(realtime, seen)
        assert len(seen) == len(messages), f"{len(seen)} of {len(messages)} messages were delivered"


def _ids(broker: RecordedBroker, queues: list[str], limit: int, lease: float, *, wait: float = 0.0) -> Iterable[str]:
    return [one.message.id for one in broker.acquire(queues, limit=limit, wait=wait, lease=lease)]


def _judge(subject: Subject, seen: Counter[str]) -> None:
    """Nothing was delivered twice; where exclusivity is best effort, hardly anything was."""
    twice = [id_ for id_, number in seen.items() if number > 1]
    allowed = 0 if subject.capabilities.exclusive is Guarantee.EXACT else len(seen) // 2
    if len(twice) > allowed:
        raise LawBroken(
            f"{len(twice)} of {len(seen)} messages were delivered {seen[twice[0]]} times under valid leases", twice[0]
        )
