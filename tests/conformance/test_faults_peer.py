"""Other processes do what they are told, die, stop, wake, and say what went wrong."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anybroker import errors
from anybroker.broker import Message
from anybroker.sqlite import SqliteBroker
from anybroker_conformance import BrokerConformance, LawBroken, Untested
from anybroker_conformance.faults import NotFired
from anybroker_conformance.faults.peer import Peer, PeerDied, PeerError, PeerSilent
from anybroker_conformance.history.recorder import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anybroker.broker import Broker

pytestmark = pytest.mark.slow


class OfUrl(BrokerConformance):
    """Made by the URL, which each test sets."""

    __test__ = False


class OfFactory(BrokerConformance):
    """Made by the class, in the other process too."""

    __test__ = False

    def connect(self) -> SqliteBroker:
        assert self.namespace == "test"
        assert self.url
        return SqliteBroker(self.url.removeprefix("sqlite:///"))


class Nonsense(BrokerConformance):
    __test__ = False

    def connect(self) -> SqliteBroker:
        print("what an adapter prints is no answer")  # noqa: T201
        raise RuntimeError("no such broker")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    started: list[Peer] = []

    def start(kind: type[BrokerConformance] = OfUrl, **options: float) -> Peer:
        suite = kind()
        suite.namespace = "test"
        suite.url = f"sqlite:///{tmp_path}/peer.db"  # type: ignore[misc]
        started.append(Peer(suite, tmp_path / f"peer{len(started)}.jsonl", **options))
        return started[-1]

    yield start
    for peer in started:
        peer.end()
        assert peer.process.returncode is not None


@pytest.mark.parametrize("kind", [OfUrl, OfFactory])
def test_it_does_every_verb(start: Callable[..., Peer], kind: type[BrokerConformance]) -> None:
    peer = start(kind)
    eta = datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    messages = [Message("a", "q", bytes(range(256)), eta=eta, priority=3, ordering_key="k"), Message("b", "q", b"")]
    assert peer.call("enqueue", messages=messages) is None
    assert peer.call("acquire", queues=["q"], limit=5, wait=1, lease=60) == ["a", "b"]
    assert peer.call("extend", lease=50) == [True, True]
    assert peer.call("update", body=b"\xff", queue="p") == [True, True]
    assert peer.call("ack") == [False, False]
    assert peer.call("drop") is None
    assert peer.call("ack") == []
    assert peer.call("drain", queue="p") == ["a", "b"]
    assert peer.call("close") is None
    journal = Journal()
    journal.add_all(peer.path)
    calls = journal.history().calls
    assert [call.verb for call in calls[:5]] == ["enqueue", "acquire", "extend", "update", "ack"]
    assert {call.process for call in calls} == {peer.pid}
    assert {call.client for call in calls} == {peer.path.stem}
    assert calls[0].items[0].content.eta == eta.timestamp()


def count_messages(broker: Broker, *, queue: str) -> int:
    return len(broker.acquire([queue], limit=10, wait=0, lease=60))


def test_it_runs_a_function(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.call("enqueue", messages=[Message("a", "q", b"")])
    function = f"{count_messages.__module__}:{count_messages.__name__}"
    assert peer.call("run", function=function, arguments={"queue": "q"}) == 1


def test_what_is_raised_there_is_raised_here(start: Callable[..., Peer]) -> None:
    peer = start()
    with pytest.raises(errors.ConfigurationError, match="queue name") as caught:
        peer.call("enqueue", messages=[Message("a", "", b"")])
    assert "In the other process" in caught.value.__notes__[0]
    with pytest.raises(errors.Unsupported):
        peer.call("extend", lease=-1)
    with pytest.raises(PeerError, match="nonsense"):
        peer.call("nonsense")
    with pytest.raises(PeerError, match="RuntimeError: no such broker"):
        start(Nonsense)


def test_it_is_killed_and_says_so(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.ask("acquire", queues=["q"], wait=30)
    peer.kill()
    assert peer.process.returncode == -signal.SIGKILL
    with pytest.raises(PeerDied, match="died by SIGKILL during acquire"):
        peer.answer()
    with pytest.raises(PeerDied):
        peer.call("ack")
    with pytest.raises(PeerDied):
        peer.pause()
    peer.end()


def test_one_that_died_of_something_else_was_not_killed(start: Callable[..., Peer]) -> None:
    peer = start()
    os.kill(peer.pid, signal.SIGTERM)
    peer.process.wait(10)
    with pytest.raises(NotFired, match="SIGTERM"):
        peer.kill()


def test_it_stands_still_and_goes_on(start: Callable[..., Peer]) -> None:
    peer = start()
    peer.pause()
    peer.ask("enqueue", messages=[Message("a", "q", b"")])
    with pytest.raises(PeerSilent, match=r"no answer to enqueue within 0\.3 s"):
        peer.answer(within=0.3)
    peer.resume()
    assert peer.answer() is None
    peer.pause()
    peer.end()
    assert peer.process.returncode == 0, "it is woken to close its broker"


@pytest.mark.parametrize("shift", [3600.0, -86400.0])
def test_its_wall_clock_is_shifted(start: Callable[..., Peer], shift: float) -> None:
    peer = start(clock_shift=shift)
    peer.call("enqueue", messages=[Message("a", "q", b"")])
    shown = peer.call("run", function="anybroker_conformance.faults.clock:shown", arguments={})
    now = time.time()
    assert shown.pop("monotonic") == pytest.approx(time.monotonic(), abs=10)
    for name, moment in shown.items():
        assert moment == pytest.approx(now + shift, abs=10), name
    journal = Journal()
    journal.add_all(peer.path)
    assert journal.history().calls[0].began_at == pytest.approx(now, abs=10), "judged by the clock of the server"


def test_a_class_that_cannot_be_imported_is_untested(tmp_path: Path) -> None:
    class Local(BrokerConformance):
        def connect(self) -> SqliteBroker:
            return SqliteBroker(tmp_path / "local.db")

    with pytest.raises(Untested, match="defined in a function"):
        Peer(Local(), tmp_path / "peer.jsonl")


def test_a_broken_law_keeps_its_message() -> None:
    from anybroker_conformance.faults.peer import exception
    from anybroker_conformance.faults.remote import describe

    broken = exception(describe(LawBroken("lost", "id7")))
    assert isinstance(broken, LawBroken)
    assert (str(broken), broken.message_id) == ("lost", "id7")
    partly = exception(describe(errors.BrokerUnavailable("gone", stored=["a"])))
    assert isinstance(partly, errors.BrokerUnavailable)
    assert partly.stored == {"a"}
