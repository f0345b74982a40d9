"""What other programs publish is a task: by the shell command of the guide, and by Google's own client."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from anybroker import App
from tests.brokers.pubsub.server import pubsub

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.services, pytest.mark.slow]

GUIDE = Path(__file__).parents[3] / "docs" / "brokers" / "pubsub.md"
ADD = b'{"v":1,"id":"42","task":"add","args":[2,3]}'


@pytest.fixture
def prefix() -> str:
    return f"t{secrets.token_hex(4)}-"


@pytest.fixture
def app(prefix: str) -> Iterator[App]:
    made = App(f"{pubsub.running.url}&prefix={prefix}", results_url="memory://")

    @made.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    made.broker.acquire(["default"], limit=1, wait=0, lease=10)  # its topic and subscription are there afterwards
    yield made
    made.close()


def test_a_shell_sends_a_task(app: App, prefix: str) -> None:
    [script] = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    endpoint = f"http://127.0.0.1:{pubsub.running.ports['grpc']}"
    done = subprocess.run(
        ["/bin/bash", "-euc", script.replace("anybroker-", prefix)],
        env={**os.environ, "ENDPOINT": endpoint, "PROJECT": "anybroker"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert _result(app, "42") == b"5"


def test_a_bare_client_sends_tasks_due_at_once_and_later(app: App, prefix: str) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{pubsub.running.ports['grpc']}")
    publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    topic = f"projects/anybroker/topics/{prefix}default"
    due = datetime.now(UTC) + timedelta(seconds=2)
    publisher.publish(topic, ADD).result(30)
    later = {"id": "43", "eta": due.isoformat(), "tracing": "kept"}
    publisher.publish(topic, ADD.replace(b"42", b"43"), **later).result(30)
    publisher.publish(topic, ADD.replace(b"42", b"44"), id="44", eta="no date").result(30)
    assert _result(app, "42") == b"5"
    assert _result(app, "43") == b"5"
    assert datetime.now(UTC) >= due
    assert _result(app, "44") == b"5"


def _result(app: App, id_: str) -> bytes:
    backend = app.backend
    assert backend is not None
    with app.worker(concurrency=1):
        found = backend.wait([id_], timeout=60)
    assert found
    [body] = re.findall(rb'"value":(\d+)', found[0].body)
    return bytes(body)
