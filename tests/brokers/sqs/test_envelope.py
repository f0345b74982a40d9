"""A message in SQS and back; names of queues; what other programs send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anybroker.broker import Message
from anybroker.errors import MessageTooLarge
from anybroker_broker_sqs import names
from anybroker_broker_sqs.envelope import ATTRIBUTE, RESERVE, group, largest_body, pack, unpack, whole
from anybroker_broker_sqs.leases import Lease
from anybroker_broker_sqs.received import Received

LIMIT = 262_144
NOW = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
SQS_TEXT = st.text(min_size=1, max_size=80)


def there_and_back(message: Message, *, fifo: bool = False) -> Message:
    entry = pack(message, now=NOW, fifo=fifo, limit=LIMIT).entry
    return unpack({"MessageId": "of-sqs", "Body": entry["MessageBody"], **entry}, message.queue, fifo=fifo)[0]


def allowed(text: str) -> bool:
    """Whether SQS takes a text (SendMessage, MessageBody)."""
    ranges = ((9, 10), (13, 13), (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
    return bool(text) and all(any(first <= ord(char) <= last for first, last in ranges) for char in text)


@given(
    id_=SQS_TEXT,
    body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
    eta=st.none() | st.datetimes(timezones=st.just(UTC)),
    key=st.none() | st.text(max_size=50),
)
def test_any_message_comes_back_as_it_was(id_: str, body: bytes, eta: datetime | None, key: str | None) -> None:
    message = Message(id_, "q", body, eta, 0, key)
    assert there_and_back(message, fifo=True) == message
    entry = pack(message, now=NOW, fifo=True, limit=LIMIT).entry
    assert allowed(entry["MessageBody"])
    assert allowed(entry["MessageAttributes"][ATTRIBUTE]["StringValue"])
    assert 0 < len(entry["MessageGroupId"]) <= 128
    assert len(entry["MessageDeduplicationId"]) <= 128


@pytest.mark.parametrize(
    "eta",
    [
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
)
@pytest.mark.parametrize("fifo", [False, True])
def test_a_moment_that_utc_has_not_comes_back(eta: datetime, *, fifo: bool) -> None:
    """It is that of another program, which wants its task never; else it would keep all others from being received."""
    assert there_and_back(Message("1", "q", b"", eta), fifo=fifo).eta == eta


@pytest.mark.parametrize(
    ("body", "text"),
    [(b'{"v":1}', '{"v":1}'), ("grüße".encode(), "grüße"), (b"", "="), (b"\x00", "AA=="), (b"a\rb", "YQ1i")],
)
def test_text_is_readable_and_all_else_is_base64(body: bytes, text: str) -> None:
    assert pack(Message("i", "q", body), now=NOW, fifo=False, limit=LIMIT).entry["MessageBody"] == text


def test_what_a_bare_client_sends_is_a_message() -> None:
    raw: dict[str, Any] = {"MessageId": "5fea7756", "Body": "hello"}
    assert unpack(raw, "q", fifo=False) == (Message("5fea7756", "q", b"hello"), 0)
    assert unpack({**raw, "Attributes": {"MessageGroupId": "k"}}, "q", fifo=True)[0].ordering_key == "k"
    for attribute in ('{"id": 5}', '{"deliveries": -1}', "not json", "[]"):
        foreign = {ATTRIBUTE: {"DataType": "String", "StringValue": attribute}}
        assert unpack({**raw, "MessageAttributes": foreign}, "q", fifo=False) == (Message("5fea7756", "q", b"hello"), 0)
    wrong = {ATTRIBUTE: {"DataType": "String", "StringValue": '{"encoding":"base64"}'}}
    assert unpack({**raw, "Body": "no base64!", "MessageAttributes": wrong}, "q", fifo=False)[0].body == b"no base64!"


@pytest.mark.parametrize("seconds", [0.001, 0.9, 1.0, 899.2, 900.0, 901.0, 86_400.0])
def test_a_delay_is_whole_seconds_and_never_too_short(seconds: float) -> None:
    message = Message("i", "q", b"", NOW + timedelta(seconds=seconds))
    delay = pack(message, now=NOW, fifo=False, limit=LIMIT).entry["DelaySeconds"]
    assert delay == min(900, whole(seconds))
    assert delay >= min(900, seconds)
    assert "DelaySeconds" not in pack(message, now=NOW, fifo=True, limit=LIMIT).entry
    assert "DelaySeconds" not in pack(message, now=NOW + timedelta(days=2), fifo=False, limit=LIMIT).entry


def test_a_message_that_is_sent_anew_keeps_its_count() -> None:
    entry = pack(Message("i", "q", b"x"), now=NOW, fifo=False, limit=LIMIT, deliveries=3).entry
    message, deliveries = unpack({"MessageId": "of-sqs", "Body": "x", **entry}, "q", fifo=False)
    lease = Lease("url", "handle", "of-sqs", 0.0, 1)
    assert Received(message, lease, {"ApproximateReceiveCount": "2"}, deliveries).count == 5


def test_the_largest_body_fits_and_a_large_id_is_refused() -> None:
    largest = largest_body(LIMIT)
    assert pack(Message("i" * 100, "q", b"\xff" * largest), now=NOW, fifo=False, limit=LIMIT).size <= LIMIT
    with pytest.raises(MessageTooLarge, match="262,144"):
        pack(Message("i" * (RESERVE + 9), "q", b"\xff" * largest), now=NOW, fifo=False, limit=LIMIT)


def test_an_enqueue_is_never_taken_for_another_one_and_a_repeated_update_is() -> None:
    message = Message("i", "q", b"body", ordering_key="k")

    def deduplication(body: bytes = b"body", replaces: str | None = None) -> str:
        new = Message("i", "q", body, ordering_key="k")
        entry = pack(new, now=NOW, fifo=True, limit=LIMIT, replaces=replaces).entry
        return str(entry["MessageDeduplicationId"])

    assert message.ordering_key == "k"
    assert deduplication() != deduplication()
    assert deduplication(replaces="m1") == deduplication(replaces="m1")
    assert deduplication(replaces="m1") != deduplication(replaces="m2")
    assert deduplication(replaces="m1") != deduplication(b"other", replaces="m1")


def test_groups() -> None:
    assert group("customer-7") == "customer-7"
    assert group(None) != group(None)
    odd = ["", " ", "a b", "ü", "~", "~" + "0" * 64, "x" * 129]
    assert len({group(key) for key in odd}) == len(odd)
    assert all(group(key).startswith("~") for key in odd)


@given(st.lists(SQS_TEXT, min_size=2, max_size=6, unique=True), st.booleans())
def test_names_of_queues_never_meet(queues: list[str], fifo: bool) -> None:
    mapped = [names.queue_name(queue, prefix="app-", fifo=fifo) for queue in queues]
    mapped += [names.queue_name(one.removeprefix("app-")[:80], prefix="app-", fifo=fifo) for one in mapped]
    assert len(set(mapped)) >= len(queues)
    for name in mapped:
        assert len(name) <= 80
        assert name.endswith(".fifo") == fifo
        assert names.PLAIN.fullmatch(name.removesuffix(".fifo"))


def test_a_name_that_looks_like_a_mapped_one_is_mapped_again() -> None:
    mapped = names.queue_name("a.b", prefix="", fifo=False)
    assert mapped.startswith("a-b--")
    assert names.queue_name(mapped, prefix="", fifo=False) != mapped


@pytest.mark.parametrize("queue", ["default", "default.dead", "\U0001f98a" * 80, "a b"])
def test_the_name_of_a_queue_is_kept_in_its_tags(queue: str) -> None:
    tags = names.to_tags(queue)
    assert all(len(value) <= 256 for value in tags.values())
    assert names.from_tags(tags) == queue
    mapped = names.queue_name(queue, prefix="p-", fifo=False)
    assert names.original(mapped, prefix="p-", fifo=False) in {queue, None}


def received(*, first: float, eta: float | None, count: int, sent: float = 0.0) -> Received:
    """A message of a FIFO queue, received so often, for the first time ``first`` seconds after ``NOW``."""
    message = Message("i", "q", b"", None if eta is None else NOW + timedelta(seconds=eta))
    attributes = {
        "ApproximateReceiveCount": str(count),
        "ApproximateFirstReceiveTimestamp": str(int((NOW.timestamp() + first) * 1000)),
        "SentTimestamp": str(int((NOW.timestamp() + sent) * 1000)),
    }
    return Received(message, Lease("url", "handle", "i", 0.0, 1), attributes)


def test_looks_at_what_is_not_due_are_no_deliveries() -> None:
    hour = 3600.0
    assert received(first=0, eta=None, count=3).count == 3
    assert received(first=0, eta=-5, count=3).count == 3
    assert received(first=0, eta=hour, count=2).count == 1
    assert received(first=0, eta=hour, count=4).count == 3
    assert received(first=0, eta=30 * hour, count=4).count == 1
    assert received(first=0, eta=30 * hour, count=5).count == 2
    assert received(first=0, eta=30 * hour, count=2).count == 1


def test_a_message_of_a_fifo_queue_is_sent_anew_before_sqs_forgets_it() -> None:
    day = 86_400.0
    assert received(first=0, eta=10 * day, count=1).lasts(NOW, 14 * day)
    assert not received(first=0, eta=10 * day, count=1, sent=-13.2 * day).lasts(NOW, 14 * day)
    assert not received(first=0, eta=10 * day, count=1, sent=-3.2 * day).lasts(NOW, 4 * day)
    assert received(first=0, eta=60, count=1, sent=-3.2 * day).lasts(NOW, 4 * day)
    assert not received(first=0, eta=10 * day, count=1, sent=-0.6 * day).lasts(NOW, day)


@pytest.mark.parametrize("kept", [60.0, 3600.0, 86_400.0, 4 * 86_400.0, 14 * 86_400.0])
def test_a_message_of_a_fifo_queue_is_not_sent_anew_as_soon_as_it_is_sent(kept: float) -> None:
    fresh = received(first=0, eta=30 * 86_400.0, count=1)
    assert fresh.lasts(NOW, kept)
    assert fresh.hidden(NOW, kept) == min(43_199, kept / 4)


@pytest.mark.parametrize(
    ("meta", "body", "read"),
    [
        ('{"eta": "2025-01-01T00:00:00"}', "text", b"text"),
        ('{"eta": "tomorrow"}', "text", b"text"),
        ('{"encoding": "base64"}', "no base64", b"no base64"),
        ('{"encoding": "base64"}', "\u00fc", "\u00fc".encode()),
        ("[", "text", b"text"),
    ],
)
def test_what_others_have_written_wrong_is_taken_as_it_is(meta: str, body: str, read: bytes) -> None:
    attributes = {ATTRIBUTE: {"DataType": "String", "StringValue": meta}}
    message = unpack({"MessageId": "of-sqs", "Body": body, "MessageAttributes": attributes}, "q", fifo=False)[0]
    assert (message.id, message.body, message.eta) == ("of-sqs", read, None)
