"""``anybroker doctor``: what it finds, and that it leaves nothing and hangs on nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from anybroker.loading import load_broker

if TYPE_CHECKING:
    from tests.core.cli.conftest import Install, Invoke, Project


@pytest.mark.parametrize("url", ["memory://", "sqlite:///doctor.db"])
def test_healthy_broker(invoke: Invoke, url: str) -> None:
    found = json.loads(invoke("doctor", url, "--json").stdout)
    assert found["ok"] is True
    assert [finding["check"] for finding in found["findings"]] == [
        "broker", "connection", "round trip", "backend", "results",
    ]  # fmt: skip
    assert set(found["latency_ms"]) == {"ping", "enqueue", "acquire", "extend", "update", "acquire again", "ack"}
    assert abs(found["clock_skew_seconds"]) < 1
    assert found["capabilities"]["broker"]["ordering"] == "fifo per key"
    assert found["capabilities"]["backend"]["exact_join"] is True


def test_leaves_nothing_behind(invoke: Invoke) -> None:
    invoke("doctor", "sqlite:///doctor.db")
    broker = load_broker("sqlite:///doctor.db")
    assert broker.queues() == []  # type: ignore[attr-defined]
    broker.close()


def test_prints_for_people_what_is_promised(invoke: Invoke) -> None:
    shown = invoke("doctor", env={"ANYBROKER_URL": "memory://", "ANYBROKER_RESULTS_URL": "none"}).stdout
    assert "ok    backend:    results are off" in shown
    assert "what the broker promises" in shown
    assert "what the backend promises" not in shown


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("reddis://u:hidden@h", "did you mean 'redis://'?"),
        ("localhost:6379", "no scheme"),
        ("memory://?size=3", "unknown option 'size'"),
    ],
)
def test_wrong_url_is_exit_code_2(invoke: Invoke, url: str, says: str) -> None:
    shown = invoke("doctor", url, exit_code=2).output
    assert says in shown
    assert "hidden" not in shown


@pytest.mark.slow
@pytest.mark.usefixtures("broken_services")
@pytest.mark.parametrize(("url", "says"), [("hang://", "no answer within 1 s"), ("down://", "connection refused")])
def test_service_that_does_not_answer_is_exit_code_3_within_seconds(project: Project, url: str, says: str) -> None:
    started = time.monotonic()
    done = project.run("doctor", url, "--json")
    assert time.monotonic() - started < 20
    assert done.returncode == 3
    found = json.loads(done.stdout)
    assert found["ok"] is False
    [problem] = [finding for finding in found["findings"] if not finding["ok"]]
    assert problem["check"] == "connection"
    assert says in problem["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "body", "says"),
    [
        ("ack", "return [False] * len(deliveries)", "ack said that a lease was lost"),
        ("extend", "raise KeyError('secret')", "KeyError"),
    ],
)
def test_service_that_answers_wrongly_is_exit_code_1(
    project: Project, install: Install, verb: str, body: str, says: str
) -> None:
    code = f"""
from anybroker.memory import MemoryBroker
class Wrong(MemoryBroker):
    @classmethod
    def from_url(cls, url):
        return cls()
    def {verb}(self, deliveries, **options):
        {body}
"""
    install("wrong", "wrong_broker", code, "[anybroker.brokers]\nwrong = wrong_broker:Wrong\n")
    done = project.run("doctor", "wrong://")
    assert done.returncode == 1
    assert f"FAIL  round trip: {says}" in done.stdout
