"""Law 3: while a lease is valid nobody else gets the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker, Peer


def test_law03_exclusive__not_even_oneself(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]], assert_idle: Callable[..., None]
) -> None:
    broker.enqueue([make()])
    take()
    assert_idle("q")


def test_law03_exclusive__until_just_before_the_lease_ends(
    broker: Broker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make()])
    take(lease=10 * short)
    advance(short)
    assert_idle("q")


def test_law03_exclusive__leases_of_different_length_on_one_queue(
    broker: Broker,
    another: Callable[[], FullBroker],
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    first, second = make(), make()
    broker.enqueue([first, second])
    take(lease=600)
    [held_briefly] = another().acquire(["q"], limit=1, wait=0, lease=short)
    advance(short * 1.2)
    [back] = take()
    assert back.message == held_briefly.message == second


def test_law03_exclusive__extend_holds_it_longer(
    broker: Broker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make()])
    held = take(lease=short)
    assert broker.extend(held, lease=600) == [True]
    advance(short * 1.2)
    assert_idle("q")
    assert broker.ack(held) == [True]


def test_law03_exclusive__extend_can_shorten_it(
    broker: Broker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    broker.enqueue([make()])
    held = take(lease=3000)
    assert broker.extend(held, lease=short) == [True]
    advance(short * 1.2)
    assert take()[0].delivery_count == 2
    assert broker.extend(held, lease=short) == [False]


def test_law03_exclusive__between_processes(
    shared: Broker, peer: Callable[[], Peer], make: Callable[..., Message]
) -> None:
    messages = [make() for _ in range(10)]
    shared.enqueue(messages)
    theirs = peer().call("acquire", "q", 4, 1, 60)
    ours = [one.message.id for one in shared.acquire(["q"], limit=20, wait=0, lease=60)]
    assert len(theirs) == 4
    assert sorted(theirs + ours) == sorted(message.id for message in messages)
