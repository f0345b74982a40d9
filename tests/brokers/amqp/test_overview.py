"""What RabbitMQ tells by its management API; laws prove what it tells without."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Estimate, Message
from anybroker.errors import BrokerUnavailable, ConfigurationError, Unsupported
from anybroker_broker_amqp import AmqpBroker
from anybroker_broker_amqp.names import original, queue_name
from tests.brokers.amqp.server import rabbitmq
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ["mail", "mail.dead", "ünïcödé ~ 🦊", "a~1"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0, 7])
def test_a_name_can_be_read_from_that_of_its_queue(name: str, level: int) -> None:
    assert original("anybroker.", queue_name("anybroker.", name, level)) == name


@pytest.mark.parametrize(
    "name", ["anybroker.delay.3", "anybroker.result.1", "mail", queue_name("anybroker.", "🦊" * 80)]
)
def test_other_queues_and_names_that_were_cut_are_left_out(name: str) -> None:
    assert original("anybroker.", name) is None


@pytest.mark.parametrize(
    ("management", "message"),
    [
        ("localhost:15672", "http://localhost:15672"),
        ("http://[::1", "http://localhost:15672"),
        ("http://h:port", "http://localhost:15672"),
        ("http://h:0", "http://localhost:15672"),
        ("http://a..b:15672", "'a..b' is no name of a host"),
        ("http://u:secret%40h:15672", "takes no password"),
    ],
)
def test_a_wrong_address_is_refused_at_once(management: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        AmqpBroker.from_url(f"amqp://h?management={management}")
    assert "secret" not in str(caught.value)


def test_nobody_there_is_said() -> None:
    with (
        closing(AmqpBroker.from_url("amqp://user:secret@localhost?management=http://127.0.0.1:1")) as broker,
        pytest.raises(BrokerUnavailable, match="management API") as caught,
    ):
        broker.known_queues()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"AMQP\0\0\x09\1", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"])
def test_the_port_of_something_else_is_said(answer: bytes) -> None:
    """Of AMQP, or of a web page."""

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(4096)
            client.sendall(answer)

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        closing(AmqpBroker.from_url(f"amqp://h?management=http://127.0.0.1:{listening.getsockname()[1]}")) as broker,
    ):
        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(ConfigurationError, match=r"is something else: .*:15672"):
            broker.known_queues()
        server.join()


def test_nobody_is_told_the_password_to_whom_the_address_leads_on() -> None:
    """As that of a proxy that asks for a login elsewhere."""

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(4096)
            client.sendall(
                b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:%d/\r\n\r\n"
                % elsewhere.getsockname()[1]
            )

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_server(("127.0.0.1", 0)) as elsewhere,
        closing(
            AmqpBroker.from_url(f"amqp://h?timeout=1s&management=http://127.0.0.1:{listening.getsockname()[1]}")
        ) as broker,
    ):
        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(ConfigurationError, match=r"answers 302 Found, to another address: .*:15672"):
            broker.known_queues()
        server.join()
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.services
@pytest.mark.slow
class TestManagement:
    @pytest.fixture
    def broker(self) -> Iterator[AmqpBroker]:
        management = f"http://127.0.0.1:{rabbitmq.running.ports['management']}"
        url = rabbitmq.url(prefix=f"o{secrets.token_hex(4)}.", management=management, priorities=2)
        with closing(AmqpBroker.from_url(url)) as broker:
            yield broker

    def test_ready_and_leased_of_all_priorities(self, broker: AmqpBroker) -> None:
        broker.enqueue([Message(f"{number}", "mail", b"", priority=number % 3) for number in range(6)])
        broker.acquire(["mail"], limit=2, wait=5, lease=60)
        until(lambda: broker.estimate("mail") == Estimate(ready=4, leased=2))
        assert broker.estimate("none") == Estimate(ready=0, leased=0)
        broker.clear("mail")
        assert broker.acquire(["mail"], limit=10, wait=0, lease=60) == []

    def test_queues_are_known(self, broker: AmqpBroker) -> None:
        broker.enqueue([Message(name, name, b"") for name in NAMES])
        assert broker.known_queues() == sorted(NAMES)

    def test_a_wrong_password_is_said(self) -> None:
        ports = rabbitmq.running.ports
        wrong = f"amqp://guest:secret@127.0.0.1:{ports['amqp']}/?management=http://127.0.0.1:{ports['management']}"
        with (
            closing(AmqpBroker.from_url(wrong)) as broker,
            pytest.raises(ConfigurationError, match="answers 401") as caught,
        ):
            broker.known_queues()
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(("path", "virtual_host"), [("wrong", ""), ("", "missing")])
    def test_a_wrong_path_or_virtual_host_is_said(self, path: str, virtual_host: str) -> None:
        ports = rabbitmq.running.ports
        management = f"http://127.0.0.1:{ports['management']}/{path}"
        url = f"amqp://guest:guest@127.0.0.1:{ports['amqp']}/{virtual_host}?management={management}"
        message = f"nothing is at .*15672, .* '{virtual_host or '/'}' must exist"
        with closing(AmqpBroker.from_url(url)) as broker:
            for ask in (broker.known_queues, lambda: broker.estimate("mail")):
                with pytest.raises(ConfigurationError, match=message):
                    ask()

    def test_without_it_the_way_to_it_is_said(self) -> None:
        with closing(AmqpBroker.from_url(rabbitmq.url())) as broker, pytest.raises(Unsupported, match="management="):
            broker.known_queues()
