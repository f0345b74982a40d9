"""The thread that polls a queue outlives what goes wrong in one poll."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Delivery, Message
from anybroker.errors import BrokerUnavailable
from anybroker_broker_sqs.polls import Polls

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_a_poll_that_fails_is_told_and_the_next_one_is_made() -> None:
    found = Delivery(Message("1", "mail", b""), None, 1, datetime.now(UTC))
    failures = [ValueError("what nobody expected")]

    def receive(*_: object) -> list[Delivery]:
        if failures:
            raise failures.pop()
        return [found]

    polls = Polls(receive, lambda _: None, lambda *_: [], 20)
    try:
        with pytest.raises(BrokerUnavailable, match=r"poll of queue 'mail' failed.*what nobody expected"):
            polls.wait(["mail"], 1, 5, 30)
        assert polls.wait(["mail"], 1, 5, 30) == [found]
    finally:
        polls.close()


def test_what_must_not_be_given_back_is_held_until_somebody_asks() -> None:
    """A poll finds what nobody asks for any more: its lease is made longer, time and again."""
    found = Delivery(Message("1", "line", b""), None, 3, datetime.now(UTC))
    late, held = threading.Event(), threading.Semaphore(0)
    given_back: list[Delivery] = []

    def receive(queue: str, *_: object) -> list[Delivery]:
        if queue == "other":
            return [Delivery(Message("2", "other", b""), None, 1, datetime.now(UTC))]
        late.wait(60)
        return [found] if not given_back else []

    def keep(unseen: Sequence[Delivery], lease: int) -> list[Delivery]:
        assert lease == 1
        held.release()
        return list(unseen)

    polls = Polls(receive, given_back.extend, keep, 20)
    try:
        assert [one.message.id for one in polls.wait(["line", "other"], 1, 60, 1)] == ["2"]
        late.set()
        assert all(held.acquire(timeout=60) for _ in range(3))
        assert polls.wait(["line"], 1, 60, 1) == [found]
        assert given_back == []
    finally:
        polls.close()
