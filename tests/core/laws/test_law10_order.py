"""Law 10: order as declared; the higher priority goes first."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from anybroker.broker import Delivery, Message
    from tests.core.laws.conftest import FullBroker

replace = msgspec.structs.replace


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


def test_law10_order__fifo_in_one_batch_and_over_several(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    messages = [make() for _ in range(40)]
    broker.enqueue(messages[:25])
    for message in messages[25:]:
        broker.enqueue([message])
    assert ids(take(15)) + ids(broker.acquire(["q"], limit=50, wait=0, lease=60)) == [one.id for one in messages]


def test_law10_order__the_higher_priority_first_and_fifo_within(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    priorities = [0, -3, 7, 0, 2**31 - 1, -(2**31), 7, -3, 255]
    messages = [make(priority=priority) for priority in priorities]
    broker.enqueue(messages)
    expected = [one.id for one in sorted(messages, key=lambda one: -one.priority)]
    assert [one.id for one in broker.peek("q")] == expected
    assert ids(broker.acquire(["q"], limit=4, wait=0, lease=60)) == expected[:4]
    assert ids(take(5)) == expected[4:]


def test_law10_order__one_key_is_delivered_one_at_a_time(
    broker: FullBroker, make: Callable[..., Message], assert_idle: Callable[..., None]
) -> None:
    broker.enqueue([make(id=str(n), ordering_key="k") for n in range(3)])
    for n in range(3):
        [delivery] = broker.acquire(["q"], limit=10, wait=0, lease=60)
        assert delivery.message.id == str(n)
        assert_idle("q")
        assert broker.ack([delivery]) == [True]


def test_law10_order__other_keys_and_none_are_not_held_back(broker: FullBroker, make: Callable[..., Message]) -> None:
    broker.enqueue(
        [
            make(id="a1", ordering_key="a"),
            make(id="a2", ordering_key="a"),
            make(id="b1", ordering_key="b"),
            make(id="n1"),
            make(id="n2"),
            make(id="b2", ordering_key="b"),
            make(id="empty", ordering_key=""),
        ]
    )
    assert ids(broker.acquire(["q"], limit=10, wait=0, lease=60)) == ["a1", "b1", "n1", "n2", "empty"]


def test_law10_order__the_same_key_in_another_queue_is_another_key(
    broker: FullBroker, make: Callable[..., Message]
) -> None:
    broker.enqueue([make("q", ordering_key="k"), make("r", ordering_key="k")])
    assert len(broker.acquire(["q", "r"], limit=10, wait=0, lease=60)) == 2


def test_law10_order__a_key_is_stronger_than_a_priority(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="first", ordering_key="k", priority=-5), make(id="second", ordering_key="k", priority=5)])
    held = take()
    assert ids(held) == ["first"]
    assert_idle("q")
    broker.ack(held)
    assert ids(take()) == ["second"]


def test_law10_order__a_retry_keeps_the_key_blocked(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="1", ordering_key="k"), make(id="2", ordering_key="k"), make(id="free")])
    [first] = take()
    retry = replace(first.message, eta=now() + timedelta(seconds=4 * short), priority=-1)
    broker.update([(first, retry)])
    assert ids(take()) == ["free"]
    assert_idle("q")
    advance(4.2 * short)
    [again] = take()
    assert again.message == retry
    assert_idle("q")
    broker.ack([again])
    assert ids(take()) == ["2"]


def test_law10_order__a_first_message_with_an_eta_blocks_its_key(
    broker: FullBroker,
    make: Callable[..., Message],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    eta = now() + timedelta(seconds=4 * short)
    broker.enqueue([make(id="1", ordering_key="k", eta=eta), make(id="2", ordering_key="k")])
    assert_idle("q")
    assert broker.stats("q").delayed == 2
    advance(4.2 * short)
    assert ids(broker.acquire(["q"], limit=5, wait=0, lease=60)) == ["1"]


def test_law10_order__an_expired_lease_keeps_the_key_blocked(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    broker.enqueue([make(id="1", ordering_key="k"), make(id="2", ordering_key="k")])
    take(lease=short)
    advance(short * 1.2)
    again = broker.acquire(["q"], limit=5, wait=0, lease=60)
    assert ids(again) == ["1"]
    broker.ack(again)
    assert ids(take()) == ["2"]


def test_law10_order__leaving_the_queue_unblocks_the_next(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="1", ordering_key="k"), make(id="2", ordering_key="k")])
    [first] = take()
    broker.update([(first, replace(first.message, queue="q.dead"))])
    assert ids(take()) == ["2"]
    assert ids(take(1, "q.dead")) == ["1"]
    assert_idle("q", "q.dead")


def test_law10_order__arriving_in_another_queue_waits_for_the_key_there(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="mover", ordering_key="k"), make("r", id="there", ordering_key="k")])
    [mover] = take()
    [there] = take(1, "r")
    broker.update([(mover, replace(mover.message, queue="r", priority=9))])
    assert_idle("q", "r")
    broker.ack([there])
    assert ids(take(1, "r")) == ["mover"]


def test_law10_order__the_next_of_a_key_still_waits_for_its_eta(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    eta = now() + timedelta(seconds=4 * short)
    broker.enqueue([make(id="1", ordering_key="k"), make(id="2", ordering_key="k", eta=eta)])
    broker.ack(take())
    assert_idle("q")
    advance(4.2 * short)
    assert ids(take()) == ["2"]


def test_law10_order__removing_the_first_unblocks_the_next(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    assert_idle: Callable[..., None],
) -> None:
    eta = now() + timedelta(days=1)
    broker.enqueue(
        [make(id="1", ordering_key="k", eta=eta), make(id="2", ordering_key="k"), make(id="3", ordering_key="k")]
    )
    assert_idle("q")
    assert broker.remove("q", ["2"]) == [True]
    assert_idle("q")
    assert broker.remove("q", ["1"]) == [True]
    assert ids(take()) == ["3"]


def test_law10_order__a_purge_leaves_a_leased_first_and_its_key_usable(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id=str(n), ordering_key="k") for n in range(4)])
    held = take()
    assert broker.purge("q") == 3
    broker.enqueue([make(id="new", ordering_key="k")])
    assert_idle("q")
    broker.ack(held)
    assert ids(take()) == ["new"]


def test_law10_order__a_key_that_was_purged_is_free(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make(id=str(n), ordering_key="k") for n in range(4)])
    assert broker.purge("q") == 4
    broker.enqueue([make(id="new", ordering_key="k")])
    assert ids(take()) == ["new"]
