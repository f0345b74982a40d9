"""Law 6: after ack returned True the message never comes back, and it occupies no storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.broker import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Delivery, Message
    from tests.core.laws.conftest import FullBroker


def test_law06_final__gone_for_everyone_for_ever(
    broker: FullBroker,
    another: Callable[[], FullBroker],
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(), make()])
    assert broker.ack(take(2, lease=short)) == [True, True]
    advance(short * 1.2)
    assert_idle("q")
    other = another()
    assert other.acquire(["q"], limit=5, wait=0, lease=60) == []
    assert other.stats("q") == Stats(ready=0, leased=0, delayed=0, oldest=None)
    assert other.queues() == []


def test_law06_final__an_expired_lease_whose_ack_was_honoured(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make()])
    held = take(lease=short)
    advance(short * 1.2)
    assert broker.stats("q").ready == 1
    assert broker.ack(held) == [True]
    assert_idle("q")
    assert broker.queues() == []


def test_law06_final__another_object_may_settle(
    broker: FullBroker,
    another: Callable[[], FullBroker],
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
) -> None:
    broker.enqueue([make()])
    assert another().ack(take()) == [True]
    assert broker.queues() == []


def test_law06_final__the_id_is_free_again(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    for body in (b"first", b"second", b"third"):
        broker.enqueue([make(id="same", body=body)])
        [delivery] = take()
        assert (delivery.message.body, delivery.delivery_count) == (body, 1)
        assert broker.ack([delivery]) == [True]
