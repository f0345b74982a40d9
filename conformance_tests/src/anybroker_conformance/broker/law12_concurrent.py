"""Law 12: any number of threads, objects and processes at once. Forks are in law12_fork."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.capabilities import Guarantee, Lease
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.broker.accounts import settle_accounts
from anybroker_conformance.broker.deliveries import lose
from anybroker_conformance.broker.racing import Racers, at_once, rounds
from anybroker_conformance.broker.waiting import WAIT, Waiter
from anybroker_conformance.broker.workload import hold_all, work
from anybroker_conformance.subject import PATIENCE, WATCH, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery, Message
    from anybroker_conformance.subject import Subject

THREADS = 8
WORKLOAD = "anybroker_conformance.broker.workload"
RACES = 1500
BUDGET = 2.0
"""Seconds for the races of one test, at most; those that are fast have many."""
CLOSES = 30.0
"""Seconds within which a waiting acquire must have ended after a close."""
SPAN = 50
"""Messages that are raced for one after the other."""


class Concurrent:
    """Law 12, but for forks."""

    def test_law12_concurrent__random_work_of_threads_on_one_object(self, realtime: Subject) -> None:
        _random_work(realtime, [realtime.broker] * THREADS, realtime.suite.seed)

    def test_law12_concurrent__random_work_of_several_objects(self, realtime: Subject) -> None:
        objects = [realtime.broker, *(realtime.open() for _ in range(3))]
        _random_work(realtime, [one for one in objects for _ in range(2)], realtime.suite.seed)

    def test_law12_concurrent__several_processes(self, realtime: Subject) -> None:
        """Two processes and this one hold what they can get, each message in one hand; then they work at random."""
        peers = [realtime.peer(), realtime.peer()]
        queue, *queues = (realtime.queue() for _ in range(4))
        messages = [realtime.message(queue) for _ in range(300)]
        realtime.broker.enqueue(messages)
        arguments: dict[str, Any] = {"queues": [queue], "limit": 2, "lease": realtime.long}
        for peer in peers:
            peer.ask("run", function=f"{WORKLOAD}:hold_all", arguments=arguments)
        hands = hold_all(realtime.broker, queues=[queue], limit=1, lease=realtime.long)
        for peer in peers:
            hands += peer.answer()
        _in_one_hand(realtime, hands, messages, queue)
        arguments = _workload(realtime, queues)
        for number, peer in enumerate(peers):
            mine = {"seed": realtime.suite.seed + 100 + number, "prefix": f"{realtime.namespace}.p{number}"}
            peer.ask("run", function=f"{WORKLOAD}:work", arguments={**arguments, **mine})
        _work_at_once(realtime, [realtime.broker] * 2, realtime.suite.seed, arguments)
        for peer in peers:
            peer.answer()
        settle_accounts(realtime, queues)

    def test_law12_concurrent__a_message_for_many_racing_threads(self, realtime: Subject) -> None:
        """Of one object, and of several where they share messages."""
        brokers = [realtime.broker] * THREADS
        if realtime.capabilities.shared or realtime.suite.objects_share():
            others = [realtime.open() for _ in range(3)]
            brokers = [*others, *others, *brokers][:THREADS]
        queue = realtime.queue()
        messages = []
        taken: list[Delivery] = []
        known: set[str] = set()
        with Racers(THREADS) as racers:
            for number in rounds(RACES // THREADS, seconds=BUDGET):
                messages += [realtime.message(queue) for _ in range(1 + number % 2)]
                realtime.broker.enqueue(messages[-1 - number % 2 :])
                limit = 1 + number % 3
                calls = [partial(one.acquire, [queue], limit=limit, wait=0, lease=realtime.long) for one in brokers]
                found = list(chain.from_iterable(racers.race(*calls)))
                taken += found
                known |= {one.message.id for one in found}
                if len(known) < len(taken) and _exclusive(realtime):
                    raise LawBroken("one message was handed to two at once", found[0].message.id)
        missing = len(messages) - len(known)
        taken += realtime.take(queue, missing) if missing else []
        _in_one_hand(realtime, [one.message.id for one in taken], messages, queue)

    def test_law12_concurrent__batches_for_many_racing_threads(self, realtime: Subject) -> None:
        queues = [realtime.queue(), realtime.queue()]
        messages = [realtime.message(queues[number % 2]) for number in range(400)]

        def enqueue(part: int) -> list[str]:
            mine = messages[part::4]
            for start in range(0, len(mine), 7):
                realtime.broker.enqueue(mine[start : start + 7])
            return []

        hold = partial(hold_all, realtime.broker, queues=queues, limit=9, lease=realtime.long)
        hands = at_once(*(partial(enqueue, part) for part in range(4)), *[hold] * 4)
        _in_one_hand(realtime, [*chain.from_iterable(hands)], messages, *queues)

    def test_law12_concurrent__one_settle_wins(self, realtime: Subject) -> None:
        """Two acks, two updates, an ack and an update of one delivery: one of them answers True, and that holds."""
        queue, elsewhere = realtime.queue(), realtime.queue("elsewhere")
        settled: dict[str, str] = {}
        with Racers(3) as racers:
            for number in rounds(RACES // SPAN, seconds=BUDGET, at_least=1):
                realtime.broker.enqueue([realtime.message(queue) for _ in range(SPAN)])
                broker = _direct(realtime, number)
                for held in realtime.take(queue, SPAN):
                    settles = _settles(broker, held, elsewhere)
                    chosen = [settles[(number + offset) % len(settles)] for offset in range(2 + len(settled) % 2)]
                    answers = racers.race(*(act for _, act in chosen))
                    wins = [name for (name, _), answer in zip(chosen, answers, strict=True) if answer == [True]]
                    if len(wins) != 1:
                        names = " and ".join(name for name, _ in chosen)
                        raise LawBroken(f"{names} at once: {len(wins)} of them answered True", held.message.id)
                    settled[held.message.id] = wins[0]
        moved = [id_ for id_, won in settled.items() if won == "update"]
        found = Counter(one.message.id for one in realtime.take(elsewhere, len(moved))) if moved else Counter()
        for id_, won in settled.items():
            if found[id_] != (won == "update"):
                raise LawBroken(f"{won} won the race, and it was delivered {found[id_]} times afterwards", id_)
        realtime.assert_nothing(queue, elsewhere, why="one settle of each message had won")

    def test_law12_concurrent__an_extend_races_a_settle(self, realtime: Subject) -> None:
        """The settle wins; the extend neither brings the message back nor hides its new version."""
        queue, elsewhere = realtime.queue(), realtime.queue("elsewhere")
        moved: list[str] = []
        with Racers(2) as racers:
            for number in rounds(RACES // SPAN, seconds=BUDGET, at_least=1):
                realtime.broker.enqueue([realtime.message(queue) for _ in range(SPAN)])
                broker = _direct(realtime, number // 2)
                for held in realtime.take(queue, SPAN):
                    name, settle = _settles(broker, held, elsewhere)[number % 2]
                    extend = partial(broker.extend, [held], lease=realtime.long)
                    answer, _ = racers.race(settle, extend)
                    if answer != [True]:
                        raise LawBroken(f"{name} answered {answer} because an extend raced it", held.message.id)
                    moved += [held.message.id] if name == "update" else []
        taken = realtime.take(elsewhere, len(moved)) if moved else []
        if Counter(moved) != Counter(one.message.id for one in taken):
            raise LawBroken("an update that an extend raced has not left exactly one version of each message")
        if not all(realtime.broker.ack(taken)):
            raise LawBroken("the lease of a new version was disturbed by an extend of the old one")
        realtime.assert_gone(queue, elsewhere, why="it was acknowledged while an extend raced the ack")

    def test_law12_concurrent__a_stale_settle_races_the_new_holder(self, realtime: Subject) -> None:
        queue = realtime.queue()
        realtime.broker.enqueue([realtime.message(queue) for _ in range(SPAN)])
        stale = lose(realtime, queue, SPAN)
        exact = realtime.capabilities.fencing is Guarantee.EXACT
        with Racers(2) as racers:
            for number, fresh in enumerate(realtime.take(queue, SPAN)):
                lost = stale[fresh.message.id]
                theirs = [
                    partial(realtime.broker.ack, [lost]),
                    partial(realtime.broker.update, [(lost, _with_body(lost.message, b"stale"))]),
                    partial(realtime.broker.extend, [lost], lease=realtime.long),
                ][number % 3]
                mine = partial(realtime.broker.ack, [fresh])
                late, answer = racers.race(theirs, mine)
                if exact and (late, answer) != ([False], [True]):
                    text = f"the holder's ack answered {answer} and the stale settle that raced it {late}"
                    raise LawBroken(text, fresh.message.id)
        if exact:
            realtime.assert_gone(queue, why="its holder acknowledged it")

    def test_law12_concurrent__a_settle_races_the_next_delivery(self, realtime: Subject) -> None:
        """Leases run out while their holders settle and others acquire: one of them wins, and it never comes twice."""
        if realtime.capabilities.lease is Lease.CONNECTION:
            realtime.untested("leases do not run out while the connection lives")
        queue = realtime.queue()
        realtime.broker.enqueue([realtime.message(queue, id=f"{number}") for number in range(2 * SPAN)])
        lease = realtime.short
        held = realtime.take(queue, 2 * SPAN, lease=lease)
        taken_at = time.monotonic()

        def settle() -> list[bool]:
            while time.monotonic() < taken_at + lease - 0.02:
                time.sleep(0.001)
            return [realtime.broker.ack([one])[0] for one in held]

        def acquire() -> list[str]:
            found: list[str] = []
            while time.monotonic() < taken_at + lease + realtime.capabilities.expiry_bound + 0.3:
                taken = realtime.broker.acquire([queue], limit=3, wait=0.01, lease=realtime.long)
                found += [one.message.id for one, ours in zip(taken, realtime.broker.ack(taken), strict=True) if ours]
            return found

        answers, first, second = at_once(settle, acquire, acquire)
        ended = [one.message.id for one, ours in zip(held, answers, strict=True) if ours] + first + second
        if realtime.capabilities.fencing is Guarantee.EXACT and _exclusive(realtime):
            for id_, times in Counter(ended).items():
                if times > 1:
                    raise LawBroken("acknowledged by the holder, and by who got it when the lease ran out", id_)
        settle_accounts(realtime, [queue], within=PATIENCE + realtime.capabilities.expiry_bound)

    def test_law12_concurrent__the_same_id_from_two_threads(self, realtime: Subject) -> None:
        queue = realtime.queue()
        messages = [realtime.message(queue) for _ in range(2 * SPAN)]
        with Racers(2) as racers:
            for message in messages:
                racers.race(*[partial(realtime.broker.enqueue, [message])] * 2)
        copies = 1 if realtime.capabilities.idempotent_enqueue else 2
        found: Counter[str] = Counter()
        deadline = time.monotonic() + PATIENCE
        while len(found) < len(messages) or max(found.values()) < copies:
            taken = realtime.broker.acquire([queue], limit=20, wait=0.1, lease=realtime.long)
            found.update(one.message.id for one in taken)
            if not taken and time.monotonic() > deadline:
                break
        for message in messages:
            if not 1 <= found[message.id] <= copies:
                text = f"enqueued by two threads at once, it was delivered {found[message.id]} times at once"
                raise LawBroken(text, message.id)
        if copies == 1:
            realtime.assert_nothing(queue, why="each id is in the broker once, and held")

    def test_law12_concurrent__calls_while_another_waits(self, realtime: Subject) -> None:
        """A thread that waits in acquire holds up no other call of the same object, least of all a heartbeat."""
        empty = realtime.queue("empty")
        calls = _one_of_each(realtime)
        waiter = Waiter(realtime.broker, [empty], wait=WAIT + len(calls) * PATIENCE, lease=realtime.long)
        time.sleep(WATCH)
        for verb, call in calls.items():
            try:
                at_once(call, within=PATIENCE)
            except LawBroken as held_up:
                raise LawBroken(f"{verb} did not return while another thread waited in acquire") from held_up
        assert waiter.waiting, "a wait ended because of calls that bring it nothing"
        realtime.put(empty)
        taken = waiter.result(realtime.capabilities.wake_bound + PATIENCE)
        assert len(taken) == 1, "a wait during which other calls were made returned without the message that came"

    def test_law12_concurrent__close_races_acquire(self, realtime: Subject) -> None:
        """Whoever waits returns or raises ``BrokerUnavailable``, and a message that came at that moment is not lost."""
        realtime.open()  # says if objects share nothing
        queue = realtime.queue()
        lease = realtime.short
        for number in rounds(25, seconds=BUDGET):
            closing = realtime.open()
            messages = [realtime.message(queue)] if number % 4 else []  # and where none comes, nobody waits for ever
            enqueue = partial(realtime.broker.enqueue, messages)
            wait = partial(_acquire_unless_closed, closing, queue, lease)
            at_once(wait, enqueue, closing.close, within=CLOSES)
        settle_accounts(realtime, [queue], within=realtime.back_within(lease) + PATIENCE)


def _workload(subject: Subject, queues: list[str]) -> dict[str, Any]:
    return {"queues": queues, "rounds": 60, "seconds": 4.0, "lease": subject.long}


def _random_work(subject: Subject, brokers: list[Any], seed: int) -> None:
    queues = [subject.queue() for _ in range(3)]
    _work_at_once(subject, brokers, seed, _workload(subject, queues))
    settle_accounts(subject, queues)


def _work_at_once(subject: Subject, brokers: list[Any], seed: int, arguments: dict[str, Any]) -> None:
    at_once(
        *(
            partial(work, broker, **arguments, seed=seed + number, prefix=f"{subject.namespace}.t{number}")
            for number, broker in enumerate(brokers)
        )
    )


def _direct(subject: Subject, number: int) -> Broker:
    """Every other time the broker without its recorder: calls that are written down are further apart."""
    return subject.broker if number % 2 else subject.broker.recorded


def _exclusive(subject: Subject) -> bool:
    return subject.capabilities.exclusive is Guarantee.EXACT


def _in_one_hand(subject: Subject, hands: list[str], messages: list[Message], *queues: str) -> None:
    """Every message is held, by one alone."""
    found = Counter(hands)
    missing = [one.id for one in messages if one.id not in found]
    deadline = time.monotonic() + PATIENCE
    while missing and time.monotonic() < deadline:
        taken = subject.broker.acquire(list(queues), limit=50, wait=0.1, lease=subject.long)
        found.update(one.message.id for one in taken)
        deadline = time.monotonic() + PATIENCE if taken else deadline
        missing = [id_ for id_ in missing if id_ not in found]
    if missing:
        raise LawBroken(f"{len(missing)} of {len(messages)} messages were delivered to nobody", missing[0])
    if _exclusive(subject):
        for id_, times in found.items():
            if times > 1:
                raise LawBroken(f"delivered to {times} consumers at once", id_)


def _with_body(message: Message, body: bytes) -> Message:
    return msgspec.structs.replace(message, body=body)


def _settles(broker: Broker, held: Delivery, elsewhere: str) -> list[tuple[str, Callable[[], list[bool]]]]:
    moved = msgspec.structs.replace(held.message, queue=elsewhere)
    return [
        ("ack", partial(broker.ack, [held])),
        ("update", partial(broker.update, [(held, moved)])),
        ("update", partial(broker.update, [(held, moved)])),
        ("ack", partial(broker.ack, [held])),
    ]


def _one_of_each(subject: Subject) -> dict[str, Callable[[], object]]:
    """A call of each verb, by its name."""
    broker, queue, elsewhere = subject.broker, subject.queue(), subject.queue("elsewhere")
    broker.enqueue([subject.message(queue) for _ in range(4)])
    acked, updated, extended = subject.take(queue, 3)
    moved = msgspec.structs.replace(updated.message, queue=elsewhere)
    calls: dict[str, Callable[[], object]] = {
        "enqueue": partial(subject.put, elsewhere),
        "acquire": partial(broker.acquire, [queue], limit=1, wait=0, lease=subject.long),
        "extend": partial(broker.extend, [extended], lease=subject.long),
        "ack": partial(broker.ack, [acked]),
        "update": partial(broker.update, [(updated, moved)]),
    }
    if subject.capabilities.inspect:
        calls |= {
            "stats": partial(broker.stats, queue),
            "peek": partial(broker.peek, queue),
            "queues": broker.queues,
            "remove": partial(broker.remove, elsewhere, [moved.id]),
            "purge": partial(broker.purge, elsewhere),
        }
    if subject.capabilities.overview:
        calls["estimate"] = partial(broker.estimate, queue)
    return calls


def _acquire_unless_closed(broker: Broker, queue: str, lease: float) -> None:
    with suppress(BrokerUnavailable):  # it was closed
        broker.acquire([queue], limit=1, wait=2, lease=lease)
