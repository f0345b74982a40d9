"""Law 9: queues do not leak into one another; any name of 1 to 80 unicode characters works."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from anybroker.broker import MAX_QUEUE_NAME
from anybroker.errors import ConfigurationError
from anybroker_conformance.broker.consuming import another, end_leases, ids, passing_holder, refusal, replace
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from anybroker.broker import Delivery, Message
    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

NAMED = 24
"""Queues of one acquire."""
SEPARATORS = ":/.%_-~ +@#&=,;|!$^"
ENCODED = (
    "a:b",
    "a/b",
    "a.b",
    "a b",
    "a+b",
    "a_b",
    "a-b",
    "a%2Fb",
    "a%2fb",
    "a_2Fb",
    "a%20b",
    "ab",
    "a%3Ab",
    "a\\x3ab",
)
BRACKETS = ("*", "?", "[q]", "{q}", "(q)", "<q>", "%s", "$1", "^q$", ".*", "**", "#", "[a-z]", "{}", "%", "_")
QUOTES = ("'", '"', "`", "\\", "''", "--", ";", "'; DROP TABLE messages; --", "\\n", "\\0", "${q}", "{{q}}")
INVISIBLE = (
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    "  ",
    "\x1f",
    "\x7f",
    "\xa0",
    "\xad",
    "\u200b",
    "\u200d",
    "\u202e",
    "\ufeff",
)
LOOKALIKES = (
    *(
        "q",
        "Q",
        "ß",
        "ss",
        "SS",
        "\u1e9e",
        "k",
        "K",
        "\u212a",
        "i",
        "I",
        "\u0131",
        "\u0130",
        "é",
        "e\u0301",
        "É",
        "ﬁ",
        "fi",
    ),
    *(
        "1",
        "\u0661",
        "\uff11",
        "²",
        "2",
        "Ω",
        "\u2126",
        "가",
        "\u1100\u1161",
        "\U0001f98a",
        "\U0001f98a\ufe0f",
        "\U0010fffd",
    ),
)
INTERNAL = (
    *(
        "dead",
        "dlq",
        "delayed",
        "leased",
        "ready",
        "processing",
        "index",
        "lease",
        "tmp",
        "retry",
        "0",
        "1",
        "messages",
    ),
    *("data", "lock", "stream", "group", "scheduled", "unacked", "keys", "ids", "priority:0", "0:0"),
)


class Isolated:
    """Law 9."""

    def test_law09_isolation__every_queue_has_its_own(self, subject: Subject) -> None:
        """One message for each name: whoever asks for that queue gets that one, and nothing else."""
        messages = one_each(subject)
        names = list(messages)
        subject.broker.enqueue(list(messages.values()))
        consumer = another(subject)
        if subject.capabilities.inspect:
            if missing := set(names) - set(consumer.queues()):
                raise LawBroken(f"queues {sorted(missing)!r:.300} hold messages and are not listed")
            for name in names:
                if consumer.stats(name).total != 1 or consumer.peek(name) != [messages[name]]:
                    raise LawBroken(f"queue {name!r} does not show its one message, and only that", messages[name].id)
        # Backwards: of two queues that are really one, the first in would else be the first out, as if nothing were.
        for name in reversed(names):
            own_only(consumer, name, messages[name], subject)
        subject.assert_gone(*names, why="the one message of each queue was acknowledged")

    def test_law09_isolation__purge_and_remove_touch_no_other(self, subject: Subject) -> None:
        if not subject.capabilities.inspect:
            subject.untested("purge and remove are not declared (inspect=False)")
        messages = one_each(subject)
        for removing in (False, True):
            subject.broker.enqueue(list(messages.values()))
            names = list(messages)
            for n, name in enumerate(names):
                id_ = messages[name].id
                if not removing:
                    number = subject.broker.purge(name)
                    if number != 1:
                        raise LawBroken(f"queue {name!r} had one message, and {number} were purged", id_)
                else:
                    if subject.broker.remove(names[n - 1], [id_]) != [False]:
                        raise LawBroken(f"removed from {names[n - 1]!r}, where it was not, but in {name!r}", id_)
                    if subject.broker.remove(name, [id_]) != [True]:
                        raise LawBroken(f"queue {name!r} had this message, and it could not be removed", id_)
            subject.assert_gone(*names, why="each queue was purged" if not removing else "each message was removed")

    def test_law09_isolation__what_comes_back_comes_to_its_own(self, subject: Subject) -> None:
        """By expiry, by close, by its eta, by an update: wherever it was acquired along with others."""
        queues = [subject.clean_up(subject.namespace + suffix) for suffix in ("a", "ab", "", "b", "a:dead", "A")]
        soon = {queue: subject.message(queue, queue.encode(), eta=subject.now()) for queue in queues}
        subject.broker.enqueue(list(soon.values()))
        holder = passing_holder(subject)
        lost = acquire_all(subject, holder, queues, subject.short)
        for one in lost:
            if one.message != soon[one.message.queue]:
                raise LawBroken("delivered as a message of another queue", one.message.id)
        end_leases(subject, holder)
        closing = another(subject)
        for queue in reversed(queues):
            own_only(closing, queue, soon[queue], subject, settle=False)
        if closing is not subject.broker:
            closing.close()
            held = acquire_all(subject, subject.broker, queues, subject.long)
            moved = dict(zip(queues, [*queues[1:], queues[0]], strict=True))
            pairs = [(one, replace(one.message, queue=moved[one.message.queue], body=b"moved")) for one in held]
            assert subject.broker.update(pairs) == [True] * len(pairs)
            for _, new in pairs:
                own_only(subject.broker, new.queue, new, subject)

    def test_law09_isolation__other_names_are_refused(self, subject: Subject) -> None:
        """Before anything of the batch is stored, or changed."""
        queue = subject.queue()
        subject.put(queue, b"held")
        [held] = subject.take(queue)
        for name in ("", "x" * (MAX_QUEUE_NAME + 1), "\U0001f98a" * (MAX_QUEUE_NAME + 1), "x" * 1000):
            good = [subject.message(queue, b"stored") for _ in range(70)]
            bad = subject.message(name)
            for batch in ([bad], [good[0], bad], [bad, good[0]], [*good, bad], [*good[:35], bad, *good[35:]]):
                with refusal(ConfigurationError, f"a message for a queue whose name has {len(name)} characters"):
                    subject.broker.enqueue(batch)
            with refusal(ConfigurationError, f"an update to a queue whose name has {len(name)} characters"):
                subject.broker.update([(held, replace(held.message, queue=name))])
        subject.assert_nothing(queue, why="another message of its batch was refused")
        if subject.capabilities.inspect:
            assert subject.stats(queue).total == 1, "stored, although another message of the batch was refused"
        if subject.broker.ack([held]) != [True]:
            raise LawBroken("an update that was refused has ended the lease", held.message.id)
        subject.assert_gone(queue, why="its one message was acknowledged")

    def test_law09_isolation__queues_in_order_of_preference(self, subject: Subject) -> None:
        """Neither the names, nor the age of the messages, nor their priorities decide."""
        first, second, third, empty = (subject.queue() for _ in range(4))
        highest = (subject.capabilities.priorities or (0, 0))[1]
        for preference in ((first, empty, second, third), (third, second, empty, first), (second, third, first)):
            used = [queue for queue in preference if queue != empty]
            sent = [
                subject.message(queue, b"%d" % place, priority=highest if place else 0)
                for place, queue in reversed(list(enumerate(used)))
                for _ in range(8)
            ]
            subject.broker.enqueue(sent)
            places = [int(one.message.body) for one in in_preference(subject, preference, len(sent))]
            right = sum(place == expected for place, expected in zip(places, sorted(places), strict=True))
            # Where no order is declared, the messages may be in different places, and not all of them are seen at once.
            if right < (len(sent) if subject.capabilities.ordering.fifo else len(sent) * 0.7):
                raise LawBroken(f"queues were not preferred in their order; delivered from {places}")

    def test_law09_isolation__the_last_of_many_in_one_acquire(self, subject: Subject) -> None:
        """However many queues are asked for."""
        queues = [subject.queue() for _ in range(NAMED)]
        message = subject.put(queues[-1])
        deadline = time.monotonic() + 4 * PATIENCE
        while True:
            taken = subject.broker.acquire(queues, limit=1, wait=0 if subject.clock else 1, lease=subject.long)
            if ids(taken) == [message.id]:
                return
            if taken or subject.clock or time.monotonic() > deadline:
                raise LawBroken(f"not delivered from the last of {NAMED} queues that were asked for", message.id)

    def test_law09_isolation__a_queue_named_twice(self, subject: Subject) -> None:
        queue, other = subject.queue(), subject.queue()
        sent = [subject.put(queue).id for _ in range(3)] + [subject.put(other).id]
        found: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while set(found) != set(sent) and time.monotonic() < deadline:
            wait = 0 if subject.clock else 0.2
            found += ids(subject.broker.acquire([queue, other, queue, queue], limit=10, wait=wait, lease=subject.long))
        assert sorted(found) == sorted(sent), f"of a queue that was named twice, {len(found)} of 4 were delivered"


def names_of(subject: Subject) -> list[str]:
    """Names that are easily taken for one another; none of them is used by anybody else."""
    own = subject.namespace
    random = "".join(str(secrets.randbelow(9) + 1) for _ in range(9))
    single = [chr(0x4E00 + secrets.randbelow(20_000)), chr(0x20000 + secrets.randbelow(40_000))]
    filler = own + "x" * (MAX_QUEUE_NAME - len(own))
    foxes = "\U0001f98a" * MAX_QUEUE_NAME
    long = [filler, *(filler[: len(filler) - n] for n in (1, 15, 16, 17, 18, 30)), foxes[:40] + own + foxes[:31]]
    long += [filler[:-1] + "y", "y" + filler[1:], filler[:62] + "y" + filler[63:], filler[:40] + "y" + filler[41:]]
    long += [own + foxes[: MAX_QUEUE_NAME - len(own)], own + foxes[: MAX_QUEUE_NAME - len(own) - 1], own + foxes[:1]]
    numbers = [
        random,
        f"0{random}",
        f"{random}.0",
        f"-{random}",
        f"+{random}",
        f"{random} ",
        f" {random}",
        f"{random}e0",
    ]
    suffixes = [*ENCODED, *BRACKETS, *QUOTES, *INVISIBLE, *LOOKALIKES]
    suffixes += [f"{separator}{word}" for separator, word in zip(SEPARATORS * 2, INTERNAL, strict=False)]
    suffixes += (
        [".", "..", "-", "_", "/", ":"]
        + [f"{separator}dead" for separator in ":.-_"]
        + ["\0a", "\0b", "\na", "a\0", "a\n", "a ", "a\0b"]
    )
    around = [f"{text}{own}" for text in (" ", "\ufeff", "\0", "../", "/", "%", "{", "-", "\U0001f98a")]
    made = [own, own.upper(), *(own + suffix for suffix in suffixes), *around, *numbers, *long, *single]
    return list(dict.fromkeys(subject.clean_up(name) for name in made))


def one_each(subject: Subject) -> dict[str, Message]:
    """A message for each of the names."""
    names = names_of(subject)
    assert all(1 <= len(name) <= MAX_QUEUE_NAME for name in names)
    return {name: subject.message(name, name.encode()) for name in names}


def own_only(broker: RecordedBroker, queue: str, message: Message, subject: Subject, *, settle: bool = True) -> None:
    """Acquire from a queue that has this one message."""
    deadline = time.monotonic() + PATIENCE
    taken: list[Delivery] = []
    while not taken:
        taken = broker.acquire([queue], limit=10, wait=0.0 if subject.clock else 0.2, lease=subject.long)
        if not taken and (subject.clock or time.monotonic() > deadline):
            raise LawBroken(f"queue {queue!r} has a message that is not delivered", message.id)
    for one in taken:
        if one.message != message:
            raise LawBroken(f"queue {queue!r} delivered what is not its own: {one.message!r:.300}", one.message.id)
    if len(taken) > 1:
        raise LawBroken(f"queue {queue!r} delivered its one message {len(taken)} times", message.id)
    if settle and broker.ack(taken) != [True]:
        raise LawBroken(f"the one message of queue {queue!r} could not be acknowledged", message.id)


def acquire_all(subject: Subject, broker: RecordedBroker, queues: list[str], lease: float) -> list[Delivery]:
    """One message from each of the queues, asked for together."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while len({one.message.id for one in taken}) < len(queues):
        taken += broker.acquire(queues, limit=10, wait=0 if subject.clock else 0.2, lease=lease)
        if time.monotonic() > deadline:
            raise LawBroken(f"{len(taken)} of {len(queues)} queues delivered their message when asked for together")
    return list({one.message.id: one for one in taken}.values())


def in_preference(subject: Subject, queues: tuple[str, ...], number: int) -> list[Delivery]:
    """So many deliveries in the order in which they came, a few at a time, acknowledged."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while len(taken) < number:
        more = subject.broker.acquire(queues, limit=5, wait=0 if subject.clock else 0.2, lease=subject.long)
        assert subject.broker.ack(more) == [True] * len(more)
        taken += more
        if time.monotonic() > deadline:
            raise LawBroken(f"{len(taken)} of {number} messages were delivered from {len(queues)} queues")
    return taken
