"""Law 7: update never loses the message, and after True only the new version exists."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.errors import ConfigurationError, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from anybroker.broker import Delivery, Message
    from tests.core.laws.conftest import FullBroker, Subject

replace = msgspec.structs.replace


def test_law07_update__only_the_new_version_exists(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="x", body=b"old")])
    [delivery] = take(lease=short)
    new = replace(delivery.message, body=b"new", priority=3)
    assert broker.update([(delivery, new)]) == [True]
    [fresh] = take()
    assert fresh.message == new
    advance(short * 1.2)
    assert_idle("q")
    assert broker.stats("q").total == 1
    assert broker.ack([fresh]) == [True]
    assert broker.queues() == []


def test_law07_update__a_new_version_counts_its_own_deliveries(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
) -> None:
    broker.enqueue([make()])
    take(lease=short)
    advance(short * 1.2)
    [second] = take()
    assert second.delivery_count == 2
    broker.update([(second, second.message)])
    assert take()[0].delivery_count == 1


def test_law07_update__of_an_expired_lease_that_was_honoured(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(body=b"old")])
    [delivery] = take(lease=short)
    advance(short * 1.2)
    assert broker.stats("q").ready == 1
    new = replace(delivery.message, body=b"new")
    assert broker.update([(delivery, new)]) == [True]
    assert [one.message for one in take()] == [new]
    assert_idle("q")


def test_law07_update__with_an_eta_waits_for_it(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make()])
    [delivery] = take()
    broker.update([(delivery, replace(delivery.message, eta=now() + timedelta(seconds=4 * short)))])
    assert_idle("q")
    advance(4.2 * short)
    assert len(take()) == 1


def test_law07_update__to_another_queue(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="x"), make("q.dead", id="y")])
    [delivery] = take(lease=short)
    dead = replace(delivery.message, queue="q.dead", body=b"why")
    assert broker.update([(delivery, dead)]) == [True]
    advance(short * 1.2)
    assert_idle("q")
    assert broker.queues() == ["q.dead"]
    assert [one.message.id for one in take(2, "q.dead")] == ["y", "x"]


def test_law07_update__the_id_stays_taken(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="x")])
    [delivery] = take()
    broker.update([(delivery, replace(delivery.message, queue="other", body=b"new"))])
    broker.enqueue([make(id="x", body=b"intruder")])
    assert_idle("q")
    assert take(1, "other")[0].message.body == b"new"


def test_law07_update__swaps_two_messages_between_queues(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make("a", id="x"), make("b", id="y")])
    [x], [y] = take(1, "a"), take(1, "b")
    assert broker.update([(x, replace(x.message, queue="b")), (y, replace(y.message, queue="a"))]) == [True, True]
    assert take(1, "a")[0].message.id == "y"
    assert take(1, "b")[0].message.id == "x"


def test_law07_update__refuses_another_id(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make()])
    [delivery] = take()
    with pytest.raises(ConfigurationError):
        broker.update([(delivery, replace(delivery.message, id="another"))])
    assert broker.ack([delivery]) == [True]


def test_law07_update__changes_nothing_when_one_is_too_large(subject: Subject, make: Callable[..., Message]) -> None:
    broker = subject.broker(max_body=10)
    broker.enqueue([make(body=b"a"), make(body=b"b")])
    first, second = broker.acquire(["q"], limit=2, wait=0, lease=60)
    with pytest.raises(MessageTooLarge):
        broker.update([(first, replace(first.message, body=b"c")), (second, replace(second.message, body=b"x" * 11))])
    assert [one.body for one in broker.peek("q")] == [b"a", b"b"]
    assert broker.ack([first, second]) == [True, True]


def test_law07_update__keeps_its_place(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make(id="1"), make(id="2"), make(id="3")])
    [first] = take()
    broker.update([(first, replace(first.message, body=b"again"))])
    assert [one.message.id for one in take(3)] == ["1", "2", "3"]


def test_law07_update__changes_the_priority(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make(id="1"), make(id="2"), make(id="3")])
    first, second, third = take(3)
    raised, lowered = replace(third.message, priority=5), replace(first.message, priority=-5)
    broker.update([(first, lowered), (second, second.message), (third, raised)])
    assert [one.message.id for one in take(3)] == ["3", "2", "1"]
