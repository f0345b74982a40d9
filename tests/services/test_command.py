from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from anybroker_conformance.services.catalogue import SERVICES
from anybroker_conformance.services.docker import COMPOSE_FILE
from anybroker_conformance.services.rabbitmq import FILES
from anybroker_conformance.services.requirements import CACHE_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.conftest import Command


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return services


@pytest.mark.slow
def test_a_missing_server_is_a_failure_that_names_the_command(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    done = command("up", "redis", "sqs")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "missing for redis: redis-server\n" in done.stderr
    assert re.search(r"^  (sudo )?(apt-get install --yes redis-server|brew install redis)$", done.stderr, re.MULTILINE)
    assert "-m anybroker_conformance.services up sqs --install\n" in done.stderr


@pytest.mark.slow
def test_an_unknown_service_is_named_with_those_there_are(command: Command) -> None:
    done = command("up", "kafka")
    assert done.returncode == 2
    assert "kafka" in done.stderr
    assert "redis-cluster" in done.stderr


@pytest.mark.slow
def test_nothing_is_up(command: Command, folder: Path) -> None:
    assert command("down").returncode == 0
    assert [line.split()[1] for line in command("status").stdout.splitlines()[1:]] == ["down"] * len(SERVICES)
    assert json.loads(command("env", "--json").stdout) == {}
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["env", "redis"], ["restart", "redis"], ["pause", "redis"]])
def test_what_needs_a_service_fails_without_it(command: Command, words: list[str]) -> None:
    done = command(*words)
    assert done.returncode == 1
    assert "not up" in done.stderr


def test_compose_has_every_service_and_node_on_the_ports_that_are_looked_for(compose: dict[str, Any]) -> None:
    for service in SERVICES.values():
        assert set(service.containers.values()) <= set(compose)
        published = [_published(text) for text in compose[service.name]["ports"]]
        assert sorted(port for ports in published for port in ports) == sorted(service.ports.values())


def test_compose_allows_rabbitmq_as_many_files_as_here(compose: dict[str, Any]) -> None:
    assert compose["rabbitmq"]["ulimits"]["nofile"] == FILES


def _published(text: str) -> range:
    """The ports of this machine in one entry of ``ports``, which must be of its loopback address."""
    address, ports, _ = text.split(":")
    assert address == "127.0.0.1"
    first, _, last = ports.partition("-")
    return range(int(first), int(last or first) + 1)


def test_compose_pins_versions_and_checks_health(compose: dict[str, Any]) -> None:
    assert all(re.search(r":\d+\.\d+\.\d+", service["image"]) for service in compose.values())
    assert all("healthcheck" in service for service in compose.values())
