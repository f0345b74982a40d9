"""The RabbitMQ of these tests."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from tests.live import Service
from tests.waiting import until

YOUNG = 1.0
"""Seconds after which a quorum queue survives SIGKILL; see the README of the broker."""


class RabbitMQ(Service):
    """Its server and ``rabbitmqctl``."""

    def ctl(self, *words: str) -> str:
        """Run ``rabbitmqctl``; of a server that runs as a local process."""
        running = self.running
        home = self.folder / "rabbitmq" / "rabbitmq"
        environment = {
            **os.environ,
            "HOME": str(home),
            "ERL_EPMD_PORT": str(running.ports["epmd"]),
            "RABBITMQ_NODENAME": f"anybroker{running.ports['amqp']}@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
        }
        program = shutil.which("rabbitmqctl", path="/usr/lib/rabbitmq/bin") or "rabbitmqctl"
        done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def queue(self, name: str) -> dict[str, Any]:
        """What the management API tells of a queue."""
        url = urlsplit(self.running.variables["ANYBROKER_TEST_RABBITMQ_MANAGEMENT_URL"])
        request = urllib.request.Request(f"http://{url.hostname}:{url.port}/api/queues/%2F/{quote(name, safe='')}")
        credentials = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  a server of our own
            found: dict[str, Any] = json.load(answer)
            return found

    def kill(self) -> None:
        """Kill it when it knows of its queues for good.

        RabbitMQ 3.10 notes the name of a new quorum queue on its disk within half a second, and not earlier. Its
        database logs a queue and, by a write of its own, the decision that this counts.
        """
        time.sleep(YOUNG)
        until(self._has_decided, why=f"a queue does not count yet, as {self.folder} has it")
        super().kill()

    def _has_decided(self) -> bool:
        return not any(_is_undecided(file.read_bytes()) for file in self.folder.rglob("LATEST.LOG"))


def _is_undecided(log: bytes) -> bool:
    _, queue, rest = log.rpartition(b"rabbit_durable_queue")
    return bool(queue) and b"committed" not in rest


rabbitmq = RabbitMQ("rabbitmq")
