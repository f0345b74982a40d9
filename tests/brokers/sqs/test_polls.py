"""The thread that polls a queue outlives what goes wrong in one poll."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from anybroker.broker import Delivery, Message
from anybroker.errors import BrokerUnavailable
from anybroker_broker_sqs.polls import Polls


def test_a_poll_that_fails_is_told_and_the_next_one_is_made() -> None:
    found = Delivery(Message("1", "mail", b""), None, 1, datetime.now(UTC))
    failures = [ValueError("what nobody expected")]

    def receive(*_: object) -> list[Delivery]:
        if failures:
            raise failures.pop()
        return [found]

    polls = Polls(receive, lambda _: None, 20)
    try:
        with pytest.raises(BrokerUnavailable, match=r"poll of queue 'mail' failed.*what nobody expected"):
            polls.wait(["mail"], 1, 5, 30)
        assert polls.wait(["mail"], 1, 5, 30) == [found]
    finally:
        polls.close()
