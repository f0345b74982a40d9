"""What RabbitMQ does to its clients: alarms, channels closed, queues deleted, permissions denied."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from pika import spec

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker_broker_amqp import AmqpBroker
from tests.brokers.amqp.server import rabbitmq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def test_a_consumer_timeout_is_warned_of_and_survived(
    make_broker: Callable[..., AmqpBroker], caplog: pytest.LogCaptureFixture
) -> None:
    set_timeout = (
        "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {})."
    )
    rabbitmq.ctl("eval", set_timeout.format(3000, 200))
    try:
        broker = make_broker("consumer_timeout=3s")
        broker.enqueue([message("1"), message("2")])
        [held] = broker.acquire(["q"], limit=1, wait=5, lease=60)
        with caplog.at_level(logging.WARNING, "anybroker.amqp"):
            deadline = time.monotonic() + 30
            while broker.extend([held], lease=60) == [True]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        said = [record.getMessage() for record in caplog.records]
        assert any("a message is held since" in text for text in said), said
        assert sum("has closed a channel" in text for text in said) == 1, said
        assert broker.ack([held]) == [False]
        back = [one.message.id for _ in range(2) for one in broker.acquire(["q"], limit=1, wait=10, lease=60)]
        assert sorted(back) == ["1", "2"]
    finally:
        rabbitmq.ctl("eval", set_timeout.format(1800000, 60000))


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
        time.sleep(0.5)  # it is most probably waiting; if not, the queue is missing when it begins to
        rabbitmq.ctl("delete_queue", name(broker))
        other.enqueue([message("2")])
        waiting.join(30)
    assert taken == ["2"]
    assert sum("was deleted" in record.getMessage() for record in caplog.records) <= 1


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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in rabbitmq.ctl("-q", "list_consumers", "queue_name", "channel_pid").splitlines():
            found, _, pid = line.partition("\t")
            if found == queue:
                rabbitmq.ctl("eval", f'exit(rabbit_misc:string_to_pid("{pid}"), crash).')
                return
    raise AssertionError(f"nobody consumes from {queue}")


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

    def publish_while_the_channel_goes(messages: list[Message]) -> None:
        publish(messages)
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
    rabbitmq.ctl("eval", 'rabbit_auth_backend_internal:add_user(<<"meek">>, <<"secret">>, <<"test">>).')
    rabbitmq.ctl("set_permissions", "meek", "^$", ".*", ".*")
    make_broker().acquire(["q"], limit=1, wait=0, lease=60)
    with pytest.raises(ConfigurationError, match="permission is missing"):
        make_broker(user="meek:secret").enqueue([message("1")])
    allowed = make_broker("passive=yes", user="meek:secret")
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
