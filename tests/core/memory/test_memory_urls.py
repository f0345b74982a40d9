from __future__ import annotations

import gc

import pytest

from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.clock import ManualClock
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.memory import MemoryBackend, MemoryBroker

MESSAGE = Message("m", "q", b"")
RESULT = Result("r", State.SUCCEEDED, 1)


def test_without_a_name_each_object_has_its_own() -> None:
    broker, backend = MemoryBroker.from_url("memory://"), MemoryBackend.from_url("memory://")
    broker.enqueue([MESSAGE])
    backend.store([RESULT], ttl=None)
    assert MemoryBroker.from_url("memory://").queues() == []
    assert MemoryBackend.from_url("memory://").fetch(["r"]) == [None]


def test_those_of_one_name_share() -> None:
    broker, backend = MemoryBroker.from_url("memory://shared"), MemoryBackend.from_url("memory://shared")
    broker.enqueue([MESSAGE])
    backend.store([RESULT], ttl=None)
    assert MemoryBroker.from_url("memory://shared").peek("q") == [MESSAGE]
    assert MemoryBackend.from_url("memory://shared").fetch(["r"]) == [RESULT]
    assert MemoryBroker.from_url("memory://other").queues() == []


def test_a_name_lives_as_long_as_somebody_uses_it() -> None:
    broker = MemoryBroker(name="brief")
    broker.enqueue([MESSAGE])
    del broker
    gc.collect()
    assert MemoryBroker(name="brief").queues() == []


def test_a_name_keeps_the_clock_of_its_first_user() -> None:
    clock = ManualClock()
    first = MemoryBroker(name="clock", clock=clock)
    second = MemoryBroker(name="clock")
    first.enqueue([MESSAGE])
    [delivery] = second.acquire(["q"], limit=1, wait=0, lease=60)
    assert (delivery.lease_until - clock.now()).total_seconds() == 60


def test_max_body_is_an_option() -> None:
    assert MemoryBroker.from_url("memory://?max_body=10").capabilities.max_body == 10
    assert MemoryBackend.from_url("memory://n?max_body=11").capabilities.max_body == 11


@pytest.mark.parametrize("url", ["redis://", "memory:///path", "memory://name/path", "memory://?max_bod=1", "memory"])
@pytest.mark.parametrize("adapter", [MemoryBroker, MemoryBackend])
def test_other_urls_are_refused(adapter: type[MemoryBroker | MemoryBackend], url: str) -> None:
    with pytest.raises(ConfigurationError):
        adapter.from_url(url)


def test_a_closed_broker_says_so() -> None:
    broker = MemoryBroker()
    broker.enqueue([MESSAGE])
    held = broker.acquire(["q"], limit=1, wait=0, lease=60)
    broker.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        broker.enqueue([MESSAGE])
    with pytest.raises(BrokerUnavailable, match="closed"):
        broker.acquire(["q"], limit=1, wait=0, lease=60)
    assert broker.ack(held) == [False]
