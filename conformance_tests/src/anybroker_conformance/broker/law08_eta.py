"""Law 8: no message is delivered before its eta; soon after it, it is; and it blocks none behind it."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from statistics import fmean, median
from typing import TYPE_CHECKING

import msgspec

from anybroker.broker import Message
from anybroker.capabilities import Clock, Lease
from anybroker_conformance.broker.consuming import affordable, another, batches, drain, ids, replace
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Delivery
    from anybroker_conformance.faults.peer import Peer
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

BULK_SECONDS = 5.0
"""Seconds after which a slow broker has been sent enough messages."""
MICROSECOND = timedelta(microseconds=1)
HOUR, DAY = 3600.0, 86400.0
DELAYS = (
    *(0.001, 0.5, 1.0, 59.999999, 61.0, 255.5, 257.0, 600.0, 15 * 60 - 0.5, 15 * 60 + 1.0, HOUR - 0.25, HOUR + 1.0),
    *(2**32 / 1e6 + 1.0, 12 * HOUR + 1.0, 2**16 + 1.0, DAY - 1.0, DAY + 1.0, 2 * DAY, 7 * DAY + 1.0, 14 * DAY + 1.0),
    *(2**31 / 1e3 - 1.0, 2**31 / 1e3 + 1.0, 30 * DAY - 0.001, 30 * DAY),
)
"""Seconds of delay, on both sides of the limits that services and number formats have."""
WRAPPED = (60, 128, 256, 600, 900, 1024, HOUR, 2**31 / 1e6, 2**32 / 1e6, 12 * HOUR, 2**15, 2**16, DAY, 7 * DAY)
"""Seconds at which a delay may be cut off or begin from zero again; with :data:`MORE_WRAPPED`."""
MORE_WRAPPED = (14 * DAY, 2**24, 2**31 / 1e3, 28 * DAY, 30 * DAY - 0.3)
ZONES = (timedelta(hours=-9, minutes=-30), timedelta(hours=14), timedelta(minutes=19, seconds=32), -timedelta(hours=12))
CLOCKS_APART = 0.006
"""Seconds by which a clock read twice may seem to run backwards: brokers count milliseconds."""
CLOCKS_TELL = 0.002
"""Seconds that the mean of many such differences does not reach."""
FINE = 100
"""Messages of which the mean is taken."""
JITTER = 0.3
"""Seconds that a loaded machine may add to the best of several measurements."""
SHIFT = 3600.0


class Timed(msgspec.Struct, frozen=True):
    """A message that will be due in some seconds."""

    kind: str
    message: Message


class NotBefore:
    """Law 8."""

    def test_law08_eta__to_the_moment(self, subject: Subject) -> None:
        """From a millisecond to 30 days: nothing a microsecond before, everything within the precision after."""
        clock = subject.clock
        if clock is None:
            subject.untested("that a delay of up to 30 days ends in time: the factory takes no clock (connect_by)")
        clock.advance(0.123_457)
        precision = timedelta(seconds=subject.capabilities.delay_precision)
        queues = (subject.queue(), subject.queue("moved"))
        producer = another(subject)
        expected: dict[datetime, list[Message]] = {}
        last = clock.now()
        for delay in DELAYS:
            eta = clock.now() + timedelta(seconds=delay)
            if eta > last + precision:  # else the one cannot be told from the other
                expected[eta] = delayed_in_every_way(subject, producer, eta, queues)
                last = eta + precision
        if producer is not subject.broker:
            producer.close()
        for eta, messages in expected.items():
            clock.advance(eta - MICROSECOND - clock.now())
            early = subject.broker.acquire(queues, limit=100, wait=0, lease=subject.long)
            if early:
                raise LawBroken(f"delivered before its eta, {early[0].message.eta}", early[0].message.id)
            clock.advance(MICROSECOND + precision)
            taken = drain(subject, queues)
            wrong = set(ids(taken)) ^ {one.id for one in messages}
            if wrong:
                raise LawBroken(f"at {eta} + {precision} it should have been delivered, and only then", min(wrong))
        subject.assert_gone(*queues, why="every message was acknowledged")

    def test_law08_eta__a_long_delay_waits_in_the_broker(self, subject: Subject) -> None:
        """Whatever closes meanwhile, and wherever a number may begin from zero again."""
        queues = (subject.queue(), subject.queue("moved"))
        producer = another(subject)
        messages: dict[str, Message] = {}
        began = subject.now()
        for wrapped in (*WRAPPED, *MORE_WRAPPED):
            eta = began + timedelta(seconds=wrapped + 0.3)
            messages |= {one.id: one for one in delayed_in_every_way(subject, producer, eta, queues)}
        if producer is not subject.broker:
            producer.close()
        for _ in range(3):
            subject.advance(0.2)
            subject.assert_nothing(*queues, why="it is due in a minute at the earliest, or in days")
        if subject.capabilities.inspect:
            for queue in queues:
                here = {one.id: one for one in messages.values() if one.queue == queue}
                stats = subject.stats(queue)
                assert (stats.ready, stats.leased, stats.delayed) == (0, 0, len(here)), (
                    f"waiting messages count: {stats}"
                )
                assert stats.oldest is None, "a message that is not ready has an age"
                assert {one.id: one for one in another(subject).peek(queue, limit=1000)} == here

    def test_law08_eta__soon_after(self, realtime: Subject) -> None:
        """A waiting consumer gets each when it is due: in batches, by update, of equal etas, in any time zone."""
        subject = realtime
        bound = subject.capabilities.delay_precision + JITTER
        kind, late = "", 0.0
        for _ in range(3):  # a loaded machine may be late at half of the moments once, but not again and again
            kind, late = max(measure_lateness(subject).items(), key=lambda item: item[1])
            if late <= bound:
                return
        raise LawBroken(f"{kind}: half of them were delivered {late:.3f} s or more after their eta")

    def test_law08_eta__not_a_few_milliseconds_before(self, realtime: Subject) -> None:
        """Also where many etas differ in milliseconds only: rounded down, they would be early by some in the mean."""
        subject, queue = realtime, realtime.queue()
        offset, apart = measure_offset(subject)
        chance = random.Random(subject.suite.seed)  # noqa: S311 (moments)
        steps = [timedelta(milliseconds=15 * n, microseconds=chance.randrange(10_000)) for n in range(FINE)]
        sending = 4 * seconds_of_a_call(subject, [queue])
        updated = hold(subject, [subject.message(queue) for _ in range(FINE // 2)])
        start = subject.now() + timedelta(seconds=offset + 0.2 + sending)
        etas = [start + step for step in steps]
        subject.broker.enqueue([subject.message(queue, eta=eta) for eta in etas[::2]])
        new = [replace(one.message, eta=eta) for one, eta in zip(updated, etas[1::2], strict=True)]
        subject.broker.update(list(zip(updated, new, strict=True)))
        early: dict[str, float] = {}
        while (now := subject.now() + timedelta(seconds=offset)) < etas[-1]:
            left = (etas[-1] - now).total_seconds()
            for one in subject.broker.acquire([queue], limit=10, wait=left, lease=subject.long):
                now = subject.now() + timedelta(seconds=offset)
                if one.message.eta and (before := (one.message.eta - now).total_seconds()) > 0:
                    early[one.message.id] = before
        if len(early) >= FINE / 20 and (mean := fmean(early.values())) > apart / 2 + CLOCKS_TELL:
            raise LawBroken(
                f"{len(early)} of {FINE} were delivered before their etas, by {mean * 1000:.1f} ms in the mean",
                max(early, key=early.__getitem__),
            )

    def test_law08_eta__blocks_none_behind_it(self, subject: Subject) -> None:
        """Hundreds that wait, first in the queue and first in priority, use up no limit and hold nobody back."""
        queue, other = subject.queue(), subject.queue()
        later = subject.now() + timedelta(days=1)
        highest = (subject.capabilities.priorities or (0, 0))[1]
        for _ in range(150):
            subject.put(queue)
        held = subject.take(queue, 150)
        delayed = [replace(one.message, eta=later, priority=highest) for one in held]
        assert subject.broker.update(list(zip(held, delayed, strict=True))) == [True] * 150
        subject.broker.enqueue([subject.message(queue, eta=later, priority=highest) for _ in range(150)])
        subject.broker.enqueue([subject.message(other, eta=later) for _ in range(20)])
        last = [subject.message(queue, b"%d" % n) for n in range(7)]
        subject.broker.enqueue([subject.message(queue, eta=later), *last, subject.message(queue, eta=later)])
        found = subject.take(queue, 1)
        found += subject.broker.acquire([other, queue], limit=6, wait=0 if subject.clock else 1.0, lease=subject.long)
        found += subject.take(queue, 7 - len(found))
        if set(ids(found)) != {one.id for one in last}:
            raise LawBroken("not delivered because of messages that wait for their eta", last[-1].id)
        subject.assert_nothing(queue, other, why="what is left is due tomorrow")
        if subject.capabilities.inspect:
            stats = subject.stats(queue)
            assert (stats.ready, stats.leased, stats.delayed) == (0, 7, 302)

    def test_law08_eta__many_come_due_at_once(self, subject: Subject) -> None:
        """Thousands with one eta, or a microsecond apart, by enqueue and by update: none is lost, none comes twice."""
        queue, staging = subject.queue(), subject.queue("staging")
        sent: list[str] = []
        began = subject.now()
        eta = began + timedelta(seconds=4 * subject.short)
        for size in batches(BULK_SECONDS / 2, many=affordable(subject, BULK_SECONDS, 2500)):
            if not subject.clock:
                eta = max(eta, subject.now() + timedelta(seconds=1))
            messages = [subject.message(queue, b"", eta=eta + n % 2 * n * MICROSECOND) for n in range(size)]
            if size > 65:
                subject.broker.enqueue(messages)
            else:
                held = hold(subject, [replace(one, eta=None, queue=staging) for one in messages])
                assert subject.broker.update(list(zip(held, messages, strict=True))) == [True] * size
            sent += [one.id for one in messages]
        if subject.clock:
            subject.assert_nothing(queue, why="its eta has not come")
        left = max(0.0, (eta - subject.now()).total_seconds())
        subject.advance(left + subject.capabilities.delay_precision + 0.01)
        taken = ids(drain(subject, [queue], expected=sent))
        if missing := set(sent) - set(taken):
            raise LawBroken(f"{len(missing)} of {len(sent)} that came due at once were lost", min(missing))
        twice = [id_ for id_ in taken if taken.count(id_) > 1] if len(taken) != len(sent) else []
        if twice:
            raise LawBroken("delivered twice when it came due", twice[0])
        subject.assert_gone(queue, why="every message was acknowledged")

    def test_law08_eta__a_moment_that_has_passed_is_now(self, subject: Subject) -> None:
        queue = subject.queue()
        now = subject.now()
        past = [now, now - MICROSECOND, now - timedelta(seconds=0.5), now - timedelta(days=400)]
        past += [
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(1969, 7, 20, 20, 17, tzinfo=UTC),
            datetime(1900, 1, 1, tzinfo=UTC),
        ]
        past += [now.astimezone(timezone(zone)) - timedelta(seconds=1) for zone in ZONES]
        messages = {one.id: one for one in (subject.message(queue, eta=eta) for eta in past)}
        subject.broker.enqueue(list(messages.values()))
        subject.advance(0 if not subject.clock else subject.capabilities.delay_precision)
        held = subject.take(queue, len(messages), within=subject.capabilities.delay_precision)
        assert {one.message.id: one.message for one in held} == messages
        pairs = [(one, replace(one.message, eta=now - timedelta(days=n))) for n, one in enumerate(held)]
        assert subject.broker.update(pairs) == [True] * len(held)
        subject.advance(0 if not subject.clock else subject.capabilities.delay_precision)
        again = subject.take(queue, len(messages), within=subject.capabilities.delay_precision)
        assert {one.message.id: one.message.eta for one in again} == {one.message.id: new.eta for one, new in pairs}

    def test_law08_eta__of_the_same_id_again(self, subject: Subject) -> None:
        """An id that is recognised keeps the eta that it has; a second copy has its own."""
        queue = subject.queue()
        eta, later = (subject.now() + timedelta(seconds=seconds) for seconds in (3 * subject.short, 86_400))
        first = [subject.message(queue, b"first", eta=eta) for _ in range(3)]
        subject.broker.enqueue(first)
        etas = (None, later, None)
        again = [replace(one, body=b"second", eta=eta) for one, eta in zip(first, etas, strict=True)]
        subject.broker.enqueue(again[:2])
        subject.broker.enqueue(again[2:])
        due = [] if subject.capabilities.idempotent_enqueue else [again[0], again[2]]
        taken = subject.take(queue, len(due))
        taken += subject.broker.acquire([queue], limit=9, wait=0, lease=subject.long)
        if len(taken) > len(due) and subject.now() < eta - timedelta(seconds=0.1):
            raise LawBroken("delivered before its eta, since its id was enqueued again", taken[-1].message.id)
        subject.advance(3 * subject.short + subject.capabilities.delay_precision + 0.05)
        left = len(due) + len(first) - len(taken)
        taken += subject.take(queue, left, within=subject.capabilities.delay_precision)
        assert sorted(ids(taken)) == sorted(one.id for one in (*due, *first))
        subject.assert_nothing(queue, why="what there is more of is due tomorrow, or was not stored")

    def test_law08_eta__wrong_clocks_of_others(self, realtime: Subject) -> None:
        """Where the server's clock judges, it does not matter that a process is an hour off; else the clocks agree."""
        subject = realtime
        shift = SHIFT if subject.capabilities.clock is Clock.SERVER else 0.0
        with ThreadPoolExecutor(2) as pool:
            ahead, behind = pool.map(lambda by: subject.peer(clock_shift=by), (shift, -shift))
        peers = {"ahead": ahead, "behind": behind}
        queues = {name: (subject.queue(name), subject.queue(f"by-{name}")) for name in peers}
        soon = subject.now() + timedelta(seconds=1.2)
        later = soon + timedelta(minutes=30)
        for name, peer in peers.items():
            for_peer, by_peer = queues[name]
            etas = {"due": None, "soon": soon, "later": later}
            subject.broker.enqueue([subject.message(for_peer, id=f"{id_}-{for_peer}", eta=etas[id_]) for id_ in etas])
            sent = [subject.message(by_peer, id=f"{id_}-{by_peer}", eta=etas[id_]) for id_ in etas]
            peer.call("enqueue", messages=sent)
        for name, peer in peers.items():
            for_peer, by_peer = queues[name]
            in_time(subject, f"to a process whose clock is {name}", for_peer, soon, peer)
            in_time(subject, f"from a process whose clock is {name}", by_peer, soon)


def in_time(subject: Subject, what: str, queue: str, soon: datetime, peer: Peer | None = None) -> None:
    """Of three messages one is delivered at once, one not before ``soon``, and the third not at all."""
    due, soon_id, later = (f"{subject.namespace}.{label}-{queue}" for label in ("due", "soon", "later"))
    wait = 2 + subject.capabilities.delay_precision + PATIENCE
    deadline = time.monotonic() + 3 * wait
    found: list[str] = []
    while not {due, soon_id} <= set(found):
        if peer:
            found += peer.call("acquire", queues=[queue], limit=10, wait=wait)
        else:
            found += ids(subject.broker.acquire([queue], limit=10, wait=wait, lease=subject.long))
        if soon_id in found and subject.now() < soon - timedelta(seconds=CLOCKS_APART):
            raise LawBroken(f"delivered before its eta {what}", soon_id)
        if later in found:
            raise LawBroken(f"delivered half an hour before its eta {what}", later)
        if time.monotonic() > deadline:
            raise LawBroken(f"not delivered, long after its eta, {what}", soon_id if due in found else due)


def delayed_in_every_way(
    subject: Subject, producer: RecordedBroker, eta: datetime, queues: Sequence[str]
) -> list[Message]:
    """Messages that are due at ``eta``: sent alone, at both ends of a batch, updated, moved, in other time zones."""
    queue, moved = queues
    batch = [subject.message(queue, eta=eta) for _ in range(3)]
    zoned = [subject.message(queue, eta=eta.astimezone(timezone(zone))) for zone in ZONES[:2]]
    alone = subject.message(queue, eta=eta)
    producer.enqueue([alone])
    producer.enqueue([*batch, *zoned])
    held = hold(subject, [subject.message(queue) for _ in range(3)])
    new = [
        replace(held[0].message, eta=eta),
        replace(held[1].message, eta=eta, body=b"new"),
        replace(held[2].message, eta=eta, queue=moved),
    ]
    assert subject.broker.update(list(zip(held, new, strict=True))) == [True] * 3
    return [alone, *batch, *zoned, *new]


def hold(subject: Subject, messages: list[Message]) -> list[Delivery]:
    """Enqueue messages that are due, and acquire them; nothing else of their queue is due."""
    subject.broker.enqueue(messages)
    held = {one.message.id: one for one in subject.take(messages[0].queue, len(messages))}
    if early := held.keys() - {one.id for one in messages}:
        raise LawBroken("delivered before its eta", min(early))
    return [held[one.id] for one in messages]


CALLS = 25
"""How many it takes to send what :func:`measure_lateness` sends."""


def measure_lateness(subject: Subject) -> dict[str, float]:
    """Seconds after their etas at which a waiting consumer got the messages of each kind, in the median."""
    queues = (subject.queue(), subject.queue("moved"))
    offset, apart = clock_offset(subject)
    sending = CALLS * seconds_of_a_call(subject, queues)
    start = subject.now() + timedelta(seconds=offset + 0.4 + 100 * apart + sending)
    # At 0, .4, .8, .2 and .6 of a second: whoever counts in whole seconds is early or late at most of them.
    waiting = {
        one.message.id: one
        for n in range(5)
        for one in timed_messages(subject, start + timedelta(seconds=n * 0.4), queues)
    }
    send(subject, list(waiting.values()), queues)
    consuming = subject.now() + timedelta(seconds=offset)
    deadline = start + timedelta(seconds=2 + subject.capabilities.delay_precision + PATIENCE)
    late: dict[str, list[float]] = {}
    while waiting:
        taken = subject.broker.acquire(queues, limit=10, wait=1.0, lease=subject.long)
        now = subject.now() + timedelta(seconds=offset)
        for one in taken:
            timed = waiting.pop(one.message.id, None)
            if timed is None or timed.message.eta is None:
                raise LawBroken(f"delivered twice, or before its eta: {one.message.eta}", one.message.id)
            early = (timed.message.eta - now).total_seconds()
            if early > apart + CLOCKS_APART:
                raise LawBroken(f"{timed.kind}: delivered {early:.3f} s before its eta", timed.message.id)
            lateness = max(0.0, (now - max(timed.message.eta, consuming)).total_seconds() - apart)
            late.setdefault(timed.kind, []).append(lateness)
            subject.figure("eta lateness", lateness)
        if now > deadline and waiting:
            missing = min(waiting.values(), key=lambda timed: timed.message.id)
            raise LawBroken(f"{missing.kind}: not delivered, long after its eta", missing.message.id)
    return {kind: median(measured) for kind, measured in late.items()}


def seconds_of_a_call(subject: Subject, queues: Sequence[str]) -> float:
    """How long one takes here; nothing may fall due before all is sent. The queues exist afterwards."""
    began = 0.0
    for queue in queues:
        subject.put(queue)
        began = time.monotonic()
        subject.broker.ack(subject.take(queue))
    return (time.monotonic() - began) / 2


def timed_messages(subject: Subject, eta: datetime, queues: Sequence[str]) -> list[Timed]:
    """One message of each kind, due at ``eta`` or a few milliseconds later."""
    queue, moved = queues
    zone = timezone(ZONES[eta.microsecond % len(ZONES)])
    tick = timedelta(milliseconds=1, microseconds=501)
    etas = {
        "sent alone": eta,
        "sent by another object": eta + tick,
        "last of a batch": eta + 2 * tick,
        "first of a batch": eta + 3 * tick,
        "in another time zone": (eta + 4 * tick).astimezone(zone),
        "of an equal eta": eta,
        "by update": eta + 5 * tick,
    }
    found = [Timed(kind, subject.message(queue, kind.encode(), eta=due)) for kind, due in etas.items()]
    return [*found, Timed("moved by update", subject.message(moved, eta=eta + 6 * tick))]


def send(subject: Subject, planned: list[Timed], queues: Sequence[str]) -> None:
    """Send each message as its kind says, behind one that is due tomorrow."""
    broker, second = subject.broker, another(subject)
    subject.put(queues[0], eta=subject.now() + timedelta(days=1))
    of = {kind: [one.message for one in planned if one.kind == kind] for kind in (timed.kind for timed in planned)}
    updated = [*of["by update"], *of["moved by update"]]
    held = hold(subject, [replace(one, eta=None, queue=queues[0]) for one in updated])  # while nothing else can be due
    for message in of["sent alone"]:
        broker.enqueue([message])
    for message in of["sent by another object"]:
        second.enqueue([message])
    filler = [subject.message(queues[0], eta=subject.now() + timedelta(days=1)) for _ in range(3)]
    for first, last in zip(of["first of a batch"], of["last of a batch"], strict=True):
        broker.enqueue([first, *filler, last])
        filler = [replace(one, id=f"{one.id}.") for one in filler]
    broker.enqueue([*of["in another time zone"], *of["of an equal eta"]])
    pairs = list(zip(held, updated, strict=True))
    answers = broker.update(pairs[:-1]) + broker.update(pairs[-1:])
    assert all(answers), "update of a valid lease was answered by False"


def clock_offset(subject: Subject) -> tuple[float, float]:
    """Seconds by which the broker's clock is ahead of ours, 0 if it may be ours, and within which that is certain."""
    offset, apart = measure_offset(subject)
    return (0.0 if abs(offset) <= apart / 2 + CLOCKS_APART else offset), apart


def measure_offset(subject: Subject) -> tuple[float, float]:
    """Seconds by which the broker's clock is ahead of ours, to half of the second number: the best of some attempts."""
    if subject.capabilities.clock is Clock.CLIENT or subject.capabilities.lease is Lease.CONNECTION:
        return 0.0, 0.0
    queue = subject.queue("clock")
    subject.put(queue)
    subject.take(queue, lease=subject.long)
    subject.broker.enqueue([subject.message(queue) for _ in range(5)])
    measured = []
    for _ in range(20):
        before = subject.now()
        taken = subject.broker.acquire([queue], limit=1, wait=0.2, lease=subject.long)
        apart = (subject.now() - before).total_seconds()
        if taken:
            theirs = taken[0].lease_until - timedelta(seconds=subject.long)
            measured.append(((theirs - before).total_seconds() - apart / 2, apart))
        if len(measured) == 5:
            break
    return min(measured, key=lambda found: found[1], default=(0.0, WATCH))
