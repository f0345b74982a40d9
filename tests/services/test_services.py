"""The real servers as processes of this machine; one that is missing here fails these tests."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anybroker_conformance.services import Running, ServiceError, probes, process, running
from anybroker_conformance.services.catalogue import SERVICES
from anybroker_conformance.services.docker import Docker
from anybroker_conformance.services.door import Door
from anybroker_conformance.services.engine import wait_for
from anybroker_conformance.services.rabbitmq import FILES
from anybroker_conformance.services.service import NotReadyError
from anybroker_conformance.services.state import State
from tests.services.round_trips import rabbitmq, read, write
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anybroker_conformance.services.process import Process
    from tests.services.conftest import Command

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]

DURABLE = ["redis", "redis-cluster", "redis-sentinel", "rabbitmq", "sqs", "mongodb"]
IN_MEMORY = ["memcached"]
CONSOLE = [sys.executable, "-m", "anybroker_conformance.services"]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """All services, started once."""
    state = State(tmp_path_factory.mktemp("services") / "state")
    door = Door(state)
    try:
        _, failures = door.up(list(SERVICES), "local")
        assert failures == []
        yield running(state.folder)
        started = _processes(state.folder)
    finally:
        door.down(SERVICES)
    assert {process.state(each) for each in started} == {"ended"}
    assert not state.folder.exists()


def _processes(folder: Path) -> list[Process]:
    found = [process.read(file.parent) for file in folder.glob("*/*/pid")]
    return [each for each in found if each]


def test_all_are_up_with_a_version_and_a_url_of_their_own(services: dict[str, Running]) -> None:
    assert set(services) == set(SERVICES)
    assert all(any(map(str.isdigit, service.version)) for service in services.values())
    assert len({service.url for service in services.values()}) == len(SERVICES)


def test_pubsub_speaks_grpc(services: dict[str, Running]) -> None:
    probes.http2(int(services["pubsub"].url.rpartition(":")[2]))


@pytest.mark.parametrize("name", DURABLE)
def test_data_survives_a_kill(services: dict[str, Running], name: str) -> None:
    service = services[name]
    url = service.url
    write(service)
    service.restart(signal.SIGKILL)
    assert read(service)
    assert service.url == url


@pytest.mark.parametrize("name", IN_MEMORY)
def test_what_is_only_in_memory_is_lost(services: dict[str, Running], name: str) -> None:
    service = services[name]
    write(service)
    assert read(service)
    service.restart(signal.SIGTERM)
    assert not read(service)


@pytest.mark.parametrize("name", ["pubsub", "sqs", "rabbitmq"])
def test_a_server_ends_by_sigterm(services: dict[str, Running], name: str) -> None:
    services[name].restart(signal.SIGTERM)


@pytest.mark.parametrize(("name", "node"), [("redis-cluster", "1"), ("redis-sentinel", "master")])
def test_one_node_is_killed(services: dict[str, Running], name: str, node: str) -> None:
    service = services[name]
    write(service)
    service.restart(signal.SIGKILL, node)
    assert read(service)


def test_sentinels_make_the_replica_the_master_while_the_master_is_paused(services: dict[str, Running]) -> None:
    service = services["redis-sentinel"]
    write(service)
    before = _master(service)
    node = "master" if before == str(service.ports["master"]) else "replica"
    service.pause(node)
    try:
        wait_for(lambda: _must_differ(_master(service), before), 30, dict)
        assert read(service)
    finally:
        service.resume(node)


def _master(service: Running) -> str:
    sentinel = int(service.url.split(",")[0].rpartition(":")[2])
    return probes.redis(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").split()[-1]


def _must_differ(now: str, before: str) -> None:
    if now == before:
        raise NotReadyError("no failover yet")


def test_a_paused_server_says_nothing_until_it_goes_on(services: dict[str, Running]) -> None:
    service = services["redis"]
    service.pause()
    with pytest.raises(TimeoutError):
        probes.redis(service.ports["redis"], "PING")
    service.resume()
    assert probes.redis(service.ports["redis"], "PING") == "PONG"


@pytest.mark.parametrize(("limit", "expected"), [("-S -n 1024", FILES), ("-n 4096", 4096)], ids=["raised", "at most"])
def test_rabbitmq_may_open_the_files_of_thousands_of_queues(folder: Path, limit: str, expected: int) -> None:
    """With 1024 it freezes at the 309th quorum queue, and a suite makes more."""
    up = shlex.join([*CONSOLE, "up", "--local", "rabbitmq"])
    subprocess.run(["/bin/sh", "-c", f"ulimit {limit} && exec {up}"], stdout=subprocess.DEVNULL, check=True)
    service = running(folder)["rabbitmq"]

    def files() -> object:
        """Unknown before the server has counted."""
        return [node.get("fd_total") for node in rabbitmq(service, "GET", "nodes", None)]

    until(lambda: files() == [expected], why=lambda: f"it may open {files()} files")


def test_down_after_the_caller_was_killed(command: Command, folder: Path) -> None:
    with subprocess.Popen([*CONSOLE, "up", "--local", "sqs"], stdout=subprocess.DEVNULL) as caller:
        try:
            wait_for(lambda: _must_exist(folder), 60, dict)
        finally:
            os.kill(caller.pid, signal.SIGKILL)
    (server,) = _processes(folder)
    assert process.state(server) == "running"
    assert "not ready" in command("status", "sqs").stdout
    assert command("down").returncode == 0
    assert process.state(server) == "ended"
    assert not folder.exists()


def _must_exist(folder: Path) -> None:
    if not _processes(folder):
        raise NotReadyError("nothing was started yet")


def test_up_starts_anew_what_has_ended_and_keeps_what_runs(folder: Path) -> None:
    door = Door(State(folder))
    _, failures = door.up(["redis", "memcached"], "local")
    assert failures == []
    before = {name: process.read(folder / name / name) for name in ("redis", "memcached")}
    assert before["redis"]
    process.end(before["redis"], signal.SIGKILL, 10)
    with pytest.raises(ServiceError, match="has ended"):
        running(folder)["redis"].pause()
    _, failures = door.up(["redis", "memcached"], "local")
    assert failures == []
    assert process.read(folder / "memcached" / "memcached") == before["memcached"]
    assert process.state(process.read(folder / "redis" / "redis")) == "running"


def test_a_server_that_does_not_start_is_a_failure_with_its_log(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\necho no room; exit 3\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    done = command("up", "--local", "redis")
    assert done.returncode == 1
    assert "redis: the server redis has ended" in done.stderr
    assert "redis: no room" in done.stderr


def test_the_command_from_up_to_down(command: Command, folder: Path) -> None:
    assert command("up", "--local", "memcached").returncode == 0
    service = running(folder)["memcached"]
    assert command("env", "memcached").stdout == f"export ANYBROKER_TEST_MEMCACHED_URL={service.url}\n"
    for words in (["restart", "memcached", "--signal", "KILL"], ["pause", "memcached"]):
        assert command(*words).returncode == 0
    assert command("status", "memcached").stdout.splitlines()[1].split()[:2] == ["memcached", "paused"]
    assert command("resume", "memcached").returncode == 0
    write(service)
    assert command("down", "memcached").returncode == 0
    assert not folder.exists()


def test_without_a_docker_engine_nobody_waits_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not Docker.answers()
