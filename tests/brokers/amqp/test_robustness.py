"""What RabbitMQ does to its clients: alarms, channels closed, queues deleted, permissions denied."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika import spec

from anybroker.broker import Delivery, Message
from anybroker.errors import BrokerUnavailable, ConfigurationError, MessageTooLarge
from anybroker_broker_amqp import AmqpBroker
from anybroker_conformance.faults.proxy import Proxy
from tests.brokers.amqp.server import rabbitmq
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pika.adapters.blocking_connection import BlockingChannel

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def make_broker() -> Iterator[Callable[..., AmqpBroker]]:
    """A broker with names of its own: ``make_broker("timeout=2")``."""
    prefix = f"r{os.urandom(4).hex()}."
    made: list[AmqpBroker] = []

    def make(options: str = "", user: str = "guest:guest") -> AmqpBroker:
        port = rabbitmq.running.ports["amqp"]
        made.append(AmqpBroker(f"amqp://{user}@127.0.0.1:{port}/?prefix={prefix}&{options}".rstrip("&")))
        return made[-1]

    yield make
    for one in made:
        one.close()


def message(id: str, **fields: object) -> Message:
    return Message(id, "q", b"body", **fields)  # type: ignore[arg-type]


def name(broker: AmqpBroker, queue: str = "q") -> str:
    return f"{broker._options.prefix}{queue}"


def test_an_alarm_stops_enqueue_and_nothing_else(make_broker: Callable[..., AmqpBroker]) -> None:
    broker, patient = make_broker("timeout=2"), make_broker("timeout=90")
    broker.enqueue([message("1"), message("2")])
    [first] = broker.acquire(["q"], limit=1, wait=5, lease=60)
    rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        with pytest.raises(BrokerUnavailable, match=r"takes no messages.*low on memory"):
            broker.enqueue([message("3")])
        with pytest.raises(BrokerUnavailable, match="low on memory"):
            broker.update([(first, message("1"))])
        assert broker.extend([first], lease=60) == [True]
        assert broker.ack([first]) == [True]
        assert len(broker.acquire(["q"], limit=1, wait=5, lease=60)) == 1
        waiting = threading.Thread(target=patient.enqueue, args=([message("4")],))
        waiting.start()
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1500MB")
    waiting.join(60)
    assert not waiting.is_alive()
    broker.enqueue([message("5")])


def test_the_next_host_is_tried_when_one_goes() -> None:
    port = rabbitmq.running.ports["amqp"]
    with Proxy("127.0.0.1", port) as first:
        hosts = f"{first.host}:{first.port},127.0.0.1:{port}"
        with closing(AmqpBroker(f"amqp://guest:guest@{hosts}/?prefix=r{os.urandom(4).hex()}.")) as broker:
            broker.enqueue([message("1")])
            assert first.connections > 0
            first.refuse()
            first.cut_now()
            until(lambda: _is_stored(broker, "2"), why="the second host is not used")
            until(lambda: _acquired(broker) >= {"1"}, why="what the first host took is not delivered by the second")


SIZE = 16 * 2**20


def test_a_message_that_takes_longer_than_the_timeout_to_come_is_waited_for() -> None:
    prefix = f"r{os.urandom(4).hex()}."
    with closing(AmqpBroker(rabbitmq.url(prefix=prefix))) as broker:
        broker.enqueue([Message("1", "q", bytes(SIZE))])
    with slow_line(SIZE // 3) as port:
        url = f"amqp://guest:guest@127.0.0.1:{port}/?prefix={prefix}&timeout=1s"
        with closing(AmqpBroker(url)) as broker:
            began = time.monotonic()
            [one] = broker.acquire(["q"], limit=1, wait=0, lease=60)
            assert time.monotonic() - began > 2
            assert len(one.message.body) == SIZE
            assert broker.ack([one]) == [True]


@contextmanager
def slow_line(speed: int) -> Iterator[int]:
    """A port that leads to the server, which carries so many bytes a second from there."""

    def serve() -> None:
        with suppress(OSError):  # the end
            while True:
                here = listening.accept()[0]
                there = socket.create_connection(("127.0.0.1", rabbitmq.running.ports["amqp"]))
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=carry, args=ends, daemon=True).start()

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source:
            while data := source.recv(2**16):
                sink.sendall(data)
                time.sleep(len(data) / speed)
            sink.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        serving.join()


def _acquired(broker: AmqpBroker) -> set[str]:
    return {one.message.id for one in broker.acquire(["q"], limit=9, wait=1, lease=60)}


def _is_stored(broker: AmqpBroker, id: str) -> bool:
    """The first call after a cut may raise."""
    try:
        broker.enqueue([message(id)])
    except BrokerUnavailable:
        return False
    return True


def test_a_channel_that_the_server_closes_for_its_consumer_timeout_is_survived(
    make_broker: Callable[..., AmqpBroker], caplog: pytest.LogCaptureFixture
) -> None:
    set_timeout = (
        "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {})."
    )
    rabbitmq.ctl("eval", set_timeout.format(3000, 200))
    try:
        broker = make_broker()
        broker.enqueue([message("1"), message("2")])
        [held] = broker.acquire(["q"], limit=1, wait=5, lease=60)
        with caplog.at_level(logging.WARNING, "anybroker.amqp"):
            until_lost(broker, held)
            until(lambda: "has closed a channel" in caplog.text)  # said by the connection's thread, a moment later
        said = [record.getMessage() for record in caplog.records]
        assert sum("has closed a channel" in text for text in said) == 1, said
        assert broker.ack([held]) == [False]
        back = [one.message.id for _ in range(2) for one in broker.acquire(["q"], limit=1, wait=10, lease=60)]
        assert sorted(back) == ["1", "2"]
    finally:
        rabbitmq.ctl("eval", set_timeout.format(1800000, 60000))


def until_lost(broker: AmqpBroker, held: Delivery) -> None:
    def is_lost() -> bool:
        try:
            return broker.extend([held], lease=60) == [False]
        except BrokerUnavailable:  # the channel was closed during the call
            return False

    until(is_lost)


@pytest.mark.parametrize("type", ["quorum", "classic"])
def test_a_lease_ends_where_the_server_would_let_it_last(
    make_broker: Callable[..., AmqpBroker], caplog: pytest.LogCaptureFixture, type: str
) -> None:
    """From RabbitMQ 4.3 on, it does not close the channel."""
    broker, other = make_broker(f"consumer_timeout=3s&type={type}"), make_broker(f"type={type}")
    broker.enqueue([message("1"), message("2")])
    held = broker.acquire(["q"], limit=2, wait=5, lease=60)
    with caplog.at_level(logging.WARNING, "anybroker.amqp"):
        back = [one for _ in range(2) for one in other.acquire(["q"], limit=2, wait=30, lease=60)][:2]
    assert {one.message.id for one in back} == {"1", "2"}
    said = [record.getMessage() for record in caplog.records]
    assert [text[:18] for text in said] == ["a message is held ", "a message was held"]
    assert all(datetime.now(UTC) >= one.lease_until for one in held)
    assert broker.ack(held) == [False, False]
    assert broker.extend(held, lease=60) == [False, False]
    assert other.ack(back) == [True, True]
    broker.enqueue([message("3")])
    [third] = broker.acquire(["q"], limit=2, wait=5, lease=60)
    assert broker.ack([third]) == [True]


def test_a_queue_deleted_under_a_waiting_consumer_is_made_again(
    make_broker: Callable[..., AmqpBroker], caplog: pytest.LogCaptureFixture
) -> None:
    broker, other = make_broker(), make_broker()
    other.enqueue([message("1")])
    assert broker.ack(broker.acquire(["q"], limit=1, wait=5, lease=60)) == [True]
    taken: list[str] = []

    def wait() -> None:
        taken.extend(one.message.id for one in broker.acquire(["q"], limit=5, wait=30, lease=60))

    waiting = threading.Thread(target=wait)
    with caplog.at_level(logging.WARNING, "anybroker.amqp"):
        waiting.start()
        channel_that_consumes(name(broker))
        delete("queue", name(broker))
        until(lambda: "was deleted" in caplog.text)  # RabbitMQ 3.10 cancels none where it is there again within moments
        other.enqueue([message("2")])
        waiting.join(60)
    assert taken == ["2"]
    assert sum("was deleted" in record.getMessage() for record in caplog.records) == 1


def test_a_channel_that_fails_in_the_server_ends_no_acquire(
    make_broker: Callable[..., AmqpBroker], caplog: pytest.LogCaptureFixture
) -> None:
    broker, other = make_broker(), make_broker()
    taken: list[str] = []

    def wait() -> None:
        taken.extend(one.message.id for one in broker.acquire(["q"], limit=5, wait=30, lease=60))

    waiting = threading.Thread(target=wait)
    with caplog.at_level(logging.WARNING, "anybroker.amqp"):
        waiting.start()
        crash_channel(name(broker))
        other.enqueue([message("1")])
        waiting.join(30)
    assert taken == ["1"]
    assert any("RabbitMQ has failed" in record.getMessage() for record in caplog.records)


def crash_channel(queue: str) -> None:
    """Crash the channel that consumes from a queue, once there is one."""
    rabbitmq.ctl("eval", f'exit(rabbit_misc:string_to_pid("{channel_that_consumes(queue)}"), crash).')


def channel_that_consumes(queue: str) -> str:
    """The channel that consumes from a queue, once there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in rabbitmq.ctl("-q", "list_consumers", "queue_name", "channel_pid").splitlines():
            found, _, pid = line.partition("\t")
            if found == queue:
                return pid
    raise AssertionError(f"nobody consumes from {queue}")


@contextmanager
def channel() -> Iterator[BlockingChannel]:
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq.running.url))) as connection:
        yield connection.channel()


def delete(kind: str, name: str) -> None:
    """Delete a queue or an exchange."""
    with channel() as asked:
        asked.queue_delete(name) if kind == "queue" else asked.exchange_delete(name)


def later(id: str, queue: str, seconds: float) -> Message:
    return Message(id, queue, b"body", datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize("type", ["quorum", "classic"])
def test_what_comes_due_while_its_queue_is_gone_is_delivered_when_it_is_back(
    make_broker: Callable[..., AmqpBroker], type: str
) -> None:
    broker, prefix = make_broker(f"type={type}"), make_broker()._options.prefix
    broker.enqueue([later(str(number), "gone", 1) for number in range(105)] + [later("other", "q", 1)])
    delete("queue", name(broker, "gone"))
    until_ready(f"{prefix}delay.strays", 105)
    [other] = broker.acquire(["q"], limit=10, wait=30, lease=60)  # none of them holds this one up
    assert other.message.id == "other"
    make_broker(f"type={type}").acquire(["another"], limit=1, wait=0, lease=60)
    until_ready(f"{prefix}delay.strays", 105)
    found = taken(make_broker(f"type={type}"), "gone", 105)
    assert sorted(found) == sorted(str(number) for number in range(105))
    until_ready(f"{prefix}delay.strays", 0)


def until_ready(queue: str, number: int) -> None:
    """Wait until a queue of RabbitMQ has so many messages."""
    with channel() as asked:
        until(lambda: asked.queue_declare(queue, passive=True).method.message_count == number)


def taken(broker: AmqpBroker, queue: str, number: int) -> list[str]:
    """The ids of so many messages."""
    found: list[str] = []
    deadline = time.monotonic() + 60
    while len(found) < number and time.monotonic() < deadline:
        found += [one.message.id for one in broker.acquire([queue], limit=number, wait=1, lease=60)]
    return found


def test_a_queue_that_is_deleted_and_made_again_gets_what_is_on_its_way(
    make_broker: Callable[..., AmqpBroker],
) -> None:
    broker = make_broker()
    broker.enqueue([later("1", "q", 8)])
    delete("queue", name(broker))
    assert taken(make_broker(), "q", 1) == ["1"]


@pytest.mark.parametrize(
    ("kind", "part"), [("exchange", "done"), ("exchange", "4"), ("queue", "4"), ("queue", "strays")]
)
def test_a_part_of_the_delays_that_is_deleted_is_made_again(
    make_broker: Callable[..., AmqpBroker], kind: str, part: str
) -> None:
    """4: where a delay of two seconds enters."""
    broker = make_broker()
    broker.enqueue([later("1", "q", 0.1)])
    assert taken(broker, "q", 1) == ["1"]
    delete(kind, f"{broker._options.prefix}delay.{part}")
    delete("queue", name(broker))
    deadline = time.monotonic() + 60
    while True:
        try:
            broker.enqueue([later("2", "q", 2)])
            break
        except BrokerUnavailable:
            assert time.monotonic() < deadline
    assert taken(broker, "q", 1) == ["2"]


def test_the_queue_of_strays_is_made_again_when_it_is_missed(make_broker: Callable[..., AmqpBroker]) -> None:
    broker = make_broker()
    broker.enqueue([later("1", "q", 0.1)])
    strays = f"{broker._options.prefix}delay.strays"
    delete("queue", strays)
    for queue in ("r", "r"):  # looks, and then makes it
        assert broker.acquire([queue], limit=1, wait=0, lease=60) == []
    until_ready(strays, 0)


def test_one_that_cannot_be_delayed_once_more_takes_no_other_along(make_broker: Callable[..., AmqpBroker]) -> None:
    broker = make_broker("max_body=1000")
    broker.acquire(["q"], limit=1, wait=0, lease=60)
    with channel() as other:
        other.confirm_delivery()
        again = pika.BasicProperties(message_id="large", headers={"again": True})
        other.basic_publish("", name(broker), bytes(1001), again, mandatory=True)
    broker.enqueue([message("1")])
    assert [one.message.id for one in broker.acquire(["q"], limit=9, wait=5, lease=60)] == ["1"]
    assert taken(make_broker(), "q", 1) == ["large"]


def test_two_copies_of_one_id_are_updated_each(make_broker: Callable[..., AmqpBroker]) -> None:
    broker = make_broker()
    broker.enqueue([message("1"), message("1")])
    taken = broker.acquire(["q"], limit=2, wait=5, lease=60)
    new = Message("1", "q", b"new")
    assert broker.update([(one, new) for one in taken]) == [True, True]
    broker.close()  # what was not removed would be there again
    other = make_broker()
    bodies = [one.message.body for _ in range(3) for one in other.acquire(["q"], limit=5, wait=0.5, lease=60)]
    assert bodies == [b"new", b"new"]


def test_an_update_removes_nothing_of_a_channel_that_came_after_it(
    make_broker: Callable[..., AmqpBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, other = make_broker(), make_broker()
    other.enqueue([message("1"), message("2")])
    [first] = broker.acquire(["q"], limit=1, wait=5, lease=60)
    publish = broker._publish

    def publish_while_the_channel_goes(*arguments: Any) -> None:
        publish(*arguments)
        consumer = broker._links.consumer()
        consumer.connection.call(lambda: consumer.channel.tell(spec.Basic.Ack(999)))  # RabbitMQ closes the channel
        while not broker.acquire(["q"], limit=9, wait=0.2, lease=60):
            pass

    monkeypatch.setattr(broker, "_publish", publish_while_the_channel_goes)
    with pytest.raises(BrokerUnavailable, match="during an update"):
        broker.update([(first, message("1"))])
    broker.close()
    found = {one.message.id for _ in range(3) for one in other.acquire(["q"], limit=5, wait=0.5, lease=60)}
    assert found == {"1", "2"}


def test_an_update_to_a_queue_that_cannot_be_named_leaves_the_lease_alone(
    make_broker: Callable[..., AmqpBroker],
) -> None:
    broker = make_broker()
    broker.enqueue([message("1")])
    [one] = broker.acquire(["q"], limit=1, wait=5, lease=60)
    with pytest.raises(ConfigurationError, match="valid Unicode"):
        broker.update([(one, Message("1", "\ud800", b""))])
    assert broker.extend([one], lease=60) == [True]
    assert broker.ack([one]) == [True]


@pytest.fixture
def full() -> Iterator[None]:
    """Queues named ``full`` take one message, and refuse others."""
    limit = '{"max-length": 1, "overflow": "reject-publish"}'
    rabbitmq.ctl("set_policy", "--apply-to", "queues", "full", r"\.full$", limit)
    yield
    rabbitmq.ctl("clear_policy", "full")


@pytest.mark.usefixtures("full")
def test_an_update_that_is_repeated_tells_of_what_it_had_replaced_before(
    make_broker: Callable[..., AmqpBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anybroker_broker_amqp.broker._PAUSES", (0.0, 0.0))
    broker = make_broker("type=classic")
    broker.enqueue([Message("0", "full", b""), message("1"), message("1"), message("2")])
    *ones, two = broker.acquire(["q"], limit=3, wait=5, lease=60)
    changes = [*((one, Message("1", "q", b"new")) for one in ones), (two, Message("2", "full", b"new"))]
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match=r"'2' \(1 in all\) is not stored"):
            broker.update(changes)
    assert broker.ack(ones) == [False, False]
    broker.clear("full")
    assert broker.update(changes) == [True, True, True]
    assert broker.update(changes) == [False, False, False]
    broker.close()  # what was not removed would be there again
    other = make_broker("type=classic")
    found = [one for _ in range(3) for one in other.acquire(["q", "full"], limit=9, wait=0.5, lease=60)]
    assert [(one.message.id, one.message.body) for one in found] == [("1", b"new"), ("1", b"new"), ("2", b"new")]


def test_passive_declares_nothing_and_says_what_is_missing(make_broker: Callable[..., AmqpBroker]) -> None:
    active, passive = make_broker(), make_broker("passive=yes")
    with pytest.raises(ConfigurationError, match=r"the queue r\w+\.q does not exist"):
        passive.enqueue([message("1")])
    with pytest.raises(ConfigurationError, match="does not exist"):
        passive.acquire(["q"], limit=1, wait=0, lease=60)
    active.acquire(["q"], limit=1, wait=0, lease=60)
    passive.enqueue([message("1")])
    assert passive.ack(passive.acquire(["q"], limit=1, wait=5, lease=60)) == [True]


def test_a_missing_permission_is_said(make_broker: Callable[..., AmqpBroker]) -> None:
    user = meek("^$", ".*", ".*")
    make_broker().acquire(["q"], limit=1, wait=0, lease=60)
    with pytest.raises(ConfigurationError, match="permission is missing"):
        make_broker(user=user).enqueue([message("1")])
    allowed = make_broker("passive=yes", user=user)
    allowed.enqueue([message("1")])
    assert allowed.ack(allowed.acquire(["q"], limit=1, wait=5, lease=60)) == [True]


def test_a_wrong_password_is_said_and_never_shown(make_broker: Callable[..., AmqpBroker]) -> None:
    with pytest.raises(BrokerUnavailable, match="refused") as raised:
        make_broker(user="guest:hunter2").enqueue([message("1")])
    chain: BaseException | None = raised.value
    while chain is not None:
        assert "hunter2" not in str(chain)
        assert "hunter2" not in repr(chain)
        chain = chain.__cause__


def test_a_queue_declared_otherwise_is_said(make_broker: Callable[..., AmqpBroker]) -> None:
    make_broker("type=classic").acquire(["q"], limit=1, wait=0, lease=60)
    with pytest.raises(ConfigurationError, match="declared otherwise"):
        make_broker("type=quorum").enqueue([message("1")])


def test_an_idle_worker_gets_what_a_busy_one_has_no_room_for(make_broker: Callable[..., AmqpBroker]) -> None:
    busy, idle = make_broker(), make_broker()
    busy.enqueue([message(str(number)) for number in range(10)])
    assert len(busy.acquire(["q"], limit=4, wait=5, lease=60)) == 4
    assert len(idle.acquire(["q"], limit=10, wait=5, lease=60)) == 6


# what other programs send


class Foreign(spec.BasicProperties):  # type: ignore[misc]  # pika has no py.typed
    """An id, and a header that pika cannot write."""

    def __init__(self, id: str, name: str, value: bytes) -> None:
        super().__init__(message_id=id)
        self._header = bytes([len(name)]) + name.encode() + value

    def encode(self) -> list[bytes]:
        flags, *others = super().encode()
        with_headers = int.from_bytes(flags) | self.FLAG_HEADERS
        return [with_headers.to_bytes(2), len(self._header).to_bytes(4), self._header, *others]


MILLISECONDS = struct.pack(">cQ", b"T", 1_700_000_000_000)
"""A time, where AMQP has seconds."""


def nested(depth: int) -> bytes:
    """Tables in tables."""
    table = b"F" + bytes(4)
    for _ in range(depth):
        table = struct.pack(">cL2s", b"F", len(table) + 2, b"\1a") + table
    return table


@pytest.mark.parametrize("type", ["quorum", "classic"])
def test_headers_that_python_cannot_read_hold_nothing_up(make_broker: Callable[..., AmqpBroker], type: str) -> None:
    broker = make_broker(f"type={type}")
    broker.enqueue([message("first")])
    headers = {
        "milliseconds": ("at", MILLISECONDS),
        "deep": ("deep", nested(5_000)),
        "no count": ("x-delivery-count", struct.pack(">cL4s", b"S", 4, b"many")),
    }
    with channel() as other:
        other.confirm_delivery()
        for id_, header in headers.items():
            other.basic_publish("", name(broker), b"foreign", Foreign(id_, *header), mandatory=True)
    broker.enqueue([message("last")])
    taken = broker.acquire(["q"], limit=9, wait=5, lease=60)
    assert [one.message.id for one in taken] == ["first", *headers, "last"]
    assert [one.message.body for one in taken[1:-1]] == [b"foreign"] * len(headers)
    assert {one.delivery_count for one in taken} == {1 if type == "quorum" else None}
    assert broker.ack(taken) == [True] * len(taken)


def test_a_message_with_a_header_that_python_cannot_read_is_still_counted(
    make_broker: Callable[..., AmqpBroker],
) -> None:
    """Else what kills its worker would do so for ever."""
    broker = make_broker()
    broker.acquire(["q"], limit=1, wait=0, lease=60)
    with channel() as other:
        other.confirm_delivery()
        other.basic_publish("", name(broker), b"", Foreign("1", "at", MILLISECONDS), mandatory=True)
    for count in (1, 2, 3):
        holder = make_broker()
        [one] = holder.acquire(["q"], limit=1, wait=30, lease=60)
        assert one.delivery_count == count
        holder.close()


# what the server refuses


@pytest.fixture
def small_messages() -> Iterator[None]:
    """The server takes 1,000 bytes."""
    rabbitmq.ctl("eval", "application:set_env(rabbit, max_message_size, 1000).")
    yield
    rabbitmq.ctl("eval", "application:set_env(rabbit, max_message_size, 134217728).")


@pytest.mark.usefixtures("small_messages")
def test_what_is_too_large_for_the_server_is_said(make_broker: Callable[..., AmqpBroker]) -> None:
    broker = make_broker()
    large = Message("large", "q", bytes(1001))
    with pytest.raises(MessageTooLarge, match=r"'large' has 1,001 bytes.* raise max_message_size .*: 1,000"):
        broker.enqueue([large])
    publisher = broker._links.publisher()
    with pytest.raises(MessageTooLarge, match="'large'"):
        broker.enqueue([message("1"), large])
    assert broker._links.publisher() is publisher  # it is known by now, and not sent
    broker.enqueue([Message("2", "q", bytes(1000))])
    assert taken(broker, "q", 1) == ["2"]


@pytest.mark.usefixtures("small_messages")
def test_messages_of_others_are_stored_beside_one_that_is_too_large(make_broker: Callable[..., AmqpBroker]) -> None:
    broker = make_broker()
    broker.enqueue([message("first")])
    publisher = broker._links.publisher()
    refused = threading.Thread(target=refuse, args=(broker, Message("large", "q", bytes(1001))))
    sent = threading.Thread(target=broker.enqueue, args=([message("second")],))
    holding, held = threading.Event(), threading.Event()
    publisher.connection.call(holding.set)
    publisher.connection.call(held.wait)  # until both have asked for it
    assert holding.wait(60)
    until(lambda: not publisher.connection._calls)
    for thread in (refused, sent):
        before = len(publisher.connection._calls)
        thread.start()
        until(lambda: len(publisher.connection._calls) > before)  # noqa: B023  before the next one
    held.set()
    for thread in (refused, sent):
        thread.join(60)
    assert set(taken(broker, "q", 2)) == {"first", "second"}


def refuse(broker: AmqpBroker, large: Message) -> None:
    with pytest.raises(MessageTooLarge):
        broker.enqueue([large])


@pytest.mark.usefixtures("small_messages")
def test_an_update_with_a_version_that_is_too_large_changes_nothing(
    make_broker: Callable[..., AmqpBroker],
) -> None:
    broker = make_broker()
    broker.enqueue([message("1"), message("2")])
    with pytest.raises(MessageTooLarge):  # from now on the limit is known
        broker.enqueue([Message("0", "q", bytes(1001))])
    one, two = broker.acquire(["q"], limit=2, wait=5, lease=60)
    with pytest.raises(MessageTooLarge, match="'2'"):
        broker.update([(one, message("1")), (two, Message("2", "q", bytes(1001)))])
    assert broker.ack([one, two]) == [True, True]
    broker.close()
    assert make_broker().acquire(["q"], limit=1, wait=1, lease=60) == []


def send(broker: AmqpBroker) -> None:
    broker.enqueue([message("2")])


def take(broker: AmqpBroker) -> None:
    broker.acquire(["q"], limit=1, wait=5, lease=60)


@pytest.mark.parametrize(("write", "read", "call"), [("^$", ".*", send), (".*", "^$", take)])
def test_a_missing_permission_to_write_or_read_is_said(
    make_broker: Callable[..., AmqpBroker], write: str, read: str, call: Callable[[AmqpBroker], None]
) -> None:
    make_broker().enqueue([message("1")])
    broker = make_broker("passive=yes", user=meek("^$", write, read))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"permission is missing.*set_permissions.*ACCESS_REFUSED"):
            call(broker)


def meek(*permissions: str) -> str:
    """A user who may only configure, write and read what these patterns say."""
    rabbitmq.ctl("eval", 'catch rabbit_auth_backend_internal:add_user(<<"meek">>, <<"secret">>, <<"test">>).')
    rabbitmq.ctl("set_permissions", "meek", *permissions)
    return "meek:secret"
