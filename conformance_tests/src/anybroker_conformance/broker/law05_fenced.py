"""Law 5: a settle or an extend with a lost lease changes nothing and says so, even if someone else holds it.

Where fencing is best effort, a stale settle may win; but when it is said to have been refused, it has changed nothing.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.broker import Delivery
from anybroker.capabilities import Guarantee, Lease
from anybroker.errors import AnybrokerError
from anybroker_conformance.broker.deliveries import (
    Window,
    assert_counted,
    assert_hidden,
    assert_not_early,
    assert_not_late,
    brief,
    collect,
    frequent_switches,
    hold,
    keep,
    lose,
    moment,
    watch,
)
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

    Verb = Callable[[RecordedBroker, Sequence[Delivery], str], list[bool]]

STALE = b"a stale update wrote this"
LARGE = 150
"""Deliveries in one call: more than services take at once."""


def _move(broker: RecordedBroker, deliveries: Sequence[Delivery], queue: str) -> list[bool]:
    return broker.update([(one, msgspec.structs.replace(one.message, body=STALE, queue=queue)) for one in deliveries])


def _rewrite(broker: RecordedBroker, deliveries: Sequence[Delivery], _: str) -> list[bool]:
    return broker.update([(one, msgspec.structs.replace(one.message, body=STALE)) for one in deliveries])


def _shortest(broker: RecordedBroker) -> float:
    return max(0.2, broker.capabilities.min_lease)


VERBS: dict[str, Verb] = {
    "ack": lambda broker, deliveries, _: broker.ack(deliveries),
    "update": _rewrite,
    "update to another queue": _move,
    "long extend": lambda broker, deliveries, _: broker.extend(
        deliveries, lease=min(3600.0, broker.capabilities.max_lease / 2)
    ),
    "short extend": lambda broker, deliveries, _: broker.extend(deliveries, lease=_shortest(broker)),
}
"""What may be tried with a stale delivery; the text is a queue of which nobody else knows."""
SETTLES = ("ack", "update", "update to another queue")


class Stale(msgspec.Struct, frozen=True):
    """Messages held by somebody under new leases, and the lost leases of each."""

    queue: str
    elsewhere: str
    lost: dict[str, list[Delivery]]
    """By message id."""
    fresh: dict[str, Delivery]
    """By message id; who holds it now."""
    holder: Any = None
    """The object that holds them, where it is another one than the subject's."""


class Fenced:
    """Law 5."""

    def test_law05_fenced__after_redelivery(self, subject: Subject) -> None:
        """The holder was too slow, and it or another one has the message again."""
        stale = _redelivered(subject, generations=1)
        _assert_fenced(subject, stale, subject.broker)

    def test_law05_fenced__after_redelivery_to_another_object(self, subject: Subject) -> None:
        """The holder was too slow, and somebody else has the message."""
        stale = _redelivered(subject, generations=1, holder=subject.open())
        _assert_fenced(subject, stale, subject.broker)

    def test_law05_fenced__after_several_redeliveries(self, subject: Subject) -> None:
        """Neither the last lease but one counts, nor any before."""
        stale = _redelivered(subject, generations=3)
        _assert_fenced(subject, stale, subject.broker)

    def test_law05_fenced__after_ack(self, subject: Subject) -> None:
        """Nothing brings an acknowledged message back."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        lost = _taken(subject, queue, len(VERBS))
        assert subject.broker.ack([*lost.values()]) == [True] * len(lost)
        if not _try_each(subject, subject.broker, {id_: [one] for id_, one in lost.items()}, elsewhere):
            subject.advance(_shortest(subject.broker) + subject.capabilities.expiry_bound)
            subject.assert_gone(queue, elsewhere, why="it was acknowledged before")

    def test_law05_fenced__after_update(self, subject: Subject) -> None:
        """The old lease does not reach the new version: not while it waits, not while it is held."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        lost = _taken(subject, queue, len(VERBS))
        new = {id_: msgspec.structs.replace(one.message, body=b"new") for id_, one in lost.items()}
        assert subject.broker.update([(lost[id_], new[id_]) for id_ in lost]) == [True] * len(lost)
        stale = {id_: [one] for id_, one in lost.items()}
        if _try_each(subject, subject.broker, stale, elsewhere):
            return
        fresh = {id_: one.delivery for id_, one in hold(subject, queue, len(lost), subject.long).items()}
        for id_, one in fresh.items():
            if one.message != new[id_]:
                raise LawBroken("a settle with the lease of an old version was refused and changed the new one", id_)
        _assert_fenced(subject, Stale(queue, elsewhere, stale, fresh), subject.broker)

    def test_law05_fenced__after_update_to_another_queue(self, subject: Subject) -> None:
        """Nor does it reach the message where it has gone, and was delivered."""
        queue, target = subject.queue(), subject.queue("target")
        lost = _taken(subject, queue, len(VERBS))
        moved = [(one, msgspec.structs.replace(one.message, queue=target, body=b"moved")) for one in lost.values()]
        assert subject.broker.update(moved) == [True] * len(lost)
        fresh = {id_: one.delivery for id_, one in hold(subject, target, len(lost), subject.long).items()}
        stale = Stale(target, queue, {id_: [one] for id_, one in lost.items()}, fresh)
        _assert_fenced(subject, stale, subject.broker)

    def test_law05_fenced__the_id_is_used_again(self, subject: Subject) -> None:
        """A lease belongs to one message, not to its id: whether the next one waits or is held."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        lost = _taken(subject, queue, len(VERBS))
        assert subject.broker.ack([*lost.values()]) == [True] * len(lost)
        again = {id_: msgspec.structs.replace(one.message, body=b"again") for id_, one in lost.items()}
        subject.broker.enqueue([*again.values()])
        stale = {id_: [one] for id_, one in lost.items()}
        if _try_each(subject, subject.broker, stale, elsewhere):
            return
        fresh = {id_: one.delivery for id_, one in hold(subject, queue, len(lost), subject.long).items()}
        for id_, one in fresh.items():
            if one.message != again[id_]:
                raise LawBroken("a settle with the lease of an older message of the same id changed the new one", id_)
            assert_counted(subject, one, 1)
        _assert_fenced(subject, Stale(queue, elsewhere, stale, fresh), subject.broker)

    def test_law05_fenced__after_close(self, subject: Subject) -> None:
        """What was given up is lost: before anybody else has it, and while somebody else has it."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        leaver = subject.open()
        lost = _taken(subject, queue, len(VERBS), broker=leaver)
        leaver.close()
        stale = {id_: [one] for id_, one in lost.items()}
        if _try_each(subject, subject.broker, stale, elsewhere):
            return
        fresh = {id_: one.delivery for id_, one in hold(subject, queue, len(lost), subject.long).items()}
        for id_, one in fresh.items():
            if one.message != lost[id_].message:
                raise LawBroken("a settle with a lease that was given up was refused and changed the message", id_)
        if not _try_each(subject, leaver, stale, elsewhere, closed=True):
            _assert_fenced(subject, Stale(queue, elsewhere, stale, fresh), subject.broker)

    def test_law05_fenced__the_new_lease_keeps_its_length(self, subject: Subject) -> None:
        """A stale extend, refused, neither cuts the lease of the new holder nor prolongs it, nor counts."""
        stale = _redelivered(subject, generations=1, lease=keep(subject))
        ids = [*stale.lost]
        subject.broker.ack([stale.fresh.pop(ids[4])])
        lease = brief(subject, 2)
        before = moment(subject)
        assert all(subject.broker.extend([stale.fresh[id_] for id_ in ids[:2]], lease=lease))
        won = [
            id_
            for id_, verb in zip(ids, ("long extend", "update", "short extend", "short extend"), strict=False)
            if VERBS[verb](subject.broker, stale.lost[id_], stale.elsewhere) != [False]
        ]
        _assert_none_won(subject, won, "extend or update")
        ended = moment(subject)
        if subject.capabilities.lease is Lease.CONNECTION or won:
            return
        closes = ended + lease + subject.capabilities.expiry_bound
        windows = {id_: Window(before + lease - 0.02, closes) for id_ in ids[:2]} | dict.fromkeys(ids[2:4], Window())
        watched = watch(subject, [stale.queue], windows)
        assert_not_early(subject, watched)
        assert_not_late(watched)
        for id_ in ids[:2]:
            assert_counted(subject, watched.returns[id_][0].delivery, 3)

    def test_law05_fenced__one_answer_that_then_holds(self, subject: Subject) -> None:
        """A lease has run out and nobody else has the message yet: honoured or refused, but not half."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        names = [*VERBS][:4]
        messages = {one.id: one for one in (subject.put(queue, b"original") for _ in names)}
        lost = lose(subject, queue, len(names))
        answers = {
            id_: (verb, VERBS[verb](subject.broker, [lost[id_]], elsewhere) == [True])
            for id_, verb in zip(messages, names, strict=True)
        }
        if subject.capabilities.fencing is Guarantee.EXACT:
            for id_, (verb, honoured) in answers.items():
                if not honoured and subject.broker.ack([lost[id_]]) != [False]:
                    raise LawBroken(f"{verb} with this lease was refused as lost, and then ack was honoured", id_)
        queues = {"update": queue, "update to another queue": elsewhere}
        back = {id_: queues.get(verb, queue) if ok else queue for id_, (verb, ok) in answers.items()}
        held = {id_ for id_, (verb, ok) in answers.items() if ok and verb == "long extend"}
        gone = {id_ for id_, (verb, ok) in answers.items() if ok and verb == "ack"}
        available = [id_ for id_ in messages if id_ not in held | gone]
        found = collect(subject, [queue, elsewhere], available, known=[*messages])
        for id_ in messages:
            verb, honoured = answers[id_]
            said = f"{verb} with a lease that had run out was {'honoured' if honoured else 'refused'}"
            if id_ in found and id_ in held | gone:
                raise LawBroken(f"{said}, and yet the message was delivered", id_)
            for one in found.get(id_, ()):
                new = honoured and verb.startswith("update")
                if (one.message.body == STALE) != new or one.message.queue != back[id_]:
                    raise LawBroken(f"{said}, and yet the {'old' if new else 'new'} version was delivered", id_)
        assert_hidden(subject, queue, elsewhere, why="all that was available is held")
        if held and subject.capabilities.fencing is Guarantee.EXACT:
            assert subject.broker.ack([lost[id_] for id_ in held]) == [True] * len(held)

    def test_law05_fenced__an_expired_message_that_was_removed(self, subject: Subject) -> None:
        """Its lease is no way back."""
        if not subject.capabilities.inspect:
            subject.untested("a message removed while a lease of it is out: inspect is not declared")
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        for _ in VERBS:
            subject.put(queue)
        lost = lose(subject, queue, len(VERBS))
        assert subject.broker.remove(queue, [*lost]) == [True] * len(lost)
        if not _try_each(subject, subject.broker, {id_: [one] for id_, one in lost.items()}, elsewhere):
            subject.assert_gone(queue, elsewhere, why="it was removed")

    @pytest.mark.parametrize("verb", VERBS)
    def test_law05_fenced__each_of_a_batch_has_its_own_answer(self, subject: Subject, verb: str) -> None:
        """In order, however the valid and the stale are mixed, and whatever the size of the batch."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        held = [*_taken(subject, queue, LARGE).values()]
        stale = [index % 3 == 1 or index in {0, 63, 64, 99, LARGE - 1} for index in range(LARGE)]
        assert all(subject.broker.ack([one for one, is_stale in zip(held, stale, strict=True) if is_stale]))
        answers = VERBS[verb](subject.broker, held, elsewhere)
        for one, is_stale, answer in zip(held, stale, answers, strict=True):
            if not is_stale and not answer:
                raise LawBroken(f"{verb} was refused for a valid lease, in a batch with lost ones", one.message.id)
            if is_stale and answer and subject.capabilities.fencing is Guarantee.EXACT:
                raise LawBroken(f"{verb} was honoured for a lost lease, in a batch with valid ones", one.message.id)
        if subject.capabilities.fencing is not Guarantee.EXACT:
            return
        valid = [one.message.id for one, is_stale in zip(held, stale, strict=True) if not is_stale]
        if verb.startswith("update"):
            found = collect(subject, [queue, elsewhere], valid, ack=True)
            assert all(one.message.body == STALE for deliveries in found.values() for one in deliveries)
        elif verb == "long extend":
            assert all(subject.broker.ack([one for one, is_stale in zip(held, stale, strict=True) if not is_stale]))
        elif verb == "short extend" and subject.capabilities.lease is Lease.TIMED:
            subject.expire(_shortest(subject.broker))
            collect(subject, [queue], valid, ack=True)
        subject.broker.ack(held)
        subject.assert_gone(queue, elsewhere, why="everything was acknowledged")

    @pytest.mark.parametrize("verb", SETTLES)
    def test_law05_fenced__twice_in_one_batch(self, subject: Subject, verb: str) -> None:
        """The first settle ends the lease; the second, in the same call, has lost it."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        first, second, third = _taken(subject, queue, 3).values()
        answers = VERBS[verb](subject.broker, [first, second, first, third, third], elsewhere)
        exact = subject.capabilities.fencing is Guarantee.EXACT
        expected = [True, True, False, True, False]
        assert (answers if exact else answers[:2]) == (expected if exact else expected[:2]), (
            f"{verb} of a batch with the same delivery twice answered {answers}"
        )
        if not exact:
            return
        if verb != "ack":
            collect(subject, [queue, elsewhere], [one.message.id for one in (first, second, third)], ack=True)
        subject.assert_gone(queue, elsewhere, why="everything was acknowledged, once")

    @pytest.mark.parametrize("number", [1, 65, 1001])
    def test_law05_fenced__a_valid_lease_is_honoured(self, subject: Subject, number: int) -> None:
        """Nobody is told that a lease is lost which is not: extended, updated, and acknowledged, each in one call."""
        queue = subject.queue()
        began = time.monotonic()
        held = [*_taken(subject, queue, min(number, 101)).values()]
        at_this_pace = int(len(held) * subject.long / 12 / (time.monotonic() - began))
        held += _taken(subject, queue, min(number - len(held), at_this_pace)).values()
        for lease in (subject.long, subject.long / 2):
            _assert_honoured("extend", held, subject.broker.extend(held, lease=lease))
        new = [(one, msgspec.structs.replace(one.message, body=b"new")) for one in held]
        _assert_honoured("update", held, subject.broker.update(new))
        again = collect(subject, [queue], {one.message.id for one in held})
        held = [one for found in again.values() for one in found[-1:]]
        _assert_honoured("ack", held, subject.broker.ack(held))
        subject.assert_gone(queue, why="it was acknowledged")
        if len(held) < number:
            subject.untested(f"more than {len(held)} leases in one call: so many are not taken before the first ends")

    def test_law05_fenced__one_by_one_in_any_order(self, subject: Subject) -> None:
        """A settle ends its own lease and no other, of whichever queue."""
        queues = [subject.queue() for _ in range(3)]
        held: list[Delivery] = []
        for queue in queues:
            held += _taken(subject, queue, 5).values()
        order = held[::2] + held[1::2][::-1]
        for number, one in enumerate(order):
            _assert_honoured("extend", [one], subject.broker.extend([one], lease=subject.long))
            if number % 3:
                _assert_honoured("ack", [one], subject.broker.ack([one]))
            else:
                _assert_honoured("update", [one], subject.broker.update([(one, one.message)]))
        collect(subject, queues, [one.message.id for one in order[::3]], ack=True)
        subject.assert_gone(*queues, why="it was acknowledged")

    def test_law05_fenced__threads_settle_at_once(self, subject: Subject) -> None:
        """Of those who settle one delivery at the same moment, one is told that it was theirs."""
        queue, elsewhere = subject.queue(), subject.queue("elsewhere")
        held = [*_taken(subject, queue, 60).values()]
        barrier = threading.Barrier(4)

        def settle(thread: int) -> list[bool]:
            answers: list[bool] = []
            for one in held:
                barrier.wait(60)
                answers += VERBS[SETTLES[thread % 3]](subject.broker, [one], elsewhere)
            return answers

        with frequent_switches(), ThreadPoolExecutor(4) as pool:
            answers = [*pool.map(settle, range(4))]
        if subject.capabilities.fencing is not Guarantee.EXACT:
            return
        left: list[str] = []
        for one, each in zip(held, zip(*answers, strict=True), strict=True):
            if sum(each) != 1:
                raise LawBroken(f"{sum(each)} of four settles of a lease, all at once, were honoured", one.message.id)
            if not (each[0] or each[3]):
                left.append(one.message.id)
        collect(subject, [queue, elsewhere], left, ack=True)
        subject.assert_gone(queue, elsewhere, why="everything was acknowledged")

    def test_law05_fenced__a_process_that_was_stopped_past_its_lease(self, realtime: Subject) -> None:
        """A zombie: woken by SIGCONT, it extends, updates and acknowledges what others hold by now."""
        queue, elsewhere = realtime.queue(), realtime.queue("elsewhere")
        messages = {one.id: one for one in (realtime.put(queue, b"original") for _ in range(3))}
        sleeper = realtime.peer()
        lease = brief(realtime, 3)
        held: list[str] = []
        while len(held) < len(messages):
            held += sleeper.call("acquire", queues=[queue], limit=3 - len(held), wait=PATIENCE, lease=lease)
        sleeper.pause()
        try:
            realtime.expire(lease)
            if realtime.capabilities.lease is Lease.CONNECTION:
                assert_hidden(realtime, queue, why="it is held by a process that stands still, with its connection")
                return
            fresh = {id_: one.delivery for id_, one in hold(realtime, queue, 3, realtime.long).items()}
        finally:
            sleeper.resume()
        attempts: tuple[tuple[str, dict[str, Any]], ...] = (
            ("extend", {"lease": _shortest(realtime.broker)}),
            ("extend", {"lease": realtime.long}),
            ("update", {"body": STALE}),
            ("update", {"body": STALE, "queue": elsewhere}),
            ("ack", {}),
        )
        for verb, arguments in attempts:
            answers = sleeper.call(verb, **arguments)
            if realtime.capabilities.fencing is not Guarantee.EXACT and any(answers):
                return
            if any(answers):
                won = held[answers.index(True)]
                raise LawBroken(f"{verb} of a zombie was honoured while another consumer held it", won)
        realtime.advance(_shortest(realtime.broker) + realtime.capabilities.expiry_bound)
        sleeper.call("close")
        assert_hidden(realtime, queue, elsewhere, why="another consumer holds it, and a zombie was refused")
        for id_, one in fresh.items():
            if realtime.broker.ack([one]) != [True] or one.message != messages[id_]:
                raise LawBroken("a zombie, refused, has taken the lease of the new holder all the same", id_)
        realtime.assert_gone(queue, elsewhere, why="its holder acknowledged it")


def _taken(subject: Subject, queue: str, number: int, *, broker: RecordedBroker | None = None) -> dict[str, Delivery]:
    """So many new messages, held for long; by id."""
    messages = [subject.message(queue, b"original") for _ in range(number)]
    subject.broker.enqueue(messages)
    found = collect(subject, [queue], {one.id for one in messages}, brokers=[broker or subject.broker])
    return {one.id: found[one.id][-1] for one in messages}


def _redelivered(
    subject: Subject, *, generations: int, holder: RecordedBroker | None = None, lease: float | None = None
) -> Stale:
    """One message per verb, lost so often, and now held."""
    queue, elsewhere = subject.queue(), subject.queue("elsewhere")
    for _ in VERBS:
        subject.put(queue, b"original")
    lost: dict[str, list[Delivery]] = {}
    for _ in range(generations):
        for id_, one in lose(subject, queue, len(VERBS)).items():
            lost.setdefault(id_, []).append(one)
    fresh = hold(subject, queue, len(VERBS), lease or subject.long, broker=holder)
    return Stale(queue, elsewhere, lost, {id_: one.delivery for id_, one in fresh.items()}, holder)


def _try_each(
    subject: Subject, broker: RecordedBroker, lost: dict[str, list[Delivery]], elsewhere: str, *, closed: bool = False
) -> set[str]:
    """Try one verb with the lost leases of each message; returns those where best effort let it win."""
    won = set()
    for (id_, stale), verb in zip(lost.items(), VERBS, strict=False):
        for one in stale:
            try:
                answers = VERBS[verb](broker, [one], elsewhere)
            except AnybrokerError:
                if not closed:  # a closed object may refuse altogether
                    raise
                continue
            if answers != [False]:
                _assert_none_won(subject, [id_], verb)
                won.add(id_)
    return won


def _assert_none_won(subject: Subject, won: Sequence[str], verb: str) -> None:
    if won and subject.capabilities.fencing is Guarantee.EXACT:
        raise LawBroken(f"{verb} with a lost lease was honoured", won[0])


def _assert_fenced(subject: Subject, stale: Stale, broker: RecordedBroker) -> None:
    """No verb with a lost lease is honoured, or does anything to the message or to its holder's lease."""
    won = _try_each(subject, broker, stale.lost, stale.elsewhere)
    subject.advance(_shortest(broker) + subject.capabilities.expiry_bound)  # an extend may have cut the new lease
    if won:
        return
    assert_hidden(subject, stale.queue, stale.elsewhere, why="others hold it, and a stale settle was refused")
    by_connection = subject.capabilities.lease is Lease.CONNECTION  # and then nobody else can settle for its holder
    holder = stale.holder if stale.holder is not None and by_connection else subject.broker
    for (id_, held), verb in zip(stale.fresh.items(), VERBS, strict=False):
        if holder.ack([held]) != [True]:
            raise LawBroken(f"a stale {verb}, refused, has taken the lease of the new holder all the same", id_)
    subject.assert_gone(stale.queue, stale.elsewhere, why="its holder acknowledged it")


def _assert_honoured(verb: str, held: Sequence[Delivery], answers: Sequence[bool]) -> None:
    for one, answer in zip(held, answers, strict=True):
        if not answer:
            raise LawBroken(f"{verb} was refused although the lease was valid", one.message.id)
