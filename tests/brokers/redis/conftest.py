"""The real servers, for tests that take one as a fixture."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker_conformance.faults.server import ServerProcess
from anybroker_conformance.services.redis import SERVER
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker_conformance.services import Running

ON_EVERY_TOPOLOGY = (
    *(
        "law01_durable__through_a_restart",
        "law05_fenced__twice_in_one_batch",
        "law06_final__for_ever",
        "law07_update__whatever",
    ),
    *("law11_prompt__mostly", "law13_reconnects__the_server_is_restarted[KILL]", "law15_honest__stats"),
    *("law01_durable__the_server_restarts[KILL]", "law06_wait__wakes_by", "law07_join__the_last", "law08_claim__one_"),
)
"""Tests of the broker and of the result backend whose outcome depends on the way to the server."""
CERTIFICATES = {"ca": "cert.pem", "cert": "cert.pem", "key": "key.pem"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Behind sentinels and in a cluster, a few laws in the normal run, and the others in the soak."""
    for item in items:
        topology = ("TestRedisSentinel", "TestRedisCluster")
        if any(name in item.nodeid for name in topology) and not any(law in item.nodeid for law in ON_EVERY_TOPOLOGY):
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session")
def redis() -> Running:
    """One Redis with its append-only file."""
    return service("redis").running


@pytest.fixture(scope="session")
def cluster() -> Running:
    """Three masters with a replica each."""
    return service("redis-cluster").running


@pytest.fixture(scope="session")
def sentinel() -> Running:
    """A master, its replica, and three sentinels."""
    return service("redis-sentinel").running


class Guarded(msgspec.Struct, frozen=True):
    """A server that is reached with a client certificate, or by its socket."""

    port: int
    folder: Path

    @property
    def tls_url(self) -> str:
        files = "&".join(f"tls_{name}={self.folder}/{file}" for name, file in CERTIFICATES.items())
        return f"rediss://localhost:{self.port}/0?{files}"

    @property
    def socket_url(self) -> str:
        return f"redis+unix://{self.folder}/redis.sock"


@pytest.fixture(scope="session")
def guarded() -> Iterator[Guarded]:
    """Redis with TLS and a unix socket, and certificates that are made for it."""
    with tempfile.TemporaryDirectory(prefix="redis") as name, socket.socket() as reserved:
        folder = Path(name)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run(make, cwd=folder, check=True, capture_output=True)
        server = ServerProcess(
            [
                *(str(SERVER.path()), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"),
                *("--tls-cert-file", f"{folder}/cert.pem", "--tls-key-file", f"{folder}/key.pem"),
                *("--tls-ca-cert-file", f"{folder}/cert.pem", "--tls-auth-clients", "yes"),
                *("--unixsocket", f"{folder}/redis.sock", "--save", "", "--dir", str(folder)),
            ],
            port=port,
        )
        server.start()
        yield Guarded(port, folder)
        server.stop()


@pytest.fixture(params=["redis", "redis-sentinel", "redis-cluster", "socket", "tls"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of one kind."""
    kind: str = request.param
    if kind in {"socket", "tls"}:
        guarded: Guarded = request.getfixturevalue("guarded")
        return guarded.socket_url if kind == "socket" else guarded.tls_url
    return service(kind).url()
