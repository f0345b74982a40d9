"""Law 15: what is not declared is refused, what is declared is there."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Inspect, Message
from anybroker.capabilities import Capabilities, Durability, Ordering
from anybroker.errors import ConfigurationError, MessageTooLarge, Unsupported
from anybroker.validation import check_messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.laws.conftest import FullBroker

WEAK = Capabilities(
    durability=Durability.PROCESS,
    ordering=Ordering.FIFO,
    max_body=3,
    delay_precision=1,
    expiry_bound=1,
    wake_bound=1,
    wait_slack=1,
)


@pytest.mark.parametrize("priority", [2**31, -(2**31) - 1, 10**30])
def test_law15_honest__a_priority_out_of_range(broker: FullBroker, make: Callable[..., Message], priority: int) -> None:
    with pytest.raises(Unsupported):
        broker.enqueue([make(), make(priority=priority)])
    assert broker.queues() == []


def test_law15_honest__an_eta_without_time_zone(broker: FullBroker, make: Callable[..., Message]) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        broker.enqueue([make(), make(eta=datetime(2030, 1, 1))])  # noqa: DTZ001
    assert broker.queues() == []


def test_law15_honest__a_lease_longer_than_declared(broker: FullBroker, make: Callable[..., Message]) -> None:
    longest = broker.capabilities.max_lease
    broker.enqueue([make()])
    if longest == float("inf"):
        longest = 10 * 365 * 86400.0
    else:
        with pytest.raises(Unsupported):
            broker.acquire(["q"], limit=1, wait=0, lease=longest * 1.001)
    held = broker.acquire(["q"], limit=1, wait=0, lease=longest)
    assert broker.extend(held, lease=longest) == [True]


def test_law15_honest__the_reference_brokers_declare_every_ability(broker: FullBroker) -> None:
    declared = broker.capabilities
    assert isinstance(broker, Inspect)
    assert declared.inspect
    assert declared.delivery_count
    assert declared.idempotent_enqueue
    assert declared.ordering is Ordering.FIFO_PER_KEY
    assert declared.priorities == (-(2**31), 2**31 - 1)
    assert declared.shared == (declared.durability is not Durability.PROCESS)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Message("i", "q", b"1234"), MessageTooLarge),
        (Message("i", "q", b"", priority=1), Unsupported),
        (Message("i", "q", b"", priority=-1), Unsupported),
        (Message("i", "q", b"", ordering_key=""), Unsupported),
        (Message("i", "", b""), ConfigurationError),
        (Message("i", "q" * 81, b""), ConfigurationError),
        (Message("i", "q", b"", eta=datetime.max), ConfigurationError),  # noqa: DTZ901
    ],
)
def test_law15_honest__undeclared_abilities_are_refused(message: Message, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_messages([Message("before", "q", b""), message], WEAK)


def test_law15_honest__declared_abilities_are_not() -> None:
    check_messages([Message("i", "🦊" * 80, b"123"), Message("i", "q", b"")], WEAK)
