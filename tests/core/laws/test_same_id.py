"""The same id twice: never an error, never changes the message that is there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from anybroker.broker import Delivery, Message
    from tests.core.laws.conftest import FullBroker


def test_same_id__within_one_batch(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    broker.enqueue([make(id="x", body=b"first"), make(id="y"), make(id="x", body=b"second"), make("other", id="x")])
    assert [(one.message.id, one.message.body) for one in take(2)] == [("x", b"first"), ("y", b"")]
    assert_idle("q", "other")


def test_same_id__while_ready_leased_and_delayed(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    now: Callable[[], datetime],
    assert_idle: Callable[..., None],
) -> None:
    later = make(id="delayed", eta=now() + timedelta(days=1))
    broker.enqueue([make(id="x", body=b"first"), later])
    intruders = [make(id="x", body=b"intruder", priority=9), make(id="delayed", body=b"intruder")]
    broker.enqueue(intruders)
    held = take()
    assert held[0].message.body == b"first"
    broker.enqueue(intruders)
    assert_idle("q")
    assert later in broker.peek("q")
    assert broker.ack(held) == [True]
    assert broker.stats("q").total == 1


def test_same_id__repeating_a_whole_enqueue_changes_nothing(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    assert_idle: Callable[..., None],
) -> None:
    messages = [make(ordering_key="k" if n % 2 else None) for n in range(20)]
    broker.enqueue(messages)
    broker.enqueue(messages)
    assert broker.peek("q") == messages
    for _ in range(20):
        assert broker.ack(take()) == [True]
    assert_idle("q")


def test_same_id__free_after_remove_and_purge(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make(id="x"), make(id="y")])
    assert broker.remove("q", ["x"]) == [True]
    assert broker.purge("q") == 1
    broker.enqueue([make(id="x", body=b"new"), make(id="y", body=b"new")])
    assert [one.message.body for one in take(2)] == [b"new", b"new"]
