"""Law 4: a message whose lease runs out, or whose holder dies, is available again, with delivery_count one higher."""

from __future__ import annotations

import statistics
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from anybroker.capabilities import Guarantee, Lease
from anybroker.errors import AnybrokerError
from anybroker_conformance.broker.deliveries import (
    LATE,
    LEASES,
    NEVER,
    Window,
    another,
    assert_counted,
    assert_hidden,
    assert_not_early,
    assert_not_late,
    brief,
    collect,
    hold,
    keep,
    lasting,
    lose,
    moment,
    varied,
    volume,
    watch,
)
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker.broker import Delivery
    from anybroker_conformance.broker.deliveries import Watched
    from anybroker_conformance.subject import Subject

SAME_CLOCK = 0.5
"""Seconds by which the clock of a server may differ from ours."""
MANY = 30
"""Messages of one acquire."""
QUORUM = 25
"""Deliveries after which some services would drop a message, or set it aside."""
A_BYTE = 260
"""More than a byte counts."""


class Expiry:
    """Law 4."""

    def test_law04_expiry__each_lease_ends_in_time(self, subject: Subject) -> None:
        """Leases of different lengths, of two consumers, of all kinds of messages: each back by its own bound."""
        if _by_connection(subject):
            _assert_ends_with_its_connection(subject)
            return
        queues = [subject.queue(), subject.queue()]
        messages = {one.id: one for queue in queues for one in varied(subject, queue, 14)}
        subject.broker.enqueue([*messages.values()])
        base = brief(subject, 12)
        windows: dict[str, Window] = {}
        for queue, broker in zip(queues, (subject.broker, another(subject)), strict=True):
            for factor in (1.0, 1.3, 1.7, 2.0, 2.4, 3.0):
                held = hold(subject, queue, 1, round(base * factor, 3), broker=broker)
                windows |= {id_: one.window for id_, one in held.items()}
            windows |= {id_: one.window for id_, one in hold(subject, queue, 4, 2 * base, broker=broker).items()}
            if subject.capabilities.min_lease:
                held = hold(subject, queue, 1, subject.capabilities.min_lease / 2, broker=broker)
                windows |= {id_: one.window for id_, one in held.items()}
        watched = watch(subject, queues, windows)
        assert_not_late(watched)
        for id_ in messages:
            assert_counted(subject, watched.returns[id_][0].delivery, 2 if id_ in windows else 1)

    def test_law04_expiry__each_long_lease_ends_in_time(self, subject: Subject) -> None:
        """Minutes, hours and days later, and not much."""
        if not subject.clock:
            subject.untested("leases of minutes to days, which takes as long: the broker takes no clock")
        queue = subject.queue()
        windows: dict[str, Window] = {}
        for lease in (one for one in LEASES if one <= 0.9 * subject.capabilities.max_lease):
            subject.put(queue)
            windows |= {id_: one.window for id_, one in hold(subject, queue, 1, lease).items()}
        _assert_back(subject, watch(subject, [queue], windows))

    def test_law04_expiry__an_extended_lease_ends_in_time(self, subject: Subject) -> None:
        """So many seconds after the extend: shortened or prolonged, of each in a batch, and again."""
        if _by_connection(subject):
            _assert_ends_with_its_connection(subject, extend=True)
            return
        queue = subject.queue()
        for message in varied(subject, queue, 12):
            subject.broker.enqueue([message])
        base = brief(subject, 3)
        held = hold(subject, queue, 12, subject.long)
        names = list(held)
        windows: dict[str, Window] = {}
        steps = (
            (names[:5], base),
            (names[5:9], subject.long),
            (names[5:9], 1.5 * base),
            (names[9:11], 0.5 * subject.long),
            (names[11:], 2 * base),
        )
        for ids, lease in steps:
            began = moment(subject)
            answers = subject.broker.extend([held[id_].delivery for id_ in ids], lease=lease)
            assert all(answers), "extend was refused although the lease was valid"
            windows |= dict.fromkeys(ids, lasting(subject, lease, began, moment(subject)))
        windows |= dict.fromkeys(names[9:11], Window())
        watched = watch(subject, [queue], windows, broker=another(subject))
        assert_not_late(watched)
        for id_ in names[:9] + names[11:]:
            assert_counted(subject, watched.returns[id_][0].delivery, 2)

    def test_law04_expiry__again_and_again(self, subject: Subject) -> None:
        """A lease can be lost more than once; each delivery counts, of this message and of no other."""
        queue, quiet = subject.queue(), subject.queue("quiet")
        messages = varied(subject, queue, 12)
        subject.broker.enqueue(messages)
        expected = {one.id: 1 for one in messages}
        held_all_the_time = subject.put(quiet)
        never_taken = subject.message(quiet)
        [(_, witness)] = hold(subject, quiet, 1, keep(subject)).items()
        subject.broker.enqueue([never_taken])
        for _ in range(12 if subject.clock else 4):
            for id_, delivery in lose(subject, queue, len(expected)).items():
                assert_counted(subject, delivery, expected[id_])
                expected[id_] += 1
        for id_, one in hold(subject, queue, len(expected), subject.long).items():
            assert_counted(subject, one.delivery, expected[id_])
        [(id_, one)] = hold(subject, quiet, 1, subject.long).items()
        if id_ == held_all_the_time.id and subject.capabilities.exclusive is Guarantee.EXACT:
            raise LawBroken("delivered again although its lease is valid", id_)
        assert_counted(subject, one.delivery, 1)
        assert subject.broker.ack([witness.delivery]) == [True]

    def test_law04_expiry__given_back_many_times(self, subject: Subject) -> None:
        """However often it is delivered, nothing but a settle removes a message."""
        queue = subject.queue()
        message = subject.put(queue, b"patient")
        bystander = subject.put(subject.queue("bystander"))
        times = A_BYTE if subject.clock else QUORUM
        for number in range(1, times + 1):
            holder = subject.open()
            [(_, one)] = hold(subject, queue, 1, subject.long, broker=holder).items()
            assert_counted(subject, one.delivery, number)
            holder.close()
        [(_, one)] = hold(subject, queue, 1, subject.long).items()
        assert one.delivery.message.id == message.id
        assert_counted(subject, one.delivery, times + 1)
        [(_, one)] = hold(subject, bystander.queue, 1, subject.long).items()
        assert_counted(subject, one.delivery, 1)

    def test_law04_expiry__a_new_version_is_counted_from_one(self, subject: Subject) -> None:
        """Its leases run out as those of the first version did."""
        queue = subject.queue()
        for _ in range(4):
            subject.put(queue)
        lost = lose(subject, queue, 4)
        held = hold(subject, queue, 4, subject.long)
        for id_, one in held.items():
            assert id_ in lost
            assert_counted(subject, one.delivery, 2)
        new = [(one.delivery, msgspec.structs.replace(one.delivery.message, body=b"new")) for one in held.values()]
        assert subject.broker.update(new) == [True] * 4
        for number, delivery in enumerate(lose(subject, queue, 4).values()):
            assert_counted(subject, delivery, 1)
            assert number < 4
        for one in hold(subject, queue, 4, subject.long).values():
            assert_counted(subject, one.delivery, 2)

    def test_law04_expiry__each_of_a_batch_is_counted_for_itself(self, subject: Subject) -> None:
        """Those that were delivered before, and those that were not."""
        queue = subject.queue()
        subject.broker.enqueue([subject.message(queue) for _ in range(3)])
        before = lose(subject, queue, 3)
        fresh = [subject.message(queue) for _ in range(3)]
        subject.broker.enqueue(fresh)
        held = collect(subject, [queue], [*before, *(one.id for one in fresh)], limits=(6,))
        for id_, (first, *_) in held.items():
            assert_counted(subject, first, 2 if id_ in before else 1)

    def test_law04_expiry__many_at_once(self, subject: Subject) -> None:
        """Hundreds of leases that end at the same moment: all messages are back."""
        number = 1200 if volume(subject, seconds=6) >= 3000 else 200
        queue = subject.queue()
        messages = varied(subject, queue, number)
        subject.broker.enqueue(messages)
        expected = {one.id for one in messages}
        timed = subject.capabilities.lease is Lease.TIMED
        holder = subject.broker if timed else subject.open()
        held = collect(subject, [queue], expected, brokers=[holder])
        deliveries = [one for found in held.values() for one in found]
        if timed:
            lease = brief(subject)
            assert all(holder.extend(deliveries, lease=lease)), "extend was refused although the lease was valid"
            subject.expire(lease)
        else:
            holder.close()
        back = collect(subject, [queue], expected, limits=(1000, 100))
        for id_, (delivery, *_) in back.items():
            assert_counted(subject, delivery, len(held[id_]) + 1)

    def test_law04_expiry__a_batch_that_was_acquired_at_once(self, subject: Subject) -> None:
        """As many as can be had within half of their lease, in portions, all lost and all back."""
        if _by_connection(subject):
            _assert_ends_with_its_connection(subject)
            return
        queue, lease = subject.queue(), max(1.5, subject.short)
        messages = [subject.message(queue) for _ in range(300)]
        subject.broker.enqueue(messages)
        seen: dict[str, int] = {}
        deadline = moment(subject) + lease / 2
        while moment(subject) < deadline:
            taken = subject.broker.acquire([queue], limit=100, wait=0, lease=lease)
            if not taken:
                break
            seen |= {one.message.id: 1 for one in taken}
        subject.expire(lease)
        for id_, (delivery, *_) in collect(subject, [queue], {one.id for one in messages}).items():
            assert_counted(subject, delivery, seen.get(id_, 0) + 1)

    def test_law04_expiry__close_gives_back_at_once(self, subject: Subject) -> None:
        """All that the object holds, of every queue, extended or not; closing again changes nothing."""
        queues = [subject.queue() for _ in range(3)]
        messages = [subject.message(queue) for queue in queues for _ in range(50)]
        subject.broker.enqueue(messages)
        expected = {one.id for one in messages}
        leaver = subject.open()
        held = collect(subject, queues, expected, brokers=[leaver], limits=(70, 1))
        leaver.extend([found[-1] for found in held.values()][:20], lease=subject.long)
        leaver.close()
        leaver.close()
        back = collect(subject, queues, expected, limits=(1000,))
        for id_, (delivery, *_) in back.items():
            assert_counted(subject, delivery, len(held[id_]) + 1)
        leaver.close()
        assert_hidden(subject, *queues, why="an object that had been closed before was closed again")
        if subject.capabilities.fencing is Guarantee.EXACT:
            answers = subject.broker.ack([found[-1] for found in back.values()])
            assert all(answers), "closing an object once more has taken the leases of others"

    def test_law04_expiry__close_leaves_what_others_hold(self, subject: Subject) -> None:
        """Neither what they hold, nor what they have taken over after the lease of the closed one had ended."""
        queue, taken_over = subject.queue(), subject.queue("over")
        messages = [subject.put(queue), subject.put(queue), subject.put(taken_over)]
        leaver = subject.open()
        held = hold(subject, queue, 1, subject.long)
        theirs = hold(subject, queue, 1, subject.long, broker=leaver)
        if subject.capabilities.lease is Lease.TIMED:
            lease = brief(subject)
            hold(subject, taken_over, 1, lease, broker=leaver)
            subject.expire(lease)
        held |= hold(subject, taken_over, 1, subject.long)
        leaver.close()
        back = collect(subject, [queue, taken_over], list(theirs), known=list(held))
        exact = subject.capabilities.exclusive is Guarantee.EXACT
        if (wrong := [id_ for id_ in held if id_ in back]) and exact:
            raise LawBroken("close of another object has given up a valid lease", wrong[0])
        assert_hidden(subject, queue, taken_over, why="all is held by an object that was not closed")
        assert len(held) + len(theirs) == len(messages)
        assert all(subject.broker.ack([one.delivery for one in held.values()]))

    def test_law04_expiry__close_does_not_undo_a_settle(self, subject: Subject) -> None:
        """What was acknowledged stays away; what was updated is there once, as the new version."""
        queue = subject.queue()
        for _ in range(6):
            subject.put(queue, b"old")
        leaver = subject.open()
        held = [one.delivery for one in hold(subject, queue, 6, subject.long, broker=leaver).values()]
        assert leaver.ack(held[:3]) == [True] * 3
        new = [(one, msgspec.structs.replace(one.message, body=b"new")) for one in held[3:]]
        assert leaver.update(new) == [True] * 3
        leaver.close()
        back = hold(subject, queue, 3, subject.long)
        for one in back.values():
            assert one.delivery.message.body == b"new", "the old version came back after its update"
            assert_counted(subject, one.delivery, 1)
        if again := [one.message.id for one in held[:3] if one.message.id in back]:
            raise LawBroken("close brought back a message that was acknowledged", again[0])
        assert_hidden(subject, queue, why="the others were acknowledged before the close")

    def test_law04_expiry__close_of_what_was_never_used(self, subject: Subject) -> None:
        """Or holds nothing any more."""
        subject.open().close()
        queue = subject.queue()
        message = subject.put(queue)
        user = subject.open()
        assert user.acquire([subject.queue("empty")], limit=1, wait=0, lease=subject.long) == []
        user.close()
        with suppress(AnybrokerError):  # a closed object may refuse, and must not take
            user.acquire([queue], limit=1, wait=0, lease=subject.long)
        collect(subject, [queue], [message.id], ack=True)

    def test_law04_expiry__lease_until_tells_when(self, subject: Subject) -> None:
        """So many seconds from now, for each of a batch, for every length."""
        declared = subject.capabilities
        queue = subject.queue()
        wanted = (subject.short, 20, 60, 90, 600, 3600, 7200, 43_200)
        leases = sorted({min(max(one, declared.min_lease), declared.max_lease) for one in wanted})
        subject.broker.enqueue([subject.message(queue) for _ in range(MANY * len(leases))])
        tolerance = 0.05 if subject.clock else SAME_CLOCK
        for lease in leases:
            before = subject.now()
            taken: list[Delivery] = []
            while not taken:
                before = subject.now()
                taken = subject.broker.acquire([queue], limit=MANY, wait=0.0, lease=lease)
            after = subject.now()
            for one in taken:
                earliest = (one.lease_until - before).total_seconds() - (0 if _by_connection(subject) else lease)
                latest = 0 if _by_connection(subject) else (one.lease_until - after).total_seconds() - lease
                if earliest < -tolerance or latest > tolerance:
                    raise LawBroken(
                        f"lease_until is {one.lease_until}, taken for {lease:g} s between {before} and {after}",
                        one.message.id,
                    )
            subject.broker.ack(taken)

    def test_law04_expiry__a_waiting_consumer_gets_it(self, realtime: Subject) -> None:
        """While it waits, when the lease of somebody else ends: within the bound, measured several times."""
        queue = realtime.queue()
        late: list[float] = []
        for _ in range(3):
            message = realtime.put(queue)
            holder = realtime.open() if _by_connection(realtime) else realtime.broker
            [(_, held)] = hold(realtime, queue, 1, brief(realtime), broker=holder).items()
            closing = threading.Timer(0.3, holder.close)
            closes = held.window.closes
            if _by_connection(realtime):
                closing.start()
                closes = moment(realtime) + 0.3 + realtime.capabilities.expiry_bound
            taken: list[Delivery] = []
            while not taken and (left := closes + PATIENCE - moment(realtime)) > 0:
                taken = another(realtime).acquire([queue], limit=1, wait=left, lease=realtime.long)
            if not taken:
                raise LawBroken("a waiting acquire never got a message whose lease had ended", message.id)
            late.append(moment(realtime) - closes)
            closing.cancel()
        if statistics.median(late) > LATE + realtime.capabilities.wake_bound:
            raise LawBroken(f"waiting consumers got messages {statistics.median(late):.2f} s later than expiry_bound")

    def test_law04_expiry__of_a_holder_that_was_killed(self, realtime: Subject) -> None:
        """SIGKILL: all that the process held is back, each within the bound, and was counted."""
        queue = realtime.queue()
        messages = [realtime.message(queue) for _ in range(12)]
        realtime.broker.enqueue(messages)
        peer = realtime.peer()
        base = 2 * brief(realtime, len(messages))
        windows: dict[str, Window] = {}
        deadline = moment(realtime) + PATIENCE + 2 * base
        while len(windows) < len(messages) and moment(realtime) < deadline:
            lease = base * (1 + len(windows) / len(messages))
            began = moment(realtime)
            ids = peer.call("acquire", queues=[queue], limit=1, wait=0.2, lease=lease)
            windows |= dict.fromkeys(ids, lasting(realtime, lease, began, moment(realtime)))
        peer.kill()
        died = moment(realtime)
        if realtime.capabilities.lease is Lease.CONNECTION:
            windows = dict.fromkeys(windows, Window(died, died + realtime.capabilities.expiry_bound))
        watched = watch(realtime, [queue], windows)
        assert_not_late(watched)
        for id_, window in windows.items():
            [first, *_] = watched.returns[id_]
            assert_counted(realtime, first.delivery, 2)
            ended = window.closes - realtime.capabilities.expiry_bound
            realtime.figure("redelivery after SIGKILL", max(0.0, first.at - ended))

    def test_law04_expiry__of_a_process_that_stands_still(self, realtime: Subject) -> None:
        """SIGSTOP: its leases run out like any other; those of connections hold until it is dead."""
        queue = realtime.queue()
        messages = [realtime.put(queue) for _ in range(3)]
        peer = realtime.peer()
        lease = brief(realtime, 3)
        held: set[str] = set()
        deadline = moment(realtime) + PATIENCE + lease
        while len(held) < len(messages) and moment(realtime) < deadline:
            held.update(peer.call("acquire", queues=[queue], limit=3, wait=0.2, lease=lease))
        peer.pause()
        stopped = moment(realtime)
        closes = stopped + lease + realtime.capabilities.expiry_bound
        if realtime.capabilities.lease is Lease.CONNECTION:
            peer.kill()
            closes = moment(realtime) + realtime.capabilities.expiry_bound
        watched = watch(realtime, [queue], dict.fromkeys(held, Window(stopped, closes)))
        assert_not_late(watched)
        for one in messages:
            assert_counted(realtime, watched.returns[one.id][0].delivery, 2)


def _assert_ends_with_its_connection(subject: Subject, *, extend: bool = False) -> None:
    """The weaker law: no time ends a lease, and its connection does, for all that it held."""
    queue = subject.queue()
    subject.broker.enqueue(varied(subject, queue, 14))
    holder = subject.open()
    held = hold(subject, queue, 14, subject.short, broker=holder)
    if extend:
        answers = holder.extend([one.delivery for one in held.values()], lease=subject.short)
        assert all(answers), "extend says that a lease is lost although the connection lives"
    watched = watch(subject, [queue], dict.fromkeys(held, Window()))
    assert_not_early(subject, watched)
    holder.close()
    closed = moment(subject)
    windows = dict.fromkeys(held, Window(closed, closed + subject.capabilities.expiry_bound))
    _assert_back(subject, watch(subject, [queue], windows))


def _by_connection(subject: Subject) -> bool:
    return subject.capabilities.lease is Lease.CONNECTION


def _assert_back(subject: Subject, watched: Watched) -> None:
    assert_not_late(watched)
    for id_, window in watched.windows.items():
        if window.closes != NEVER:
            assert_counted(subject, watched.returns[id_][0].delivery, 2)
