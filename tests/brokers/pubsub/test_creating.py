"""Queues that several create at once: Google's emulator (0.8.20) loses what all but the last of them have published."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from google.pubsub_v1 import types

from anybroker.broker import Message
from anybroker_broker_pubsub import PubSubBroker
from anybroker_broker_pubsub.topology import EMULATOR_SETTLES
from tests.brokers.pubsub.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


def _broker(server: Scripted) -> closing[PubSubBroker]:
    return closing(PubSubBroker.from_url(f"pubsub://p1/?endpoint=127.0.0.1:{server.port}"))


def test_objects_and_threads_of_a_process_create_a_subscription_one_after_the_other(server: Scripted) -> None:
    changed = threading.Condition()
    inside: list[str] = []
    together: list[str] = []

    def create(request: Any, _: object) -> Any:
        with changed:
            inside.append(request.name)
            together.extend(inside[:-1])
            changed.notify_all()
            changed.wait_for(lambda: len(inside) > 1, 0.2)  # for as long another one may come
            inside.remove(request.name)
        return request

    server.answer("CreateSubscription", *[create] * 100)
    with ExitStack() as stack:
        brokers = [stack.enter_context(_broker(server)) for _ in range(2)]
        with ThreadPoolExecutor(4) as threads:
            calls = [
                threads.submit(broker.enqueue, [Message(f"{number}{turn}", "q", b"")])
                for number, broker in enumerate(brokers)
                for turn in range(2)
            ]
        assert [call.result() for call in calls] == [None] * 4
    assert together == []
    assert len(server.asked("CreateSubscription")) == 4  # of the queue and of what is not due, by each object


def test_nothing_is_published_before_an_emulator_has_settled_who_created_the_subscription(server: Scripted) -> None:
    created: list[float] = []
    published: list[float] = []

    def create(request: Any, _: object) -> Any:
        created.append(time.monotonic())
        return request

    def publish(*_: object) -> Any:
        published.append(time.monotonic())
        return types.PublishResponse.pb()(message_ids=["1"])

    server.answer("CreateSubscription", *[create] * 2)
    server.answer("Publish", publish)
    with _broker(server) as broker:
        broker.enqueue([Message("1", "q", b"")])
    assert len(created) == 2
    assert published[0] >= created[-1] + EMULATOR_SETTLES
