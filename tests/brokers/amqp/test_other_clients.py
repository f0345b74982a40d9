"""Programs without anybroker send tasks, as the documentation shows it; and encrypted connections carry them."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anybroker import App
from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable
from anybroker_broker_amqp import AmqpBroker
from tests.brokers.amqp.server import rabbitmq

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.services, pytest.mark.slow]
PAGE = Path(__file__).parents[3] / "docs" / "brokers" / "amqp.md"


@pytest.fixture
def app() -> Iterator[App]:
    """With the queue of its own that the examples send to."""
    app = App(rabbitmq.running.url, results_url="none", default_queue="orders")

    @app.task(name="shop.add")
    def add(first: int, second: int) -> None:
        done.append(first + second)

    done: list[int] = []
    app.done = done  # type: ignore[attr-defined]
    app.broker.acquire(["orders"], limit=1, wait=0, lease=60)  # declares it
    yield app
    app.close()


def runs_the_task(app: App) -> bool:
    with app.worker():
        for _ in range(600):
            if app.done:  # type: ignore[attr-defined]
                break
            threading.Event().wait(0.05)
    return bool(app.done == [5])  # type: ignore[attr-defined]


def examples(language: str) -> list[str]:
    section = PAGE.read_text().partition("## Other languages")[2]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_the_example_with_a_bare_client(app: App) -> None:
    [example] = examples("python")
    exec(example.replace("amqp://guest:guest@localhost:5672/", rabbitmq.running.url), {})  # noqa: S102  our own page
    assert runs_the_task(app)


def test_the_example_with_the_management_api(app: App) -> None:
    [example] = examples("json")
    management = rabbitmq.running.variables["ANYBROKER_TEST_RABBITMQ_MANAGEMENT_URL"].replace("guest:guest@", "")
    request = urllib.request.Request(f"{management}/api/exchanges/%2F/amq.default/publish", example.encode())  # noqa: S310
    request.add_header("Authorization", f"Basic {base64.b64encode(b'guest:guest').decode()}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        assert json.load(answer) == {"routed": True}
    assert runs_the_task(app)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates for the server ``rabbit.test`` and for a client."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: S607  as on the PATH

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=DNS:rabbit.test\n")
        openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )
    return folder


class Encrypting:
    """Stands before RabbitMQ, takes encrypted connections from clients with a certificate, and notes their SNI."""

    def __init__(self, certificates: Path) -> None:
        self.names: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        context.load_verify_locations(certificates / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.sni_callback = lambda _, name, __: self.names.append(name)
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(plain,), daemon=True).start()

    def _carry(self, plain: socket.socket) -> None:
        try:
            client = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        server = socket.create_connection(("127.0.0.1", rabbitmq.running.ports["amqp"]))
        client.settimeout(0.02)  # one thread uses it for both directions
        server.settimeout(0.02)
        while True:
            for source, target in ((client, server), (server, client)):
                try:
                    data = source.recv(65536)
                    if not data:
                        client.close()
                        server.close()
                        return
                    target.settimeout(5)
                    target.sendall(data)
                    target.settimeout(0.02)
                except TimeoutError:
                    continue
                except OSError:
                    return

    def close(self) -> None:
        self._listening.close()


def test_an_encrypted_connection_with_a_client_certificate(certificates: Path) -> None:
    proxy = Encrypting(certificates)
    files = f"ca={certificates}/ca.pem&certificate={certificates}/client.pem&key={certificates}/client.key"
    base = f"amqps://guest:guest@127.0.0.1:{proxy.port}/"
    broker = AmqpBroker(f"{base}?{files}&server_name=rabbit.test&prefix=t{os.urandom(4).hex()}.")
    try:
        body = os.urandom(300_000)
        broker.enqueue([Message("1", "q", body)])
        [one] = broker.acquire(["q"], limit=1, wait=10, lease=60)
        assert one.message.body == body
        assert broker.ack([one]) == [True]
        assert set(proxy.names) == {"rabbit.test"}
        wrong = AmqpBroker(f"{base}?{files}&server_name=other.test")
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            wrong.enqueue([Message("1", "q", b"")])
        stranger = AmqpBroker(f"{base}?ca={certificates}/ca.pem&server_name=rabbit.test&timeout=5")
        with pytest.raises(BrokerUnavailable):
            stranger.enqueue([Message("1", "q", b"")])
    finally:
        broker.close()
        proxy.close()
