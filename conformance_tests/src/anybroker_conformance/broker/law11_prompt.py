"""Law 11: a waiting acquire wakes when a message arrives, returns in time, and never busy-loops."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from anybroker.capabilities import Guarantee
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.broker.consuming import another, ids, replace
from anybroker_conformance.broker.waiting import JITTER, WAIT, Waiter
from anybroker_conformance.broker.wakes import wakes_at_once, wakes_in_time
from anybroker_conformance.idleness import assert_idle
from anybroker_conformance.lateness import Lateness
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.faults.peer import Peer
    from anybroker_conformance.subject import Subject

LONG_IDLE = 2.0
"""Seconds after which who polls ever more rarely has become slow."""
APART = 0.06
"""Seconds between consumers that begin to wait: those who poll do not all poll at the same moment."""
CALLS, TURNS = 9, 3
"""Calls of which the median is judged, and how often so many more may be made."""
CROWD = 6
"""Consumers that wait at the same time."""


class Prompt:
    """Law 11."""

    def test_law11_prompt__whatever_wakes_it(self, realtime: Subject) -> None:
        """Enqueue, update, close, the end of an older message's turn: by this object or by another, soon or late."""
        subject = realtime
        bound = subject.capabilities.wake_bound
        late: dict[str, list[float]] = defaultdict(list)
        slow = None
        for idle in (0.05, *[LONG_IDLE] * 3):
            waiting = []
            started = time.monotonic()
            for wake in wakes_at_once(subject):  # one after the other, as consumers come that begin to poll
                waiting.append(wake)
                time.sleep(APART)
                if time.monotonic() - started > APART * len(waiting) + WAIT:
                    raise LawBroken(f"calls do not return while other threads wait in acquire, for {wake.cause}")
            time.sleep(idle)
            # Backwards: who polls has then just looked in vain, and shows how long it takes until it looks again.
            measured: dict[str, float] = {}
            lateness = Lateness()
            while waiting and sum(measured.values()) < WAIT / 2 + len(measured) * bound:
                wake = waiting.pop()
                measured[wake.cause] = wake.lateness(bound)
                lateness.add(measured[wake.cause])
            for cause, seconds in measured.items():
                late[cause].append(seconds)
                subject.figure("wake-up", seconds)
            slow = lateness.excess(bound, share=0.8)
            if idle == LONG_IDLE and not slow and not too_late(late, bound):
                return
        for cause, best in too_late(late, bound).items():
            raise LawBroken(f"{cause}: the waiting acquire returned {best:.3f} s after it at best")
        raise LawBroken(f"after {LONG_IDLE:g} idle seconds {slow}")

    def test_law11_prompt__whatever_falls_due(self, realtime: Subject) -> None:
        """Expiry and eta, also when they were not known yet as the wait began."""
        subject = realtime
        late: dict[str, list[float]] = defaultdict(list)
        bounds: dict[str, float] = {}
        for _ in range(4):
            for wake, bound in wakes_in_time(subject):
                time.sleep(0.1)
                bounds[wake.cause] = bound + subject.capabilities.wake_bound + JITTER
                late[wake.cause].append(wake.lateness(bounds[wake.cause]))
            if all(min(measured) <= bounds[cause] for cause, measured in late.items()):
                return
        for cause, measured in late.items():
            if min(measured) > bounds[cause]:
                raise LawBroken(f"{cause}: the waiting acquire returned {min(measured):.3f} s after it at best")

    def test_law11_prompt__mostly(self, realtime: Subject) -> None:
        """Not only now and then: of messages that arrive one by one, half are in time, in each of two queues."""
        subject, queues = realtime, [realtime.queue(), realtime.queue("last")]
        other = another(subject)
        bound = subject.capabilities.wake_bound
        excess: list[str | None] = []
        for _ in range(TURNS):
            late = {queue: Lateness() for queue in queues}
            for n in range(2 * CALLS):
                queue = queues[n % 2]
                waiter = Waiter(subject.broker, queues, limit=100, lease=subject.long)
                time.sleep(0.02 + 0.017 * (n % 4))
                message = subject.message(queue)
                (other if n % 3 else subject.broker).enqueue([message])
                arrived = time.monotonic()
                taken = waiter.result(bound + PATIENCE)
                assert ids(taken) == [message.id], "an acquire that waited returned without the message that arrived"
                late[queue].add(max(0.0, waiter.ended - arrived))
                subject.figure("wake-up", max(0.0, waiter.ended - arrived))
                subject.broker.ack(taken)
            excess = [one.excess(bound, share=0.5) for one in late.values()]
            if not any(excess):
                return
        raise LawBroken(f"of messages that came one by one, {excess[0] or excess[1]}")

    def test_law11_prompt__every_object(self, realtime: Subject) -> None:
        """Not only the one that was made first."""
        subject = realtime
        objects = [subject.broker, another(subject), another(subject)]
        bound = subject.capabilities.wake_bound + JITTER
        for number, consumer in enumerate(objects):
            queue = subject.queue()
            late: list[float] = []
            while not late or (min(late) > bound and len(late) < TURNS + 1):
                waiter = Waiter(consumer, [queue], lease=subject.long)
                time.sleep(0.1)
                objects[number - 1].enqueue([subject.message(queue)])
                arrived = time.monotonic()
                consumer.ack(waiter.result(bound + PATIENCE))
                late.append(max(0.0, waiter.ended - arrived))
            if min(late) > bound:
                raise LawBroken(f"object {number + 1} of three was woken {min(late):.3f} s after a message, at best")

    def test_law11_prompt__across_processes(self, realtime: Subject) -> None:
        """A message from another process wakes us, ours wakes it, and so does what it gives up."""
        subject, queue, there = realtime, realtime.queue(), realtime.queue("there")
        peer = subject.peer()
        bound = subject.capabilities.wake_bound

        def from_it() -> float:
            waiter = Waiter(subject.broker, [queue], lease=subject.long)
            time.sleep(0.1)
            peer.call("enqueue", messages=[subject.message(queue)])
            arrived = time.monotonic()
            subject.broker.ack(waiter.result(bound + PATIENCE, why="another process had enqueued a message"))
            return waiter.ended - arrived

        def to_it() -> float:
            peer.ask("acquire", queues=[there], wait=WAIT, lease=subject.long)
            time.sleep(0.3)
            subject.put(there)
            arrived = time.monotonic()
            return answered(peer, bound) - arrived

        def given_back() -> float:
            waiter = Waiter(subject.broker, [there], lease=subject.long)
            time.sleep(0.1)
            peer.call("update", body=b"given back")
            arrived = time.monotonic()
            subject.broker.ack(waiter.result(bound + PATIENCE, why="another process had given a message back"))
            return waiter.ended - arrived

        def and_forgotten() -> float:
            late = given_back()
            peer.call("drop")
            return late

        best_of(subject, "a message from another process", from_it)
        late = []
        for _ in range(4):
            late.append((to_it(), and_forgotten()))
            if min(one for one, _ in late) <= bound + JITTER and min(two for _, two in late) <= bound + JITTER:
                break
        best_to, best_back = (min(measured) for measured in zip(*late, strict=True))
        assert best_to <= bound + JITTER, f"another process returned {best_to:.3f} s after our message at best"
        assert best_back <= bound + JITTER, (
            f"woken {best_back:.3f} s after another process gave a message back, at best"
        )
        peer.ask("acquire", queues=[there], wait=PATIENCE, lease=subject.long)
        subject.put(there)
        peer.answer()
        waiter = Waiter(subject.broker, [there], lease=subject.long)
        peer.call("close")
        assert waiter.result(bound + PATIENCE, why="another process that held it had closed")

    def test_law11_prompt__returns_within_the_wait(self, realtime: Subject) -> None:
        """Not later, and not long before: who asks again at once would spin. Also with messages it cannot have."""
        subject = realtime
        slack = subject.capabilities.wait_slack
        queues = undeliverable(subject)
        other = another(subject)
        busy = subject.queue("busy")
        for wait in (0.0, 0.0004, 0.001, 0.25, 1.0):
            late: dict[str, list[float]] = defaultdict(list)
            for _ in range(4):
                waiters = {
                    name: Waiter(broker, asked, wait=wait, lease=subject.long)
                    for name, asked, broker in (
                        ("an empty queue", [subject.queue()], other),
                        ("messages that are not deliverable", queues, subject.broker),
                        ("many queues", [*queues, *(subject.queue() for _ in range(3))], other),
                    )
                    if not late[name] or min(late[name]) > slack + JITTER
                }
                for _ in range(3 if wait > 0.1 else 0):  # what happens elsewhere does not end a wait
                    time.sleep(wait / 5)
                    subject.put(busy)
                for name, waiter in waiters.items():
                    taken = waiter.result(wait + slack + PATIENCE, why=f"its wait of {wait:g} s had begun")
                    if taken:
                        raise LawBroken(f"{name}: something was delivered", taken[0].message.id)
                    assert waiter.elapsed >= 0.9 * wait - 0.01, (
                        f"{name}: returned nothing after {waiter.elapsed:.3f} of {wait:g} s"
                    )
                    late[name].append(waiter.elapsed - wait)
                if all(min(measured) <= slack + JITTER for measured in late.values()):
                    break
            for name, measured in late.items():
                assert min(measured) <= slack + JITTER, f"{name}: {min(measured):.3f} s longer than {wait:g} s, at best"

    def test_law11_prompt__a_wait_of_any_length(self, realtime: Subject) -> None:
        """Longer than 32 bits of milliseconds, or for ever: there is a message at once, or it comes."""
        subject, queue = realtime, realtime.queue()
        for wait in (30 * 86_400.0, float("inf")):
            for there in (True, False):
                message = subject.message(queue)
                if there:
                    subject.broker.enqueue([message])
                waiter = Waiter(subject.broker, [queue], wait=wait, lease=subject.long)
                if not there:
                    time.sleep(WATCH)
                    waiter.raise_error()
                    assert waiter.waiting, f"acquire(wait={wait:g}) did not wait"
                    subject.broker.enqueue([message])
                taken = waiter.result(subject.capabilities.wake_bound + PATIENCE)
                assert ids(taken) == [message.id], f"acquire(wait={wait:g}) returned without the message that was there"
                subject.broker.ack(taken)

    def test_law11_prompt__asked_for_nothing(self, realtime: Subject) -> None:
        """No queue, or no message, can be asked for; what is returned is nothing, in time."""
        subject, queue = realtime, realtime.queue()
        subject.put(queue)
        for queues, limit, wait in (([], 5, 0.0), ([], 5, 0.2), ([queue], 0, 0.0), ([queue], 0, 0.2), ([], 0, 0.1)):
            waiter = Waiter(subject.broker, queues, limit=limit, wait=wait, lease=subject.long)
            assert waiter.result(wait + subject.capabilities.wait_slack + PATIENCE, why="it asked for nothing") == []
        assert len(subject.take(queue)) == 1

    def test_law11_prompt__never_waits_once_it_has_one(self, realtime: Subject) -> None:
        """Although more were asked for, and wherever that one is."""
        subject, queue, last = realtime, realtime.queue(), realtime.queue("last")
        bound = subject.capabilities.wake_bound + subject.capabilities.wait_slack + JITTER
        for queues, number in (([queue], 2), ([queue, last], 1), ([last, queue], 70)):
            fastest = WAIT
            for _ in range(4):
                subject.broker.enqueue([subject.message(queue) for _ in range(number)])
                waiter = Waiter(subject.broker, queues, limit=100, lease=subject.long)
                taken = waiter.result(bound + PATIENCE, why="it could have had a message at once")
                assert taken, "acquire returned without a message that was there"
                subject.broker.ack([*taken, *subject.take(queue, number - len(taken))])
                fastest = min(fastest, waiter.elapsed)
                if fastest <= bound:
                    break
            assert fastest <= bound, f"acquire waited {fastest:.3f} s at best although it had a message"

    def test_law11_prompt__takes_no_longer_than_without_a_wait(self, realtime: Subject) -> None:
        """With a message there, nobody lingers to fill a batch: a wait costs nothing, compared in the same moments."""
        subject, queue = realtime, realtime.queue()
        bound = subject.capabilities.wake_bound + subject.capabilities.wait_slack
        without: list[float] = []
        waiting: list[float] = []
        for _ in range(TURNS):
            for _ in range(CALLS):
                for wait, took in ((0.0, without), (1.0, waiting)):
                    subject.put(queue)
                    waiter = Waiter(subject.broker, [queue], limit=100, wait=wait, lease=subject.long)
                    taken = waiter.result(wait + subject.capabilities.wait_slack + PATIENCE)
                    subject.broker.ack(taken or subject.take(queue))
                    took.append(waiter.elapsed)
            if median(waiting) <= bound + 3 * median(without):
                return
        raise LawBroken(
            f"acquire took {median(waiting):.3f} s with a wait, although a message was there,"
            f" and {median(without):.3f} s without"
        )

    def test_law11_prompt__never_busy_loops(self, realtime: Subject) -> None:
        """An idle wait uses no processor, whatever undeliverable messages it looks at."""
        subject = realtime
        queues = undeliverable(subject)
        for asked in ([subject.queue()], queues, [*queues, subject.queue()]):
            assert_idle(partial(_wait_in_vain, subject, asked))

    def test_law11_prompt__a_crowd_on_one_queue(self, realtime: Subject) -> None:
        """As many messages, as many wake, each with one; nobody is forgotten, and nobody wakes in vain."""
        subject, queue = realtime, realtime.queue()
        other = another(subject)
        brief = Waiter(subject.broker, [queue], limit=1, wait=0.05, lease=subject.long)
        crowd = [Waiter((subject.broker, other)[n % 2], [queue], limit=1, lease=subject.long) for n in range(CROWD)]
        assert brief.result(0.05 + subject.capabilities.wait_slack + PATIENCE, why="its wait was over") == []
        sent = [subject.message(queue, b"%d" % n) for n in range(CROWD)]
        woken = 0
        for producer, messages in (
            (subject.broker, sent[:1]),
            (other, sent[1:4]),
            (subject.broker, sent[4:5]),
            (other, sent[5:]),
        ):
            producer.enqueue(messages)
            woken += len(messages)
            deadline = time.monotonic() + subject.capabilities.wake_bound + PATIENCE
            while sum(not one.waiting for one in crowd) < woken and time.monotonic() < deadline:
                time.sleep(0.005)
            if woken < CROWD:
                time.sleep(WATCH / 3)
            returned = sum(not one.waiting for one in crowd)
            if returned < woken:
                raise LawBroken(
                    f"{woken} messages arrived, and of {CROWD} consumers that waited {returned} woke", messages[-1].id
                )
            for one in crowd:
                one.raise_error()
            if returned > woken and subject.capabilities.exclusive is Guarantee.EXACT:
                raise LawBroken(f"{woken} messages arrived, and of {CROWD} consumers that waited {returned} returned")
        found = [id_ for one in crowd for id_ in ids(one.result())]
        if subject.capabilities.exclusive is Guarantee.EXACT:
            assert sorted(found) == sorted(one.id for one in sent), (
                "each consumer that waited should have got one message"
            )

    def test_law11_prompt__a_crowd_on_many_queues(self, realtime: Subject) -> None:
        """A message wakes who waits for its queue, and not somebody else in their stead."""
        subject = realtime
        queues = [subject.queue() for _ in range(CROWD)]
        waiters = {queue: Waiter(subject.broker, [queue], limit=1, lease=subject.long) for queue in queues}
        last = subject.queue("last")
        both = Waiter(another(subject), [subject.queue(), last], lease=subject.long)
        time.sleep(0.05)
        for queue in (*queues[::-2], *queues[::2]):
            message = subject.put(queue)
            taken = waiters.pop(queue).result(
                subject.capabilities.wake_bound + PATIENCE, why="a message came to its queue"
            )
            assert ids(taken) == [message.id], "an acquire that waited returned without the message that arrived"
            assert all(one.waiting for one in (*waiters.values(), both)), "woken by a message of another queue"
        subject.put(last)
        assert both.result(subject.capabilities.wake_bound + PATIENCE, why="a message came to its second queue")

    def test_law11_prompt__close_ends_the_wait(self, realtime: Subject) -> None:
        """No wait of that object goes on for longer than was asked for; those of others go on."""
        subject, queue = realtime, realtime.queue()
        closing = another(subject)
        queues = [queue, subject.queue()]
        waiters = [Waiter(closing, queues[: 1 + number % 2], lease=subject.long, wait=1.0) for number in range(3)]
        bystander = Waiter(subject.broker, [queue], lease=subject.long) if closing is not subject.broker else None
        time.sleep(0.1)
        closing.close()
        longest = 1.0 + subject.capabilities.wait_slack + PATIENCE
        for waiter in waiters:
            with suppress(BrokerUnavailable):
                taken = waiter.result(longest, why="its broker was closed, and its wait is over")
                assert taken == [], "something was delivered to a closed broker"
        if bystander:
            time.sleep(WATCH / 3)
            assert bystander.waiting, "the close of another object ended its wait"
            message = subject.put(queue)
            declared = subject.capabilities
            taken = bystander.result(declared.wake_bound + declared.transit + PATIENCE)
            assert ids(taken) == [message.id], "the message that arrived went to an object that was closed"


def too_late(late: dict[str, list[float]], bound: float) -> dict[str, float]:
    """The causes after which even the best of the measured waits was too late."""
    return {cause: min(measured) for cause, measured in late.items() if min(measured) > bound + JITTER}


def _wait_in_vain(subject: Subject, queues: list[str]) -> None:
    waiter = Waiter(subject.broker, queues, wait=0.7, lease=subject.long)
    taken = waiter.result(0.7 + subject.capabilities.wait_slack + PATIENCE, why="its wait was over")
    assert not taken, "delivered although it was not deliverable"


def undeliverable(subject: Subject) -> list[str]:
    """Queues full of what nobody can have now: leased, due tomorrow, behind an older one of its key."""
    held, delayed, mixed = subject.queue("held"), subject.queue("delayed"), subject.queue("mixed")
    tomorrow = subject.now() + timedelta(days=1)
    for queue in (held, mixed):
        for _ in range(5):
            subject.put(queue)
        taken = subject.take(queue, 5)
        pairs = [(one, replace(one.message, eta=tomorrow)) for one in taken[:2]]
        assert subject.broker.update(pairs) == [True, True]
    for queue in (delayed, mixed):
        subject.broker.enqueue([subject.message(queue, eta=tomorrow) for _ in range(5)])
    if subject.capabilities.ordering.keyed:
        subject.broker.enqueue([subject.message(mixed, ordering_key="k") for _ in range(3)])
        subject.take(mixed, 1)
    return [held, delayed, mixed]


def best_of(subject: Subject, what: str, measure: Callable[[], float]) -> None:
    """The best of up to four measurements keeps the declared bound."""
    late: list[float] = []
    while len(late) < 4:
        late.append(max(0.0, measure()))
        subject.figure("wake-up", late[-1])
        if len(late) >= 2 and min(late) <= subject.capabilities.wake_bound + JITTER:
            return
    raise LawBroken(f"{what}: the waiting acquire returned {min(late):.3f} s after it at best")


def answered(peer: Peer, bound: float) -> float:
    """When another process, which waits for a message, has got it."""
    taken = peer.answer(within=bound + PATIENCE)
    moment = time.monotonic()
    assert len(taken) == 1, "an acquire that waited returned without the message that arrived"
    return moment
