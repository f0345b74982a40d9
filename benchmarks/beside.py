"""Ours beside a bare loop on the same server, in turns: medians and their ratio."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anybroker.broker import Message
from anybroker.loading import load_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROUNDS = 7
WAKES = 20
LEASE = 30.0
BODY = b"x" * 200
UV = os.environ.get("UV", "uv")
CELERY = "5.7.0"
PEER = Path(__file__).parent / "peer_celery.py"


class Ours:
    """A broker, as its adapter gives it: no worker, no codec."""

    def __init__(self, url: str, *, batch: int) -> None:
        """``batch``: messages of one call."""
        self.broker = load_broker(url)
        self.queue = f"bench-{uuid.uuid4().hex}"
        self._url = url
        self._batch = batch
        self.broker.enqueue([Message("first", self.queue, b"")])  # makes the queue
        self.broker.ack(self.broker.acquire([self.queue], limit=1, wait=5, lease=LEASE))

    def send(self, number: int) -> None:
        ids = [uuid.uuid4().hex for _ in range(number)]
        for start in range(0, number, self._batch):
            self.broker.enqueue([Message(id_, self.queue, BODY) for id_ in ids[start : start + self._batch]])

    def drain(self, number: int) -> None:
        while number > 0:
            taken = self.broker.acquire([self.queue], limit=self._batch, wait=5, lease=LEASE)
            number -= sum(self.broker.ack(taken))

    def show_wake_ups(self) -> None:
        """How long a consumer that waits takes from the return of another one's enqueue to that of its acquire."""
        wakes = sorted(1000 * self._wake(number) for number in range(WAKES))
        print(f"{'wake-up':24} p50 {wakes[WAKES // 2]:.0f} ms, worst {wakes[-1]:.0f} ms")

    def _wake(self, number: int) -> float:
        arrived: list[float] = []

        def wait() -> None:
            taken = self.broker.acquire([self.queue], limit=1, wait=10, lease=LEASE)
            arrived.append(time.perf_counter())
            self.broker.ack(taken)

        other = load_broker(self._url)
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2 + 0.013 * number)
        other.enqueue([Message(f"wake{number}", self.queue, b"")])
        sent = time.perf_counter()
        thread.join()
        other.close()
        return max(0.0, arrived[0] - sent)


class Bare(Protocol):
    """The loop that one would write without anybroker; it knows how many messages."""

    def send(self) -> None: ...

    def drain(self) -> None: ...


class Rates:
    """Messages per second of several things, measured in turns."""

    def __init__(self) -> None:
        self._rates: dict[str, list[float]] = {}

    def take(self, name: str, number: int, work: Callable[[], Any]) -> None:
        """Measure once."""
        began = time.perf_counter()
        work()
        self._rates.setdefault(name, []).append(number / (time.perf_counter() - began))

    def median(self, name: str) -> float:
        return statistics.median(self._rates[name])

    def show(self, compared: Mapping[str, str]) -> None:
        """All of them; some beside others."""
        for name in self._rates:
            other = compared.get(name)
            share = f"  {self.median(name) / self.median(other):.0%} of {other}" if other else ""
            print(f"{name:24} {self.median(name):10,.0f}/s{share}")


def compare(ours: Ours, bare: Bare, number: int) -> None:
    """So many messages are sent and drained, in turns; shows the medians."""
    rates = Rates()
    for _ in range(ROUNDS):
        rates.take("bare send", number, bare.send)
        rates.take("bare drain", number, bare.drain)
        rates.take("enqueue", number, lambda: ours.send(number))
        rates.take("drain", number, lambda: ours.drain(number))
    rates.show({"enqueue": "bare send", "drain": "bare drain"})
    ours.show_wake_ups()
    ours.broker.close()


def show_celery(extra: str, configuration: Mapping[str, Any], number: int) -> None:
    """Show what Celery makes of so many tasks, in an environment of its own; ``extra``: of its distribution."""
    command = [UV, "run", "--quiet", "--no-project", "--with", f"celery[{extra}]=={CELERY}", "python", str(PEER)]
    output = subprocess.run(
        [*command, str(number)],
        input=json.dumps(configuration),
        capture_output=True,
        text=True,
        check=False,
    )
    if output.returncode:
        sys.exit(output.stderr)
    for name, rate in json.loads(output.stdout.splitlines()[-1]).items():  # below the banner of its worker
        print(f"{'Celery, ' + name:24} {rate:10,.0f}/s")
