"""A server is stopped, killed and started, each confirmed; the reference broker keeps what it was given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Message
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.faults import NotFired
from anybroker_conformance.faults.reference import TcpBroker
from anybroker_conformance.faults.reference.process import ReferenceServer
from anybroker_conformance.faults.server import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[ReferenceServer]:
    server = ReferenceServer()
    server.start()
    yield server
    server.start()
    server.kill()


@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill])
def test_it_goes_and_returns_with_what_it_had(server: ReferenceServer, end: object) -> None:
    assert callable(end)
    broker = TcpBroker.from_url(server.url)
    broker.enqueue([Message("a", "q", b"\xff"), Message("b", "q", b"")])
    [held] = broker.acquire(["q"], limit=1, wait=0, lease=60)
    server.start()  # does nothing
    end(server)
    with pytest.raises(BrokerUnavailable):
        broker.stats("q")
    with pytest.raises(NotFired, match="does not run"):
        end(server)
    server.start()
    assert broker.ack([held]) == [True]
    assert [one.message.id for one in broker.acquire(["q"], limit=2, wait=0, lease=60)] == ["b"]
    broker.close()


def test_one_that_dies_at_its_start_says_so() -> None:
    server = ServerProcess([sys.executable, "-c", "import sys; sys.exit('no licence')"], port=1)
    with pytest.raises(NotFired, match="status 1: no licence"):
        server.start()


def test_what_answers_there_already_is_not_taken_for_it(server: ReferenceServer) -> None:
    _, port = server.address
    second = ServerProcess(server.command, port=port)
    with pytest.raises(NotFired, match=f"at 127.0.0.1:{port}> cannot be started: something accepts connections there"):
        second.start()


def test_its_port_is_that_of_one_process(server: ReferenceServer) -> None:
    _, port = server.address
    other = f"from anybroker_conformance.faults.server import *; ServerProcess(['mine'], port={port}).start()"
    run = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
    assert f"NotFired: <mine at 127.0.0.1:{port}> is started by another process already" in run.stderr
    assert "--dist loadfile" in run.stderr


def test_one_that_ends_otherwise_was_not_killed(server: ReferenceServer) -> None:
    process = server._process
    assert process
    os.kill(process.pid, signal.SIGTERM)
    process.wait(10)
    with pytest.raises(NotFired):
        server.kill()
