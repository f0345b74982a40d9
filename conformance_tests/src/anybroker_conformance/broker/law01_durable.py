"""Law 1: after ``enqueue`` returns, the message is delivered at least once, through the death of processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain, cycle
from typing import TYPE_CHECKING

import pytest

from anybroker.capabilities import Durability, Lease
from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_conformance.broker.deliveries import another, brief, collect, frequent_switches, moment, varied, volume
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.broker import Message
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

SIZES = (1, 65, 2, 11, 101, *[1] * 50, 500, 1001, *range(3, 33), 64, 100, 128, 129, 257, 1000, 1024, *[1] * 150, 2049)
"""Of batches: one, and one more than services take at once or adapters may cut at."""
LIMITS = (1000, 1, 65, 10, 11, 500, 100, 64, 7)
ENOUGH = 3000
THREADS = 8
YEAR = 366 * 86400.0


class Durable:
    """Law 1."""

    def test_law01_durable__every_message_of_batches_of_all_sizes(self, subject: Subject) -> None:
        """Not one of thousands is lost: in batches and singly, into full queues and while others are taken out."""
        number = volume(subject)
        queues = [subject.queue() for _ in range(3)]
        messages = [*chain.from_iterable(zip(*(varied(subject, queue, number // 3) for queue in queues), strict=True))]
        broker = subject.broker
        brokers = (broker, another(subject))
        half = len(messages) // 2
        for batch in _batches(messages[:half]):
            broker.enqueue(batch)
        collect(subject, queues, {one.id for one in messages[:half]}, limits=LIMITS, brokers=brokers, ack=True)
        for batch in _batches(messages[half:]):
            broker.enqueue(batch)
            if len(batch) > 1:
                broker.ack(broker.acquire(queues, limit=len(batch) // 2, wait=0, lease=subject.long))
        done = _acknowledged(subject)
        everything = {one.id for one in messages}
        left = everything - done
        collect(subject, queues, left, limits=LIMITS, brokers=brokers, ack=True, known=everything)
        if len(messages) < ENOUGH - 3:
            subject.untested(f"one lost in more than {len(messages)}: that many were sent, and more take too long")

    def test_law01_durable__one_by_one_through_an_empty_queue(self, subject: Subject) -> None:
        """A message that finds its queue new, or just drained, is no exception."""
        queue = subject.queue()
        for _ in range(40):
            message = subject.put(queue)
            collect(subject, [queue], [message.id], ack=True)
        for _ in range(10):
            messages = [subject.put(queue) for _ in range(3)]
            collect(subject, [queue], [one.id for one in messages], limits=(1,), ack=True)

    def test_law01_durable__many_queues(self, subject: Subject) -> None:
        """Batches for thirty queues, new ones and those that hold messages, and each gets its own."""
        queues = [subject.queue() for _ in range(30)]
        messages = [subject.message(queue) for _ in range(3) for queue in queues]
        for start in range(0, len(messages), len(queues)):
            subject.broker.enqueue(messages[start : start + len(queues)])
        for queue in queues:
            collect(subject, [queue], [one.id for one in messages if one.queue == queue], ack=True)

    def test_law01_durable__another_object_gets_it(self, subject: Subject) -> None:
        """What one object stored, another delivers; also after the first was closed."""
        queue = subject.queue()
        reader, writer = subject.open(), subject.open()
        first, second = subject.message(queue, b"kept"), subject.message(queue, b"kept too")
        writer.enqueue([first])
        collect(subject, [queue], [first.id], brokers=[reader], ack=True)
        writer.enqueue([second])
        writer.close()
        collect(subject, [queue], [second.id], brokers=[reader], ack=True)

    def test_law01_durable__however_long_nobody_comes(self, subject: Subject) -> None:
        """Nothing but a settle removes a message: not even a year, whether it was delivered before, or delayed."""
        if not subject.clock:
            subject.untested("that a message stays until somebody comes, which takes a year: the broker takes no clock")
        queue, delayed = subject.queue(), subject.queue()
        lost = subject.put(queue, b"delivered before")
        if subject.capabilities.lease is Lease.TIMED:
            subject.take(queue, lease=subject.short)
        subject.put(queue, b"waiting")
        late = subject.put(delayed, b"delayed", eta=subject.now() + timedelta(days=20))
        subject.advance(YEAR)
        found = {one.message.id for one in subject.take(queue, 2)}
        assert lost.id in found
        assert subject.take(delayed)[0].message == late

    def test_law01_durable__by_an_object_that_was_closed(self, subject: Subject) -> None:
        """It refuses, or what it has taken is delivered."""
        queue = subject.queue()
        closed = subject.open()
        message = subject.message(queue, b"late")
        closed.enqueue([subject.message(queue, b"in time")])
        closed.close()
        try:
            closed.enqueue([message])
        except AnybrokerError:
            return
        collect(subject, [queue], [message.id], ack=True, known=subject.history().ids)

    def test_law01_durable__threads_enqueue_at_once(self, subject: Subject) -> None:
        """Of what several threads store at the same moment, in one object or in several, nothing is lost."""
        queue = subject.queue()
        brokers = [subject.broker, another(subject)]
        barrier = threading.Barrier(THREADS)
        rounds = 30 if volume(subject) >= ENOUGH else 5

        def produce(thread: int) -> list[Message]:
            sent: list[Message] = []
            for turn in range(rounds):
                batch = [subject.message(queue, id=f"{thread}.{turn}.{n}") for n in range(1 + turn % 4)]
                barrier.wait(60)
                brokers[thread % 2].enqueue(batch)
                sent += batch
            return sent

        with frequent_switches(), ThreadPoolExecutor(THREADS) as pool:
            sent = [*chain.from_iterable(pool.map(produce, range(THREADS)))]
        collect(subject, [queue], {one.id for one in sent}, brokers=brokers, ack=True)

    def test_law01_durable__producers_and_consumers_race(self, realtime: Subject) -> None:
        """A message that arrives while others are taken, waited for and acknowledged is delivered."""
        queue = realtime.queue()
        brokers = [realtime.broker, another(realtime)]
        number = 400 if volume(realtime) >= ENOUGH else 60
        messages = [realtime.message(queue) for _ in range(number)]
        done = threading.Event()
        arrived: list[str] = []

        def consume(broker: RecordedBroker) -> None:
            while not done.is_set():
                taken = broker.acquire([queue], limit=3, wait=0.05, lease=realtime.long)
                broker.ack(taken)
                arrived.extend(one.message.id for one in taken)

        def produce(part: list[Message]) -> None:
            for message in part:
                brokers[0].enqueue([message])

        with frequent_switches(), ThreadPoolExecutor(6) as pool:
            consumers = [pool.submit(consume, brokers[n % 2]) for n in range(4)]
            try:
                list(pool.map(produce, (messages[::2], messages[1::2])))
                _wait_for(realtime, number, arrived)
            finally:
                done.set()
        for consumer in consumers:
            consumer.result(30)
        if lost := [one.id for one in messages if one.id not in set(arrived)]:
            raise LawBroken(f"{len(lost)} of {number} messages were lost between producers and consumers", lost[0])

    def test_law01_durable__empty_sequences_are_no_error(self, subject: Subject) -> None:
        """And change nothing."""
        queue = subject.queue()
        message = subject.put(queue)
        broker = subject.broker
        broker.enqueue([])
        assert broker.ack([]) == []
        assert broker.update([]) == []
        assert broker.extend([], lease=subject.long) == []
        assert broker.acquire([], limit=5, wait=0, lease=subject.long) == []
        collect(subject, [queue], [message.id], ack=True)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_law01_durable__a_limit_of_nothing_takes_nothing(self, subject: Subject, limit: int) -> None:
        """And loses nothing."""
        queue = subject.queue()
        message = subject.put(queue)
        assert subject.broker.acquire([queue], limit=limit, wait=0, lease=subject.long) == []
        collect(subject, [queue], [message.id], ack=True)

    def test_law01_durable__a_consumer_that_leaves_without_settling(self, subject: Subject) -> None:
        """Nobody has said that the work is done, so somebody else gets it."""
        queue = subject.queue()
        messages = [subject.put(queue) for _ in range(20)]
        expected = [one.id for one in messages]
        leaver = subject.open()
        collect(subject, [queue], expected, brokers=[leaver])
        leaver.close()
        collect(subject, [queue], expected, ack=True)

    def test_law01_durable__through_the_death_of_producer_and_consumer(self, realtime: Subject) -> None:
        """A process is killed at the moment when its ``enqueue`` has returned; it also held messages of others."""
        queue, theirs = realtime.queue("ours"), realtime.queue("theirs")
        ours = [realtime.put(queue) for _ in range(10)]
        peer = realtime.peer()
        lease = brief(realtime, 10)
        held: list[str] = []
        deadline = moment(realtime) + PATIENCE + lease
        while not held and moment(realtime) < deadline:
            held = peer.call("acquire", queues=[queue], limit=10, wait=1.0, lease=lease)
        sent = [realtime.message(theirs) for _ in range(200)]
        peer.call("enqueue", messages=sent)
        peer.kill()
        if realtime.capabilities.lease is Lease.TIMED:
            realtime.expire(lease)
        collect(realtime, [queue], [one.id for one in ours], ack=True)
        if realtime.capabilities.durability is not Durability.PROCESS:
            collect(realtime, [theirs], [one.id for one in sent], ack=True)

    def test_law01_durable__when_nobody_is_connected(self, subject: Subject) -> None:
        """Messages live in the broker, and not in the objects that use it."""
        queue = subject.queue()
        if subject.capabilities.durability is Durability.PROCESS:
            # the weaker law: as long as one object of the process lives, so do the messages
            opened = subject.open()
            message = subject.message(queue)
            opened.enqueue([message])
            opened.close()
            collect(subject, [queue], [message.id], ack=True)
            return
        messages = [subject.put(queue) for _ in range(20)]
        held = collect(subject, [queue], {one.id for one in messages}, limits=(5,))
        assert held
        subject.broker.close()
        collect(subject, [queue], [one.id for one in messages], brokers=[subject.open()], ack=True)

    @pytest.mark.parametrize("how", ["stop", "kill"])
    def test_law01_durable__through_a_restart_of_the_server(self, realtime: Subject, how: str) -> None:
        """By TERM and by KILL: what was stored is delivered, ready or held by somebody."""
        server = realtime.suite.server
        if server is None:
            realtime.untested("a restart of the server: the suite was not told how (server = ...)")
        queue = realtime.queue()
        messages = [realtime.message(queue, b"%d" % n) for n in range(300)]
        for batch in _batches(messages):
            realtime.broker.enqueue(batch)
        held = realtime.broker.acquire([queue], limit=50, wait=1, lease=realtime.short)
        getattr(server, how)()
        server.start()
        broker = realtime.open()
        deadline = moment(realtime) + 60
        while True:
            try:
                broker.extend(held, lease=realtime.short)
                break
            except BrokerUnavailable:
                assert moment(realtime) < deadline, "the server does not answer a minute after its start"
        new = realtime.message(queue, b"new")
        broker.enqueue([new])
        sent = {one.id for one in messages}
        forgetful = realtime.capabilities.durability is Durability.PROCESS  # then it only has to work again
        realtime.expire()
        collect(realtime, [queue], {new.id} if forgetful else {*sent, new.id}, brokers=[broker], ack=True, known=sent)


def _batches(messages: list[Message]) -> Iterator[list[Message]]:
    sizes, start = cycle(SIZES), 0
    while start < len(messages):
        size = next(sizes)
        yield messages[start : start + size]
        start += size


def _acknowledged(subject: Subject) -> set[str]:
    calls = subject.history().calls
    return {item.id for call in calls if call.verb == "ack" for item in call.items if item.answer}


def _wait_for(subject: Subject, number: int, arrived: list[str]) -> None:
    """Until all have arrived, or none does any more."""
    seen, progress = -1, moment(subject)
    while len(arrived) < number:
        if len(arrived) != seen:
            seen, progress = len(arrived), moment(subject)
        if moment(subject) - progress > PATIENCE + subject.capabilities.wake_bound:
            return
        threading.Event().wait(0.01)
