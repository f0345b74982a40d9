"""The thread that polls a queue outlives what goes wrong in one poll."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from anybroker import App
from anybroker.broker import Delivery, Message
from anybroker.errors import BrokerUnavailable
from anybroker_broker_sqs.polls import PAUSE, Polls
from tests.brokers.sqs.scripted import ScriptedSqs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.brokers.sqs.scripted import Answer


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


def test_a_poll_is_made_after_one_of_which_nothing_could_be_given_back(caplog: pytest.LogCaptureFixture) -> None:
    found = Delivery(Message("1", "mail", b""), None, 1, datetime.now(UTC))
    gave_back = threading.Event()

    def give_back(_: object) -> None:
        gave_back.set()
        raise ValueError("what nobody expected")

    def receive(queue: str, *_: object) -> list[Delivery]:
        if queue == "mail" and not gave_back.is_set():
            asked.wait(60)
        return [found]

    asked = threading.Event()
    polls = Polls(receive, give_back, lambda *_: [], 20)
    try:
        assert polls.wait(["mail", "other"], 1, 60, 30) == [found]  # of the other queue
        asked.set()
        assert gave_back.wait(60)
        assert polls.wait(["mail"], 1, 60, 30) == [found]
    finally:
        polls.close()
    assert "of queue 'mail' is delivered again" in caplog.text


def test_a_service_that_does_not_wait_is_not_asked_without_a_pause() -> None:
    asked = 0

    def receive(*_: object) -> list[Delivery]:
        nonlocal asked
        asked += 1
        return []

    polls = Polls(receive, lambda _: None, lambda *_: [], 20)
    began = time.monotonic()
    try:
        assert polls.wait(["mail"], 1, 0.5, 30) == []
    finally:
        polls.close()
    assert asked <= 1 + (time.monotonic() - began) / PAUSE


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


def test_an_idle_worker_hears_of_a_task_by_the_poll_that_is_open() -> None:
    """And not by the next one: its queue is asked by a short poll and one long poll, which is answered at the end."""
    polling, sent, ran = threading.Event(), threading.Event(), threading.Event()

    def answer(operation: str, call: dict[str, Any]) -> Answer | None:
        if operation != "ReceiveMessage" or call["WaitTimeSeconds"] == 0 or ran.is_set():
            return None
        polling.set()
        assert sent.wait(20)
        asked.append(sqs.operations["ReceiveMessage"])
        return 200, {
            "Messages": [
                {
                    "MessageId": "1",
                    "ReceiptHandle": "handle",
                    "Body": '{"v":1,"id":"1","task":"note","args":[]}',
                    "Attributes": {"ApproximateReceiveCount": "1"},
                }
            ]
        }

    asked: list[int] = []
    with ScriptedSqs(answer) as sqs:
        app = App(sqs.url)

        @app.task(name="note", results=False)
        def note() -> None:
            ran.set()

        with app.worker(concurrency=1):
            assert polling.wait(60)
            sent.set()
            assert ran.wait(60)
        app.close()
    assert asked == [2]
