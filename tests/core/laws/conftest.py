"""What the law tests run on: every reference broker and backend, behind fixtures that say nothing of which it is.

``subject`` decides. ``memory`` runs by a manual clock, so that ``advance`` takes no time; ``sqlite`` in real time with
short leases. A test that needs real time for both asks for ``realtime``, one that needs other processes for ``url``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from anybroker.broker import Broker, Delivery, Inspect, Message
from anybroker.clock import ManualClock
from anybroker.loading import load_backend, load_broker
from anybroker.memory import MemoryBackend, MemoryBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.backend import ResultBackend

PEER = Path(__file__).with_name("peer.py")


class FullBroker(Broker, Inspect, Protocol):
    """A broker that declares ``inspect``."""


class Subject:
    """One broker and backend under test, and the time they live in."""

    def __init__(self, url: str, clock: ManualClock | None) -> None:
        self.url = url
        self.clock = clock
        self.short = 10.0 if clock else 0.3
        """A lease that a test can outlive."""
        self._opened: list[Broker | ResultBackend] = []

    def broker(self, max_body: int | None = None) -> FullBroker:
        """Open one more broker object on the same messages."""
        options = {} if max_body is None else {"max_body": max_body}
        if self.clock:
            broker: Any = MemoryBroker(name=self.url, clock=self.clock, **options)
        else:
            broker = load_broker(self.url + "".join(f"?{name}={value}" for name, value in options.items()))
        self._opened.append(broker)
        return broker  # type: ignore[no-any-return]

    def backend(self, max_body: int | None = None) -> ResultBackend:
        """Open one more backend object on the same results."""
        options = {} if max_body is None else {"max_body": max_body}
        backend: ResultBackend
        if self.clock:
            backend = MemoryBackend(name=self.url, clock=self.clock, **options)
        else:
            backend = load_backend(self.url + "".join(f"?{name}={value}" for name, value in options.items()))
        self._opened.append(backend)
        return backend

    def now(self) -> datetime:
        """The time by which the broker judges."""
        return self.clock.now() if self.clock else datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if self.clock:
            self.clock.advance(seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """Close whatever was opened."""
        for opened in self._opened:
            opened.close()


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    memory = request.param == "memory"
    subject = Subject(uuid.uuid4().hex, ManualClock()) if memory else Subject(f"sqlite:///{tmp_path}/laws.db", None)
    yield subject
    subject.close()


@pytest.fixture
def broker(subject: Subject) -> FullBroker:
    return subject.broker()


@pytest.fixture
def another(subject: Subject) -> Callable[[], FullBroker]:
    """Open one more broker object on the same messages."""
    return subject.broker


@pytest.fixture
def backend(subject: Subject) -> ResultBackend:
    return subject.backend()


@pytest.fixture
def another_backend(subject: Subject) -> Callable[[], ResultBackend]:
    return subject.backend


@pytest.fixture
def short(subject: Subject) -> float:
    """Seconds of a lease or a ttl that a test can outlive with ``advance``."""
    return subject.short


@pytest.fixture
def advance(subject: Subject) -> Callable[[float], None]:
    """Let seconds pass, by the clock of the subject."""
    return subject.advance


@pytest.fixture
def now(subject: Subject) -> Callable[[], datetime]:
    """The time, by the clock of the subject."""
    return subject.now


@pytest.fixture
def make() -> Callable[..., Message]:
    """A message with an id of its own: ``make("queue", b"body", priority=3)``."""
    ids = count(1)

    def make(queue: str = "q", body: bytes = b"", **fields: Any) -> Message:
        return Message(**{"id": f"m{next(ids)}", "queue": queue, "body": body, **fields})

    return make


def take_from(
    subject: Subject, broker: Broker, number: int = 1, queue: str = "q", *, lease: float = 60.0
) -> list[Delivery]:
    """Acquire exactly so many messages, one after another, waiting for them by the subject's clock."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + 10
    while len(taken) < number:
        assert time.monotonic() < deadline, f"{len(taken)} of {number} messages were delivered"
        wait = 0.0 if subject.clock else 0.2
        taken += broker.acquire([queue], limit=1, wait=wait, lease=lease)
        assert taken or not subject.clock, "nothing is deliverable, and no time passes by itself"
    return taken


@pytest.fixture
def take(subject: Subject, broker: FullBroker) -> Callable[..., list[Delivery]]:
    """Acquire exactly so many messages from the broker under test: ``take(2, "queue", lease=5)``."""
    return partial(take_from, subject, broker)


@pytest.fixture
def assert_idle(broker: Broker) -> Callable[..., None]:
    """Nothing is deliverable now."""

    def assert_idle(*queues: str) -> None:
        assert broker.acquire(queues or ["q"], limit=10, wait=0, lease=60) == []

    return assert_idle


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
def realtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullBroker]:
    """A broker that lives in real time, to be measured."""
    broker = load_broker("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/laws.db")
    yield broker  # type: ignore[misc]  # both declare inspect
    broker.close()


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
def realtime_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResultBackend]:
    """A backend that lives in real time, to be measured."""
    backend = load_backend("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/laws.db")
    yield backend
    backend.close()


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow)])
def url(tmp_path: Path) -> str:
    """The address of a broker that several processes can share."""
    return f"sqlite:///{tmp_path}/laws.db"


@pytest.fixture
def shared(url: str) -> Iterator[FullBroker]:
    """A broker at ``url``."""
    broker = load_broker(url)
    yield broker  # type: ignore[misc]  # both declare inspect
    broker.close()


class Peer:
    """Another process with the broker at a URL: it answers one verb after another (see peer.py)."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def ask(self, *command: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def call(self, *command: object) -> Any:
        self.ask(*command)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@pytest.fixture
def peer(url: str) -> Iterator[Callable[[], Peer]]:
    """Start another process with the same broker."""
    peers: list[Peer] = []

    def start() -> Peer:
        peers.append(Peer(url))
        return peers[-1]

    yield start
    for started in peers:
        started.end()
