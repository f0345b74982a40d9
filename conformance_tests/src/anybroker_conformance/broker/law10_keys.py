"""Law 10: of the messages with one ordering key only the oldest is deliverable, until it is settled or has left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from anybroker.capabilities import Guarantee
from anybroker_conformance.broker.consuming import another, drain, end_leases, ids, passing_holder, replace
from anybroker_conformance.broker.law10_order import refused
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anybroker.broker import Delivery, Message
    from anybroker_conformance.subject import Subject

KEYS = (
    *(
        "",
        "a",
        "A",
        "b",
        "ab",
        "a:",
        ":a",
        "a:b",
        "a/b",
        "a%2Fb",
        "a b",
        " a",
        "a ",
        "0",
        "00",
        "0.0",
        "-0",
        "None",
        "null",
    ),
    *(
        "é",
        "e\u0301",
        "ß",
        "ss",
        "*",
        "?",
        "[a]",
        "{a}",
        "'",
        '"',
        "\\",
        "%s",
        "\n",
        "a\0",
        "a\0b",
        "\U0001f98a",
        "\ufeffa",
    ),
    *("x" * 63, "x" * 64, "x" * 127, "x" * 128, "x" * 127 + "y", "\U0001f98a" * 32),
)
"""Keys that are easily taken for one another, of at most 128 characters and bytes, which is what services take."""


def keyed(test: Callable[[InOrderPerKey, Subject], None]) -> Callable[[InOrderPerKey, Subject], None]:
    """A test of ordering keys; where they are not declared it is proven that they are refused."""

    def proven(self: InOrderPerKey, subject: Subject) -> None:
        if subject.capabilities.ordering.keyed:
            test(self, subject)
        else:
            refused(subject, {"ordering_key": "k"})

    proven.__name__, proven.__doc__, proven.__qualname__ = test.__name__, test.__doc__, test.__qualname__
    return proven


class InOrderPerKey:
    """Law 10, of ordering keys."""

    @keyed
    def test_law10_order__one_of_a_key_at_a_time(self, subject: Subject) -> None:
        """By two consumers, in the order of sending, however many are asked for; acknowledged in batches."""
        queue = subject.queue()
        sent = [subject.message(queue, b"%d" % n, ordering_key=f"k{n * 7 % 12}") for n in range(120)]
        subject.broker.enqueue(sent[:70])
        for message in sent[70:90]:
            subject.broker.enqueue([message])
        another(subject).enqueue(sent[90:])
        consumers = (subject.broker, another(subject))
        lines = {key: [one.id for one in sent if one.ordering_key == key] for key in {one.ordering_key for one in sent}}
        for round_ in range(10):
            one, other = consumers[round_ % 2], consumers[1 - round_ % 2]
            taken = ((one, subject.take(queue, 5, broker=one)), (other, subject.take(queue, 7, broker=other)))
            subject.assert_nothing(queue, why="an older one of its key is held", broker=one)
            for consumer, held in taken:
                for delivery in held:
                    if lines[delivery.message.ordering_key].pop(0) != delivery.message.id:
                        raise LawBroken("delivered before an older message of its key", delivery.message.id)
                for settling in (held[:1], held[1:]):
                    assert consumer.ack(settling) == [True] * len(settling)
        subject.assert_gone(queue, why="every message was acknowledged")

    @keyed
    def test_law10_order__keys_are_not_mixed_up(self, subject: Subject) -> None:
        """Similar keys, no key, the same key in another queue: none of them holds back another."""
        queue, other = subject.queue(), subject.queue()
        composed = [subject.clean_up(f"{queue}{suffix}") for suffix in (":a", ":a:b")]
        firsts = [subject.message(queue, ordering_key=key) for key in KEYS]
        firsts += [subject.message(other, ordering_key=key) for key in ("a", "")]
        firsts += [subject.message(composed[0], ordering_key="b:c"), subject.message(composed[1], ordering_key="c")]
        seconds = [subject.message(one.queue, ordering_key=one.ordering_key) for one in firsts]
        free = [subject.message(queue) for _ in range(4)]
        subject.broker.enqueue([*firsts[:20], *free[:2], *firsts[20:], *seconds, *free[2:]])
        now = {one.id for one in (*firsts, *free)}
        held: list[Delivery] = []
        for name in (queue, other, *composed):
            held += subject.take(name, sum(one.queue == name for one in (*firsts, *free)))
        if wrong := set(ids(held)) - now:
            raise LawBroken("delivered although an older message of its key is held", min(wrong))
        subject.assert_nothing(queue, other, *composed, why="an older message of its key is held")
        if subject.capabilities.inspect:
            stats = subject.stats(queue)
            assert (stats.ready, stats.leased, stats.delayed) == (0, len(KEYS) + 4, len(KEYS))
        assert all(subject.broker.ack(held))
        after = drain(subject, [queue, other, *composed], expected=[one.id for one in seconds])
        assert sorted(ids(after)) == sorted(one.id for one in seconds)

    @keyed
    def test_law10_order__what_keeps_a_key_back(self, subject: Subject) -> None:
        """The oldest is leased, lost, given back, updated in place, retried later, not due yet, of low priority."""
        if not subject.capabilities.ordering.fifo:
            self._kept_back_until_a_new_version_gives_way(subject)
            return
        queue = subject.queue()
        lowest, highest = subject.capabilities.priorities or (0, 0)
        tomorrow = subject.now() + timedelta(days=1)
        oldest: dict[str, dict[str, Any]] = {"leased": {}, "updated": {}, "retried": {}, "low": {"priority": lowest}}
        later = {"retried tomorrow": {}, "not due": {"eta": tomorrow, "priority": highest}}
        first = [subject.message(queue, b"1", ordering_key=key, **fields) for key, fields in (oldest | later).items()]
        second = {key: subject.message(queue, b"2", ordering_key=key, priority=highest) for key in oldest | later}
        subject.broker.enqueue([*first, *second.values()])
        give_back(subject, queue, 5, second)
        held = {one.message.ordering_key: one for one in subject.take(queue, 5)}
        none_of(held.values(), second)
        retry = subject.now() + timedelta(seconds=2 * subject.short)
        put_off = held.pop("retried tomorrow")
        changed = [
            (held["updated"], replace(held["updated"].message, body=b"new")),
            (held["retried"], replace(held["retried"].message, eta=retry, priority=lowest)),
            (put_off, replace(put_off.message, eta=tomorrow)),
        ]
        assert subject.broker.update(changed) == [True, True, True]
        again = subject.take(queue, 1)
        again += subject.broker.acquire([queue], limit=10, wait=0, lease=subject.long)
        none_of(again, second)
        subject.advance(2 * subject.short + subject.capabilities.delay_precision + 0.05)
        again += subject.take(queue, 2 - len(again), within=subject.capabilities.delay_precision)
        none_of(again, second)
        subject.assert_nothing(queue, why="the oldest message of its key is held")
        held |= {one.message.ordering_key: one for one in again}
        assert subject.broker.ack(list(held.values())) == [True] * len(oldest)
        assert set(ids(subject.take(queue, 4))) == {second[key].id for key in oldest}
        subject.assert_nothing(queue, why="the oldest message of its key is due tomorrow")

    @staticmethod
    def _kept_back_until_a_new_version_gives_way(subject: Subject) -> None:
        """The weaker law: a lease, a lost one, an eta keep a key back; an update goes to the end of the line."""
        queue = subject.queue()
        tomorrow = subject.now() + timedelta(days=1)
        etas = {"leased": None, "updated": None, "retried": None, "not due": tomorrow}
        first = [subject.message(queue, b"1", ordering_key=key, eta=eta) for key, eta in etas.items()]
        second = {key: subject.message(queue, b"2", ordering_key=key) for key in etas}
        subject.broker.enqueue([*first, *second.values()])
        give_back(subject, queue, 3, second)
        held = {one.message.ordering_key: one for one in subject.take(queue, 3)}
        none_of(held.values(), second)
        subject.assert_nothing(queue, why="the oldest message of its key is held, or due tomorrow")
        new = {key: replace(held[key].message, body=b"new") for key in ("updated", "retried")}
        new["retried"] = replace(new["retried"], eta=subject.now() + timedelta(seconds=subject.short))
        assert subject.broker.update([(held[key], message) for key, message in new.items()]) == [True, True]
        after = subject.take(queue, 2)
        if set(ids(after)) != {second[key].id for key in new}:
            raise LawBroken("a new version has not given way to the next of its key", after[0].message.id)
        subject.assert_nothing(queue, why="older messages of their keys are held")
        assert subject.broker.ack(after) == [True, True]
        subject.advance(subject.short + subject.capabilities.delay_precision + 0.05)
        last = subject.take(queue, 2, within=subject.capabilities.delay_precision)
        assert {one.message.id: one.message for one in last} == {one.id: one for one in new.values()}

    @keyed
    def test_law10_order__what_lets_the_next_in(self, subject: Subject) -> None:
        """The oldest leaves: by ack, for another queue, for another key or none, removed, purged around."""
        queue, moved = subject.queue(), subject.queue("moved")
        ways: dict[str, dict[str, object] | None] = {
            "ack": None,
            "another queue": {"queue": moved},
            "another queue, and delayed": {"queue": moved, "eta": subject.now() + timedelta(days=1)},
            "another key": {"ordering_key": "new"},
            "no key": {"ordering_key": None},
        }
        first = {way: subject.message(queue, ordering_key=way) for way in ways}
        second = {way: subject.message(queue, ordering_key=way) for way in ways}
        third = {way: subject.message(queue, ordering_key=way) for way in ways}
        subject.broker.enqueue([*first.values(), *second.values(), *third.values()])
        held = {one.message.ordering_key: one for one in subject.take(queue, len(ways))}
        none_of(held.values(), second)
        assert subject.broker.ack([held["ack"]]) == [True]
        pairs = [(held[way], replace(first[way], **fields)) for way, fields in ways.items() if fields is not None]
        assert subject.broker.update(pairs) == [True] * len(pairs)
        after = subject.take(queue, len(ways) + 2)
        expected = {one.id for one in second.values()} | {first["another key"].id, first["no key"].id}
        if wrong := set(ids(after)) ^ expected:
            raise LawBroken("the next of a key is let in when the oldest has left, and only then", min(wrong))
        subject.assert_nothing(queue, why="an older message of its key is held")
        assert ids(subject.take(moved, 1)) == [first["another queue"].id]
        assert subject.broker.ack(after) == [True] * len(after)
        assert set(ids(subject.take(queue, len(third)))) == {one.id for one in third.values()}

    @keyed
    def test_law10_order__the_next_waits_for_its_own_eta(self, subject: Subject) -> None:
        queue = subject.queue()
        eta = subject.now() + timedelta(seconds=3 * subject.short)
        first = subject.put(queue, ordering_key="k")
        second, third = subject.put(queue, ordering_key="k", eta=eta), subject.put(queue, ordering_key="k")
        held = subject.take(queue)
        assert ids(held) == [first.id]
        assert subject.broker.ack(held) == [True]
        early = subject.broker.acquire([queue], limit=1, wait=0, lease=subject.long)
        if early and subject.now() < eta - timedelta(seconds=0.1):
            raise LawBroken("the next of a key was let in before its eta, or before an older one", early[0].message.id)
        subject.advance(3 * subject.short + subject.capabilities.delay_precision + 0.05)
        held = early or subject.take(queue, within=subject.capabilities.delay_precision)
        assert ids(held) == [second.id]
        subject.assert_nothing(queue, why="an older message of its key is held")
        assert subject.broker.ack(held) == [True]
        assert ids(subject.take(queue)) == [third.id]

    @keyed
    def test_law10_order__arriving_in_a_queue_that_has_the_key(self, subject: Subject) -> None:
        """By an update of the queue, of the key, of none to one: it waits for those there, whatever its priority."""
        queue, there = subject.queue(), subject.queue("there")
        highest = (subject.capabilities.priorities or (0, 0))[1]
        ways = {"another queue": "another queue", "another key": "mover", "no key": None}
        natives = {subject.put(there, ordering_key=way).id for way in ways}
        held = subject.take(there, len(ways))
        movers = {
            subject.put(queue if way == "another queue" else there, ordering_key=key).id: way
            for way, key in ways.items()
        }
        moving = subject.take(queue, 1) + subject.take(there, 2)
        new = [replace(one.message, queue=there, ordering_key=movers[one.message.id]) for one in moving]
        pairs = [(one, replace(message, priority=highest)) for one, message in zip(moving, new, strict=True)]
        assert subject.broker.update(pairs) == [True] * len(ways)
        subject.assert_nothing(queue, there, why="an older message of its key is held")
        assert set(ids(held)) == natives
        assert subject.broker.ack(held) == [True] * len(ways)
        assert set(ids(subject.take(there, len(ways)))) == movers.keys()

    @keyed
    def test_law10_order__a_stale_settle_lets_nobody_in(self, subject: Subject) -> None:
        """An ack that is refused does not end the key's turn."""
        queue = subject.queue()
        subject.put(queue, ordering_key="k")
        second = subject.put(queue, ordering_key="k")
        [stale] = subject.lose(queue)
        [fresh] = subject.take(queue)
        answer = subject.broker.ack([stale])
        if subject.capabilities.fencing is Guarantee.EXACT:
            assert answer == [False]
            subject.assert_nothing(queue, why="the oldest of its key is held by another consumer")
            assert subject.broker.ack([fresh]) == [True]
        else:
            subject.broker.ack([fresh])
        assert ids(subject.take(queue)) == [second.id]

    @keyed
    def test_law10_order__removed_and_purged(self, subject: Subject) -> None:
        """Removing the oldest lets the next in; purging leaves a held one, and its key usable."""
        if not subject.capabilities.inspect:
            subject.untested("remove and purge are not declared (inspect=False)")
        queue = subject.queue()
        later = subject.now() + timedelta(days=1)
        first = subject.put(queue, ordering_key="k", eta=later)
        second, third = subject.put(queue, ordering_key="k"), subject.put(queue, ordering_key="k")
        subject.assert_nothing(queue, why="the oldest of its key is due tomorrow")
        assert subject.broker.remove(queue, [second.id]) == [True]
        subject.assert_nothing(queue, why="the oldest of its key is due tomorrow")
        assert subject.broker.remove(queue, [first.id]) == [True]
        held = subject.take(queue)
        assert ids(held) == [third.id]
        for _ in range(3):
            subject.put(queue, ordering_key="k")
        assert subject.broker.purge(queue) == 3
        new = subject.put(queue, ordering_key="k")
        subject.assert_nothing(queue, why="the oldest of its key is held")
        assert subject.broker.ack(held) == [True]
        assert ids(subject.take(queue)) == [new.id]
        subject.broker.enqueue([subject.message(queue, ordering_key="free", eta=eta) for eta in (later, None)])
        assert subject.broker.purge(queue) == 2
        new = subject.put(queue, ordering_key="free")
        assert ids(subject.take(queue)) == [new.id]


def give_back(subject: Subject, queue: str, number: int, waiting: dict[str, Message]) -> None:
    """Acquire the oldest of each key and lose their leases, by time or connection, and then by ``close``."""
    holder = passing_holder(subject)
    none_of(subject.take(queue, number, broker=holder, lease=subject.short), waiting)
    end_leases(subject, holder)
    leaver = another(subject)
    if leaver is not subject.broker:
        none_of(subject.take(queue, number, broker=leaver), waiting)
        leaver.close()


def none_of(deliveries: Iterable[Delivery], waiting: dict[str, Message]) -> None:
    """None of those that wait behind an older message of their key was delivered."""
    for one in deliveries:
        if any(one.message.id == message.id for message in waiting.values()):
            raise LawBroken("delivered although an older message of its key is in the queue", one.message.id)
