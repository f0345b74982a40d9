"""Law 9: queues do not leak into one another; any name of 1 to 80 unicode characters works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Delivery, Message
    from tests.core.laws.conftest import FullBroker

FOXES = ["🦊", "🦊🦊", "🦊" * 79, "🦊" * 80]
PREFIXES = ["q", "qq", "q ", " q", "q.dead", "q:dead", "q/dead", "q%", "q_", "q*", "q\0", "q\n", "x" * 79, "x" * 80]
LOOKALIKES = ["Q", "é", "e\u0301", "ß", "SS", "K", "\u212a", "0", "00", "-0"]
SYNTAX = ["'", '"', "\\", "{q}", "[q]", "-", "--", "NULL", "?", "%s", "🦊'; DROP TABLE messages"]
NAMES = [*FOXES, *PREFIXES, *LOOKALIKES, *SYNTAX]


def test_law09_isolation__every_queue_has_its_own(broker: FullBroker, make: Callable[..., Message]) -> None:
    messages = {name: make(name, name.encode()) for name in NAMES}
    broker.enqueue(list(messages.values()))
    assert broker.queues() == sorted(NAMES)
    for name, message in messages.items():
        assert broker.stats(name).total == 1
        taken = broker.acquire([name], limit=10, wait=0, lease=60)
        assert [one.message for one in taken] == [message]
        assert broker.ack(taken) == [True]
    assert broker.queues() == []


@pytest.mark.parametrize("name", ["", "x" * 81, "🦊" * 81])
def test_law09_isolation__refuses_other_names(broker: FullBroker, make: Callable[..., Message], name: str) -> None:
    with pytest.raises(ConfigurationError):
        broker.enqueue([make(), make(name)])
    assert broker.queues() == []


def test_law09_isolation__an_update_cannot_name_one_either(
    broker: FullBroker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make()])
    [delivery] = take()
    with pytest.raises(ConfigurationError):
        broker.update([(delivery, msgspec.structs.replace(delivery.message, queue="x" * 81))])
    assert broker.ack([delivery]) == [True]


def test_law09_isolation__queues_in_order_of_preference(broker: FullBroker, make: Callable[..., Message]) -> None:
    broker.enqueue([make("low", id="l", priority=100), make("high", id="h1"), make("high", id="h2"), make("none")])
    taken = broker.acquire(["high", "empty", "low"], limit=10, wait=0, lease=60)
    assert [one.message.id for one in taken] == ["h1", "h2", "l"]


def test_law09_isolation__a_preferred_queue_comes_first_up_to_the_limit(
    broker: FullBroker, make: Callable[..., Message]
) -> None:
    broker.enqueue([make("low", id="l"), make("high", id="h1"), make("high", id="h2")])
    taken = broker.acquire(["high", "low"], limit=2, wait=0, lease=60)
    assert [one.message.id for one in taken] == ["h1", "h2"]


def test_law09_isolation__a_queue_named_twice_delivers_once(broker: FullBroker, make: Callable[..., Message]) -> None:
    broker.enqueue([make(), make()])
    assert len(broker.acquire(["q", "q"], limit=10, wait=0, lease=60)) == 2
