"""Waiting for results while others wait, or hold a lock."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.backend import Result, State
from anybroker_backend_amqp import AmqpBackend
from anybroker_backend_amqp import waiting as waiting_module
from anybroker_backend_amqp.waiting import Ear
from tests.brokers.amqp.server import rabbitmq
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.services, pytest.mark.slow]
DONE = Result("1", State.SUCCEEDED, 1, b"done")
HOLD = "[sys:{act}(element(2, element(1, Consumer))) || Consumer <- ets:tab2list(consumer_created)]."
"""What makes RabbitMQ's channels that have a consumer stand still, so that what they are to push waits."""


@pytest.fixture
def backends() -> Iterator[tuple[AmqpBackend, AmqpBackend]]:
    """Two objects for the same results."""
    url = rabbitmq.url(prefix=f"r{os.urandom(4).hex()}.")
    with closing(AmqpBackend(url)) as one, closing(AmqpBackend(url)) as other:
        yield one, other


def test_who_waits_beside_another_thread_misses_nothing(
    backends: tuple[AmqpBackend, AmqpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read before the result is stored, unless the second waits until the first one's binding is there."""
    waiting, storing = backends
    waiting.fetch(["1"])
    asked, bind, read = threading.Event(), threading.Event(), threading.Event()
    listen, final = Ear.listen, waiting._final

    def listen_later(ear: Ear, *arguments: Any) -> None:
        asked.set()
        if bind.is_set():
            listen(ear, *arguments)
        else:
            ear.connection.call_later(0.05, lambda: listen_later(ear, *arguments))

    def reads(ids: Sequence[str], *arguments: Any) -> list[Result]:
        found = final(ids, *arguments)
        read.set()
        return found

    monkeypatch.setattr(Ear, "listen", listen_later)
    monkeypatch.setattr(waiting, "_final", reads)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(waiting.wait, ["1"], timeout=60)
        assert asked.wait(60)
        second = threads.submit(waiting.wait, ["1"], timeout=60)
        read.wait(1)
        storing.store([DONE], ttl=60)
        bind.set()
        assert first.result() == second.result() == [DONE]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [([DONE], [DONE]), ([DONE, Result("1", State.RETRYING, 2)], [])],
    ids=["final", "no longer final"],
)
def test_what_the_server_is_slow_to_push_is_waited_for(
    backends: tuple[AmqpBackend, AmqpBackend],
    stored: list[Result],
    expected: list[Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits in turns does not read again, and yet is told what was stored last before."""
    monkeypatch.setattr(waiting_module, "_LINGER", 60.0)  # rabbitmqctl may take longer than a turn
    waiting, storing = backends
    assert waiting.wait(["1"], timeout=0.001) == []
    rabbitmq.ctl("eval", HOLD.format(act="suspend"))
    try:
        for result in stored:
            storing.store([result], ttl=60)
        with ThreadPoolExecutor(1) as threads:
            found = threads.submit(waiting.wait, ["1"], timeout=0.001)
            wait([found], timeout=0.5)
            rabbitmq.ctl("eval", HOLD.format(act="resume"))
            assert found.result() == expected
    finally:
        rabbitmq.ctl("eval", HOLD.format(act="resume"))


def test_a_wait_ends_in_time_while_somebody_holds_the_lock(backends: tuple[AmqpBackend, AmqpBackend]) -> None:
    """Which may be for 25 seconds, and then is an error."""
    waiting, holding = backends
    waiting.store([DONE], ttl=600)
    with holding._results._locked(["1"]):
        assert waiting.wait(["1"], timeout=0) == []
        assert waiting.wait(["1"], timeout=0.1) == []
    assert waiting.wait(["1"], timeout=60) == [DONE]


def test_a_wait_may_be_for_ever(backends: tuple[AmqpBackend, AmqpBackend]) -> None:
    waiting, storing = backends
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(waiting.wait, ["1"], timeout=math.inf)
        until(lambda: waiting._waiting._ear is not None and waiting._waiting._ear.interests)
        storing.store([DONE], ttl=60)
        assert found.result(60) == [DONE]


def test_who_waits_for_what_is_not_stored_takes_no_lock(
    backends: tuple[AmqpBackend, AmqpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which those who store it would have to wait for."""
    waiting, storing = backends
    read: list[str] = []
    final = waiting._final

    def reads(ids: Sequence[str], *arguments: Any) -> list[Result]:
        read.extend(ids)
        return final(ids, *arguments)

    monkeypatch.setattr(waiting, "_final", reads)
    storing.store([Result("2", State.RETRYING, 1)], ttl=60)
    assert waiting.wait(["1", "2"], timeout=0.001) == []
    assert read == ["2"]
    assert waiting.wait(["1", "2"], timeout=0.001) == []
    assert read == ["2"]  # what is stored from now on is pushed


def test_what_is_pushed_is_told_before_the_others_are_looked_for(
    backends: tuple[AmqpBackend, AmqpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, storing = backends
    monkeypatch.setattr(Ear, "_go_on_looking", lambda _: None)
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(waiting.wait, ["1", "2"], timeout=60)
        until(lambda: _is_listened_for(waiting, "1"), why="nobody listens")
        storing.store([DONE], ttl=60)
        assert found.result() == [DONE]


def test_hundreds_are_looked_for_on_a_few_channels(
    backends: tuple[AmqpBackend, AmqpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection has 2047 of them."""
    waiting, storing = backends
    storing.store([DONE], ttl=60)
    monkeypatch.setattr(waiting_module, "_LOOKS", 7)
    open_channels: list[int] = []
    looked = Ear._looked

    def count(ear: Ear, *arguments: Any) -> None:
        open_channels.append(len(ear.connection.channels))
        looked(ear, *arguments)

    monkeypatch.setattr(Ear, "_looked", count)
    ids = [f"none {number}" for number in range(300)]
    assert waiting.wait([*ids, "1"], timeout=60) == [DONE]
    assert len(open_channels) == 301
    assert max(open_channels) < 2 * 7 + 5  # those that are being closed, and those that are not for looking


def test_an_answer_that_is_late_tells_nothing_of_a_new_wait(
    backends: tuple[AmqpBackend, AmqpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result was not there when it was looked for, nobody listened when it was stored, and now it is there."""
    waiting, storing = backends
    answers: list[tuple[Any, ...]] = []
    looked = Ear._looked
    monkeypatch.setattr(Ear, "_looked", lambda *answer: answers.append(answer))
    monkeypatch.setattr(waiting_module, "_LINGER", 0.0)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(waiting.wait, ["1"], timeout=60)
        until(lambda: _is_listened_for(waiting, "1"), why="nobody listens")
        storing.store([DONE], ttl=60)
        assert first.result() == [DONE]
        until(lambda: len(answers) == 1, why="no answer to the first look")
        until(lambda: not _is_listened_for(waiting, "1"), why="somebody listens for ever")
        second = threads.submit(waiting.wait, ["1"], timeout=60)
        until(lambda: len(answers) == 2, why="no answer to the second look")
        for answer in answers:
            answer[0].connection.call(lambda answer=answer: looked(*answer))
        assert second.result() == [DONE]


def _is_listened_for(backend: AmqpBackend, id_: str) -> bool:
    ear = backend._waiting._ear
    interest = ear.interests.get(id_) if ear is not None else None
    return interest is not None and interest.look.bound.done
