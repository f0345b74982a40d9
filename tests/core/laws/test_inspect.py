"""Looking into queues without consuming them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from anybroker.broker import Stats

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from anybroker.broker import Delivery, Message
    from tests.core.laws.conftest import FullBroker

NOTHING = Stats(ready=0, leased=0, delayed=0, oldest=None)


def test_inspect__a_queue_that_was_never_used(broker: FullBroker) -> None:
    assert broker.stats("never") == NOTHING
    assert broker.peek("never") == []
    assert broker.purge("never") == 0
    assert broker.remove("never", ["x", "y"]) == [False, False]
    assert broker.remove("never", []) == []
    assert broker.queues() == []


def test_inspect__counts_every_state(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]], now: Callable[[], datetime]
) -> None:
    later = now() + timedelta(days=1)
    broker.enqueue([make(), make(), make(), make(eta=later), make("other")])
    broker.enqueue([make(ordering_key="k"), make(ordering_key="k"), make(ordering_key="k")])
    take(2)
    stats = broker.stats("q")
    assert (stats.ready, stats.leased, stats.delayed, stats.total) == (2, 2, 3, 7)


def test_inspect__an_expired_lease_and_a_past_eta_count_as_ready(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
) -> None:
    broker.enqueue([make(), make(eta=now() + timedelta(seconds=short))])
    take(lease=short)
    advance(short * 1.2)
    stats = broker.stats("q")
    assert (stats.ready, stats.leased, stats.delayed) == (2, 0, 0)


def test_inspect__age_of_the_oldest(
    broker: FullBroker, make: Callable[..., Message], advance: Callable[[float], None], short: float
) -> None:
    broker.enqueue([make()])
    advance(short)
    broker.enqueue([make()])
    oldest = broker.stats("q").oldest
    assert oldest is not None
    assert short * 0.9 <= oldest <= short + 5


def test_inspect__peek_leases_nothing(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    messages = [make(priority=n % 3) for n in range(30)]
    broker.enqueue(messages)
    take(3)
    expected = sorted(messages, key=lambda one: -one.priority)
    assert broker.peek("q") == expected[:20]
    assert broker.peek("q", limit=5) == expected[:5]
    assert broker.peek("q", limit=100) == expected
    assert broker.peek("q", limit=0) == []
    assert broker.stats("q").ready == 27


def test_inspect__remove_spares_what_is_leased(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]], now: Callable[[], datetime]
) -> None:
    broker.enqueue([make(id="held"), make(id="ready"), make(id="later", eta=now() + timedelta(days=1))])
    broker.enqueue([make("other", id="elsewhere")])
    held = take()
    answers = broker.remove("q", ["held", "ready", "later", "elsewhere", "unknown", "ready"])
    assert answers == [False, True, True, False, False, False]
    assert broker.queues() == ["other", "q"]
    assert broker.ack(held) == [True]
    assert broker.queues() == ["other"]


def test_inspect__purge_spares_what_is_leased(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]], now: Callable[[], datetime]
) -> None:
    broker.enqueue([make() for _ in range(5)])
    broker.enqueue([make(eta=now() + timedelta(days=1)), make("other")])
    held = take(2)
    assert broker.purge("q") == 4
    assert broker.stats("q").total == 2
    assert broker.stats("other").total == 1
    assert broker.ack(held) == [True, True]


def test_inspect__purge_takes_what_has_expired(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    broker.enqueue([make()])
    held = take(lease=short)
    advance(short * 1.2)
    assert broker.purge("q") == 1
    assert broker.ack(held) == [False]
    assert broker.queues() == []
