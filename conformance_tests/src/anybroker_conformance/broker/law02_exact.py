"""Law 2: id, body and fields come back as they went in, and one byte too many is refused before sending."""

from __future__ import annotations

import random
import zlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.broker import Delivery, Message
from anybroker.errors import MessageTooLarge
from anybroker_conformance.broker.deliveries import another, assert_hidden, collect, lose, volume
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anybroker_conformance.subject import Subject

LARGEST = 32 * 1024 * 1024
"""Bytes of the largest body that is sent, also where a broker declares to take more."""
ODD = (
    b"",
    bytes(range(256)),
    bytes(range(255, -1, -1)) * 300,
    *(
        end.join([b"middle", b"end", b""])
        for end in (b"\n", b"\r\n", b"\0", b" ", b"\t", b"\x1a", b"=", b"\xff", b"\xc3")
    ),
    *(start + b"start" for start in (b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")),
    b"\xff\xfe\0\0",
    "pâté 🥧 \u2028 \ufeff e\u0301 \U0010ffff".encode(),
    "utf-16, with a lone surrogate \ud800".encode("utf-16", "surrogatepass"),
    b"\xed\xa0\x80\xc0\x80\xf5\xff",
    b"'\"\\;--\n`$(x)${y}%s%n{0}<&amp;>]]>",
    b"null",
    b"true",
    b"0",
    b"00012",
    b"1e5",
    b'{"a": [1, "\\u00e9"]}',
    b"aGVsbG8=",
    b"b'bytes'",
    b"%00+%2B+%",
    b"\\x00\\n",
    *(zlib.compress(b"compressed already " * 50, wbits=wbits) for wbits in (15, -15, 31)),
    *(byte * 9999 for byte in (b"\0", b"a", b"\xff", b"\n", b"\r\n")),
)
SIZES = (
    *(2**power + shift for power in (7, 8, 10, 12, 15, 16, 17, 18, 20) for shift in (-1, 0, 1)),
    100_000,
    1_000_000,
)
TEXTS = (
    "x",
    "0",
    "-1",
    "1e3",
    "None",
    "ünïcode",
    "e\u0301 and \u00e9",
    "Straße STRASSE",
    "UPPER lower",
    "🦊" * 20,
    "a b\tc\nd",
    "trailing space ",
    "trailing newline\n",
    "'; DROP TABLE messages; --",
    '"quoted" \\"twice\\"',
    "{}:*?[a]/\\%_|,;&=#@!~^",
    "nul\0inside",
    "日本語",
    "\u202eright to left",
    "d" * 60,
)
ETAS = (
    datetime(2020, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1999, 12, 31, 0, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45), "Kathmandu")),
    datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone(timedelta(hours=14))),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 7, 20, 20, 17, 40, 500_001, tzinfo=timezone(timedelta(hours=-11))),
    datetime(1900, 1, 1, 12, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=-4, minutes=-56, seconds=-2))),
    *(
        datetime(2022, 5, 6, 7, 8, 9, micro, tzinfo=UTC)
        for micro in (1, 10, 999, 1000, 1001, 499_999, 500_500, 999_000)
    ),
)


class Exact:
    """Law 2."""

    def test_law02_exact__bodies(self, subject: Subject) -> None:
        """Every byte, every pair of bytes, runs, odd beginnings and ends; in one batch, singly, and delivered again."""
        queue = subject.queue()
        bodies = [*ODD, *(bytes([one]) for one in range(256)), bytes(_pairs())]
        messages = [subject.message(queue, body) for body in _allowed(subject, bodies)]
        singly = len(messages) // 5
        for message in messages[:singly]:
            subject.broker.enqueue([message])
        subject.broker.enqueue(messages[singly:])
        held = collect(subject, [queue], {one.id for one in messages}, brokers=[subject.broker, another(subject)])
        _assert_same(messages, held)

    def test_law02_exact__sizes(self, subject: Subject) -> None:
        """On both sides of the sizes where storage, compression or transport may change."""
        queue = subject.queue()
        noise = random.Random(2)  # noqa: S311 (bodies)
        sizes = sorted({size for size in SIZES if size <= subject.capabilities.max_body})
        bodies = [noise.randbytes(size) for size in sizes] + [b"z" * size for size in sizes]
        messages = [subject.message(queue, body) for body in bodies]
        for start in range(0, len(messages), 6):
            subject.broker.enqueue(messages[start : start + 6])
        _assert_same(messages, collect(subject, [queue], {one.id for one in messages}, ack=True))

    def test_law02_exact__bodies_of_new_versions(self, subject: Subject) -> None:
        """What an update writes is as exact as what an enqueue wrote."""
        queue = subject.queue()
        bodies = _allowed(subject, [*ODD, bytes(_pairs()), *(bytes([one]) for one in range(256))])
        messages = [subject.message(queue, b"old version of %d" % n) for n in range(len(bodies))]
        subject.broker.enqueue(messages)
        held = collect(subject, [queue], {one.id for one in messages})
        new = [msgspec.structs.replace(one, body=body) for one, body in zip(messages, bodies, strict=True)]
        subject.broker.update([(held[one.id][-1], one) for one in new[:3]])
        subject.broker.update([(held[one.id][-1], one) for one in new[3:]])
        _assert_same(new, collect(subject, [queue], {one.id for one in new}, ack=True))

    def test_law02_exact__delivered_again(self, subject: Subject) -> None:
        """After a lost lease the message is still what it was, in every field."""
        queue = subject.queue()
        bodies = _allowed(subject, [*ODD, b"\xa5" * 70_000])[-12:]
        messages = [subject.message(queue, body, **_fields(subject, index)) for index, body in enumerate(bodies)]
        subject.broker.enqueue(messages)
        first = lose(subject, queue, len(messages))
        _assert_same(messages, {id_: [one] for id_, one in first.items()})
        again = collect(subject, [queue], {one.id for one in messages}, brokers=[another(subject)])
        _assert_same(messages, again)

    def test_law02_exact__texts(self, subject: Subject) -> None:
        """Ids, queue names and ordering keys of any unicode text."""
        keyed = subject.capabilities.ordering.keyed
        messages = []
        for index, text in enumerate(TEXTS):
            queue = subject.clean_up(f"{subject.namespace}{text}"[:80])
            messages.append(subject.message(queue, id=text, ordering_key=text if keyed else None))
            leading = f"{text}{subject.namespace}{index}"
            messages.append(Message(leading, queue, b"", ordering_key=leading if keyed else None))
        subject.broker.enqueue(messages)
        for queue in dict.fromkeys(one.queue for one in messages):
            expected = [one for one in messages if one.queue == queue]
            _assert_same(expected, collect(subject, [queue], {one.id for one in expected}, ack=True))

    def test_law02_exact__ids_that_are_nearly_equal(self, subject: Subject) -> None:
        """Different ids are different messages: by case, accents, spaces, zeros, or in their last character."""
        queue = subject.queue()
        pairs = ["a", "A", "a ", " a", "a\0", "a\n", "é", "e\u0301", "1", "01", "1.0", "ß", "ss", "ﬁ", "fi"]
        before = len(f"{subject.namespace}.")
        pairs += ["x" * (length - before) + end for length in (69, 255, 999) for end in ("a", "b", "")]
        messages = [subject.message(queue, text.encode(), id=text) for text in pairs]
        subject.broker.enqueue(messages)
        _assert_same(messages, collect(subject, [queue], {one.id for one in messages}, ack=True))

    def test_law02_exact__priorities(self, subject: Subject) -> None:
        """Every declared priority, the lowest and the highest among them."""
        bounds = subject.capabilities.priorities or (0, 0)
        candidates = {0, 1, -1, -7, 9, 10, 127, 128, 255, 256, 32768, -32769, 65536, 2**31 - 1, -(2**31), 2**53 + 1}
        candidates |= {bounds[0], bounds[0] + 1, bounds[1], bounds[1] - 1}
        queue = subject.queue()
        chosen = [one for one in sorted(candidates) if bounds[0] <= one <= bounds[1]]
        messages = [subject.message(queue, priority=one) for one in chosen]
        subject.broker.enqueue(messages)
        held = collect(subject, [queue], {one.id for one in messages})
        _assert_same(messages, held)
        turned = [msgspec.structs.replace(one, priority=new) for one, new in zip(messages, chosen[::-1], strict=True)]
        subject.broker.update([(held[one.id][-1], one) for one in turned])
        _assert_same(turned, collect(subject, [queue], {one.id for one in turned}, ack=True))

    def test_law02_exact__etas(self, subject: Subject) -> None:
        """To the microsecond, from any time zone, however far past, and none stays none."""
        queue = subject.queue()
        messages = [subject.message(queue, eta=eta) for eta in (*ETAS, None)]
        subject.broker.enqueue(messages)  # a first call may take long: it connects
        soon = subject.now() + timedelta(seconds=subject.short, microseconds=123_457)
        messages.append(subject.message(queue, eta=soon))
        subject.broker.enqueue(messages[-1:])
        held = collect(subject, [queue], {one.id for one in messages[:-1]})
        _assert_same(messages[:-1], held)
        subject.advance(subject.short + 0.2 + subject.capabilities.delay_precision)
        held |= collect(subject, [queue], [messages[-1].id], known=[*held])
        _assert_same(messages, held)
        others = (*ETAS[::-1], None, None)
        turned = [msgspec.structs.replace(one, eta=eta) for one, eta in zip(messages, others, strict=True)]
        subject.broker.update([(held[one.id][-1], one) for one in turned])
        _assert_same(turned, collect(subject, [queue], {one.id for one in turned}, ack=True))

    def test_law02_exact__ordering_keys(self, subject: Subject) -> None:
        """An empty key is a key, and no key is none."""
        if not subject.capabilities.ordering.keyed:
            subject.untested("ordering keys are not declared; that they are refused is proven by laws 10 and 15")
        queue = subject.queue()
        keys = (None, "", " ", "0", "None", "null", "a", "A", "k" * 60, *TEXTS)
        messages = [subject.message(queue, ordering_key=key) for key in keys]
        subject.broker.enqueue(messages)
        held = collect(subject, [queue], {one.id for one in messages[:9]}, known={one.id for one in messages}, ack=True)
        rest = {one.id for one in messages} - held.keys()
        _assert_same(messages, held | collect(subject, [queue], rest, ack=True))

    def test_law02_exact__every_message_of_a_large_batch_has_its_own_fields(self, subject: Subject) -> None:
        """Nothing gets mixed up among thousands of messages that differ in everything."""
        number = min(3000, volume(subject, seconds=6))
        queue, noise = subject.queue(), random.Random(7)  # noqa: S311 (bodies)
        messages = [
            subject.message(queue, noise.randbytes(noise.choice((0, 1, 20, 300))), **_fields(subject, index))
            for index in range(number)
        ]
        for start in range(0, number, 1001):
            subject.broker.enqueue(messages[start : start + 1001])
        held = collect(subject, [queue], {one.id for one in messages}, limits=(1000, 65, 7, 1))
        _assert_same(messages, held)
        new = [msgspec.structs.replace(one, body=one.body[::-1] + b"%d" % n) for n, one in enumerate(messages)]
        for start in range(0, number, 1001):
            subject.broker.update([(held[one.id][-1], one) for one in new[start : start + 1001]])
        _assert_same(new, collect(subject, [queue], {one.id for one in new}, ack=True))

    def test_law02_exact__peek(self, subject: Subject) -> None:
        """Looking shows what is there: before delivery, while it is held, and after an update."""
        if not subject.capabilities.inspect:
            subject.untested("peek: inspect is not declared")
        queue = subject.queue()
        message = subject.put(queue, bytes(range(256)) * 4, **_fields(subject, 5))
        _assert_equal(message, *subject.broker.peek(queue))
        [delivery] = subject.take(queue)
        _assert_equal(message, *subject.broker.peek(queue))
        new = msgspec.structs.replace(message, body=bytes(range(255, -1, -1)), **_fields(subject, 6))
        assert subject.broker.update([(delivery, new)]) == [True]
        _assert_equal(new, *subject.broker.peek(queue))

    def test_law02_exact__the_largest_body(self, subject: Subject) -> None:
        """Of exactly ``max_body`` bytes, stored, delivered and updated."""
        size = min(subject.capabilities.max_body, LARGEST)
        queue = subject.queue()
        page = random.Random(3).randbytes(1005)  # noqa: S311 (a body)
        message = subject.put(queue, page * (size // 1005) + page[: size % 1005])
        [delivery] = subject.take(queue, within=30)
        _assert_equal(message, delivery.message)
        new = msgspec.structs.replace(message, body=message.body[::-1])
        assert subject.broker.update([(delivery, new)]) == [True]
        [delivery] = subject.take(queue, within=30)
        _assert_equal(new, delivery.message)
        assert subject.broker.ack([delivery]) == [True]
        if size < subject.capabilities.max_body:
            subject.untested(f"bodies of more than {LARGEST:,} bytes, which are declared")

    @pytest.mark.parametrize("position", [0, 1, 40])
    def test_law02_exact__one_byte_too_many(self, subject: Subject, position: int) -> None:
        """``MessageTooLarge``, whatever the place in the batch, before anything of it is stored or changed."""
        broker = subject.broker
        too_large = _too_large(subject)
        queue, other = subject.queue(), subject.queue("other")
        batch = [subject.message(other, b"fits") for _ in range(position + 1)]
        batch[position] = msgspec.structs.replace(batch[position], body=too_large)
        with pytest.raises(MessageTooLarge):
            broker.enqueue(batch)
        subject.assert_gone(other, why="MessageTooLarge was raised for one of the batch")
        messages = [subject.put(queue, b"old") for _ in range(position + 1)]
        held = collect(subject, [queue], {one.id for one in messages})
        deliveries = [held[one.id][-1] for one in messages]
        new = [msgspec.structs.replace(one, body=b"new", queue=other) for one in messages]
        new[position] = msgspec.structs.replace(new[position], body=too_large)
        with pytest.raises(MessageTooLarge):
            broker.update(list(zip(deliveries, new, strict=True)))
        subject.assert_nothing(other, why="the update was refused")
        assert_hidden(subject, queue, why="the update was refused, and the old version is held")
        if broker.ack(deliveries) != [True] * len(deliveries):
            raise LawBroken("an update that was refused with MessageTooLarge has taken a lease", messages[0].id)
        subject.assert_gone(queue, other, why="it was acknowledged, and its update refused")

    def test_law02_exact__far_too_many_bytes(self, subject: Subject) -> None:
        """Not only by one."""
        queue = subject.queue()
        limit = subject.capabilities.max_body
        if limit > LARGEST:
            subject.untested(f"bodies of more than {LARGEST:,} bytes, which are declared")
        for size in (limit + 2, limit + 1024, 2 * limit + 1):
            with pytest.raises(MessageTooLarge):
                subject.broker.enqueue([subject.message(queue, bytes(size))])
        subject.assert_gone(queue, why="MessageTooLarge was raised")

    def test_law02_exact__types(self, subject: Subject) -> None:
        """What comes back is of the contract's types."""
        queue = subject.queue()
        message = subject.put(queue, b"typed", eta=ETAS[1])
        [delivery] = subject.take(queue)
        got = delivery.message
        assert type(got) is Message, f"the message is a {type(got).__name__}"
        assert type(got.body) is bytes, f"the body is a {type(got.body).__name__}"
        assert type(got.id) is str, f"the id is a {type(got.id).__name__}"
        assert type(got.queue) is str, f"the queue is a {type(got.queue).__name__}"
        assert type(got.priority) is int, f"the priority is a {type(got.priority).__name__}"
        assert got.eta is not None, f"the eta of {message.id} is gone"
        assert got.eta.utcoffset() is not None, "the eta has no time zone"
        assert delivery.lease_until.utcoffset() is not None, "lease_until has no time zone"
        assert hash(delivery.token) == hash(delivery.token)


def _pairs() -> Iterable[int]:
    """Every pair of bytes, one after the other."""
    for first in range(256):
        for second in range(256):
            yield from (first, second)


def _allowed(subject: Subject, bodies: Sequence[bytes]) -> list[bytes]:
    return [body for body in bodies if len(body) <= subject.capabilities.max_body]


def _too_large(subject: Subject) -> bytes:
    limit = subject.capabilities.max_body
    if limit > LARGEST:
        subject.untested(f"bodies of more than {LARGEST:,} bytes, which are declared")
    return b"\xa5" * (limit + 1)


def _fields(subject: Subject, index: int) -> dict[str, Any]:
    """Fields that the broker declares to take, different for most indexes, and deliverable at once."""
    declared = subject.capabilities
    low, high = declared.priorities or (0, 0)
    keyed = declared.ordering.keyed and index % 3 == 0
    return {
        "priority": (0, low, high, max(low, min(high, index % 10)))[index % 4],
        "eta": ETAS[index % len(ETAS)] + timedelta(microseconds=index) if index % 2 else None,
        "ordering_key": f"{TEXTS[index % len(TEXTS)]}{index}" if keyed else None,
    }


def _assert_same(messages: Sequence[Message], held: dict[str, list[Delivery]]) -> None:
    for message in messages:
        for delivery in held[message.id]:
            _assert_equal(message, delivery.message)


def _assert_equal(sent: Message, *delivered: Message) -> None:
    if len(delivered) != 1:
        raise LawBroken(f"{len(delivered)} messages are shown instead of one", sent.id)
    [got] = delivered
    for field in Message.__struct_fields__:
        expected, actual = getattr(sent, field), getattr(got, field)
        if expected != actual or type(expected) is not type(actual):
            raise LawBroken(f"{field} was {_shown(expected)} and came back as {_shown(actual)}", sent.id)


def _shown(value: object) -> str:
    if isinstance(value, bytes) and len(value) > 60:
        return f"{value[:25]!r}...{value[-25:]!r} of {len(value):,} bytes, CRC {zlib.crc32(value):08x}"
    return repr(value)
