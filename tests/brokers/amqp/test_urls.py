"""URLs, options, names, routing keys and frames; no server."""

from __future__ import annotations

import random
import socket
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pika import exceptions, frame, spec

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_backend, load_broker, read_options
from anybroker_backend_amqp import AmqpBackend
from anybroker_broker_amqp import AmqpBroker, delays, wire
from anybroker_broker_amqp.names import queue_name
from anybroker_broker_amqp.translation import meaning
from anybroker_broker_amqp.urls import Options, split, targets


def where(url: str) -> list[tuple[str, int, str]]:
    address = split(url)
    return [(one.host, one.port, one.virtual_host) for one in targets(address, read_options(address, Options))]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://", [("localhost", 5672, "/")]),
        ("amqp://h", [("h", 5672, "/")]),
        ("amqp://h/", [("h", 5672, "/")]),
        ("amqp://h/%2F", [("h", 5672, "/")]),
        ("amqp://h/jobs", [("h", 5672, "jobs")]),
        ("amqp://h/a%2Fb", [("h", 5672, "a/b")]),
        ("amqps://h", [("h", 5671, "/")]),
        ("amqp://u:p@a:1,b,[::1]:3/v", [("a", 1, "v"), ("b", 5672, "v"), ("::1", 3, "v")]),
    ],
)
def test_hosts_and_virtual_hosts(url: str, expected: list[tuple[str, int, str]]) -> None:
    assert where(url) == expected


def test_what_is_not_given_is_what_rabbitmq_has_by_default() -> None:
    address = split("amqp://h")
    [target] = targets(address, read_options(address, Options))
    assert (target.credentials.username, target.credentials.password) == ("guest", "guest")
    assert target.heartbeat == 10


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("amqp://h?priorites=3", "did you mean 'priorities'"),
        ("amqp://h?type=lazy", "one of quorum, classic"),
        ("amqp://h?prefix=amq.x", "prefix"),
        ("amqp://h?prefix=x%0A", "prefix"),
        (f"amqp://h?prefix={'%C3%BC' * 31}", "at most 60 bytes"),
        ("amqp://h?heartbeat=0", "heartbeat"),
        ("amqp://h?ca=/x", "are for amqps"),
        ("amqps://h?ca=/does/not/exist", "No such file"),
        ("amqps://h?server_name=.de", "'.de' is no name of a host"),
    ],
)
def test_mistakes_are_said_without_the_password(url: str, message: str) -> None:
    url = url.replace("://h", "://user:hunter2@h")
    for load in (load_broker, load_backend):
        with pytest.raises(ConfigurationError, match=message) as raised:
            load(url)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "longest", "advice"),
    [
        ("timeout", "1d", "10s if not given"),
        ("consumer_timeout", "3650d", r"give what the server has \(30m unless configured\), or leave it out"),
        ("group_ttl", "3650d", "7d if not given"),
    ],
)
def test_durations_with_which_nothing_would_work_are_refused(option: str, longest: str, advice: str) -> None:
    for load in (load_broker, load_backend):
        for wrong in ("0", "500ms", f"{longest[:-1]}.1d", "999999999d"):
            with pytest.raises(ConfigurationError, match=f"'{option}' is from 1s to {longest}: .*{advice}"):
                load(f"amqp://h?{option}={wrong}")
        for right in ("1s", longest):
            load(f"amqp://h?{option}={right}").close()


def test_one_url_is_for_broker_and_backend() -> None:
    url = "amqp://h?priorities=3&type=classic&group_ttl=1h&timeout=3s"
    assert isinstance(load_broker(url), AmqpBroker)
    assert isinstance(load_backend(url), AmqpBackend)


def test_what_is_declared_follows_the_options() -> None:
    assert load_broker("amqp://h").capabilities.priorities is None
    assert load_broker("amqp://h?priorities=3").capabilities.priorities == (0, 3)
    assert load_broker("amqp://h").capabilities.delivery_count
    assert not load_broker("amqp://h?type=classic").capabilities.delivery_count
    assert load_broker("amqp://h?consumer_timeout=1h").capabilities.max_lease == 3590
    assert load_broker("amqp://h?consumer_timeout=100s").capabilities.max_lease == 98


def test_a_server_that_is_not_there_is_reported_at_once() -> None:
    with pytest.raises(BrokerUnavailable, match=r"amqp://127\.0\.0\.1:1: .*refused"):
        load_broker("amqp://u:hunter2@127.0.0.1:1").enqueue([Message("1", "q", b"")])


def test_a_port_where_nobody_speaks_amqp_is_said() -> None:
    """As that of RabbitMQ's management, which waits for the rest of a line."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://u:hunter2@127.0.0.1:{silent.getsockname()[1]}/?timeout=1s"
        with pytest.raises(BrokerUnavailable, match=r"no answer within 1 s; RabbitMQ speaks AMQP at port 5672"):
            load_broker(url).enqueue([Message("1", "q", b"")])


# names


@pytest.mark.parametrize(
    ("queue", "name"),
    [("mail", "p.mail"), ("shop.mail", "p.shop%2Email"), ("a b", "p.a%20b"), ("ü", "p.%C3%BC"), ("*#", "p.%2A%23")],
)
def test_names_are_readable_words(queue: str, name: str) -> None:
    assert queue_name("p.", queue) == name


def test_long_names_differ_where_the_queues_do() -> None:
    queues = ["\U0001f98a" * 80, "\U0001f98a" * 79, "\U0001f98a" * 79 + "x", "x" * 80, "~" * 80, "~" * 79]
    names = {queue_name("p" * 60, queue, level) for queue in queues for level in range(3)}
    assert len(names) == 3 * len(queues)
    assert all(len(name) <= 255 - 2 * delays.BITS for name in names)


def test_a_name_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"valid Unicode, and '\\ud800' is not"):
        queue_name("p.", "\ud800")


def test_levels_are_no_queues_of_others() -> None:
    assert queue_name("p.", "q", 1) == "p.q~1" != queue_name("p.", "q~1")


# delays


def arrives_after(prefix: str, exchange: str, key: str) -> tuple[float, str]:
    """Follow a message through the topology as it is declared; seconds, and the destination."""
    queues = {one.queue: one for one in delays.declarations(prefix) if isinstance(one, spec.Queue.Declare)}
    bits, destination = key.split(".")[: delays.BITS], key.split(".", delays.BITS)[1 * delays.BITS]
    at = int(exchange.rpartition(".")[2])
    waited = 0
    for bit in range(at, -1, -1):
        if bits[delays.BITS - 1 - bit] == "1":
            arguments = queues[f"{prefix}delay.{bit}"].arguments
            waited += arguments["x-message-ttl"]
            assert arguments["x-dead-letter-exchange"] == delays.exchange(prefix, bit - 1)
    return waited / 1000, destination


def test_every_delay_is_the_sum_of_the_queues_it_passes() -> None:
    chance = random.Random(1)
    for seconds in [0.001, 0.05, 1, 59.9, 3600, 30 * 86400, *(chance.uniform(0, 30 * 86400) for _ in range(50))]:
        waited, destination = arrives_after("p.", *delays.route("p.", "p.mail", seconds))
        assert destination == "mail"
        assert seconds <= waited <= seconds + 0.2


def test_a_longer_delay_waits_in_rounds() -> None:
    waited, _ = arrives_after("p.", *delays.route("p.", "p.mail", 400 * 86400))
    assert waited == pytest.approx(delays.LONGEST)
    assert all(
        one.arguments.get("x-message-ttl", 0) < 2**32
        for one in delays.declarations("p.")
        if isinstance(one, spec.Queue.Declare)
    )


# frames


def decoded(data: bytes) -> list[object]:
    frames: list[object] = []
    while data:
        size, one = frame.decode_frame(data)
        data = data[size:]
        frames.append(one)
    return frames


@pytest.mark.parametrize("body", [b"", b"x", b"y" * 250, bytes(range(256))])
@pytest.mark.parametrize("id_", ["1", "", "\0", "ü" * 100, "x" * 255, "x" * 256, "\U0001f98a" * 100])
@pytest.mark.parametrize(
    "eta", [None, datetime(2030, 1, 2, 3, 4, 5, 6, UTC), datetime.now(timezone(timedelta(hours=9)))]
)
def test_messages_come_back_as_they_went(body: bytes, id_: str, eta: datetime | None) -> None:
    message = Message(id_, "q", body, eta)
    method, header, *bodies = decoded(wire.encode(message, exchange="", routing_key="p.q", channel=7, body_max=100))
    assert isinstance(method, frame.Method)
    assert method.method.mandatory
    assert isinstance(header, frame.Header)
    assert header.properties.delivery_mode == 2
    assert all(one.channel_number == 7 for one in (method, header))
    whole = b"".join(one.fragment for one in bodies if isinstance(one, frame.Body))
    assert wire.decode(header.properties, whole, "q", 0) == message


def test_an_id_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="valid Unicode"):
        wire.encode(Message("\ud800", "q", b""), exchange="", routing_key="q", channel=1, body_max=100)


def test_a_message_without_an_id_gets_one() -> None:
    first, second = (wire.decode(spec.BasicProperties(), b"", "q", 0) for _ in range(2))
    assert first.id
    assert first.id != second.id


# errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.StreamLostError("gone"), BrokerUnavailable),
        (exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED"), BrokerUnavailable),
        (exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED"), BrokerUnavailable),
        (exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED"), ConfigurationError),
        (exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg"), ConfigurationError),
        (exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - timed out"), BrokerUnavailable),
        (ConnectionRefusedError(111, "Connection refused"), BrokerUnavailable),
    ],
)
def test_errors_are_those_of_the_contract_and_keep_their_cause(error: Exception, kind: type[Exception]) -> None:
    translation = meaning(error, "amqp://h:1")
    assert type(translation) is kind
    assert translation.__cause__ is error
    assert "amqp://h:1" in str(translation)


# messages of others


@pytest.mark.parametrize("eta", ["tomorrow", "2025-01-01T00:00:00", 5, datetime(2025, 1, 1), None])  # noqa: DTZ001
def test_what_is_no_moment_is_ignored(eta: object) -> None:
    properties = spec.BasicProperties(headers={"eta": eta}, message_id="1")
    assert wire.decode(properties, b"body", "q", 0) == Message("1", "q", b"body")
