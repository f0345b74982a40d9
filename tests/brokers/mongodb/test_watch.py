"""Waiting for changes while change streams are refused, end and break."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest
from bson import Timestamp

from anybroker.errors import ConfigurationError
from anybroker_backend_mongodb import MongoBackend
from anybroker_broker_mongodb import MongoBroker
from tests.brokers.mongodb.scripted import MEMBER, NOT_UNICODE, ScriptedMongo, cursor, refusal

ENDS: dict[str, dict[str, Any]] = {
    "invalidated": cursor(batch="nextBatch"),
    "not understood": cursor({"_id": {"token": 1}, "text": NOT_UNICODE}, id_=42, batch="nextBatch"),
    "refused": refusal(13, "not authorized"),
    "lost": refusal(286, "resume of change stream was not possible"),
}
"""What the server says to one who listens. After an invalidation, as by a drop, there is no cursor any more."""


class Streams:
    """Change streams that all end in the same way."""

    def __init__(self, end: dict[str, Any]) -> None:
        self.opened = 0
        self.changed = threading.Condition()
        self._end = end

    def __call__(self, name: str, command: dict[str, Any]) -> dict[str, Any] | None:
        if name == "getMore":
            return self._end
        if name == "aggregate" and "$changeStream" in command["pipeline"][0]:
            with self.changed:
                self.opened += 1
                self.changed.notify_all()
            return {**cursor(id_=42), "operationTime": Timestamp(1, 1)}
        return None

    def until_opened(self, times: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.opened >= times, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_a_stream_that_ended_is_opened_again(end: str) -> None:
    streams = Streams(ENDS[end])
    with ScriptedMongo(streams, hello=MEMBER) as server, closing(MongoBroker.from_url(server.url)) as broker:
        done = threading.Event()

        def wait() -> None:
            while not done.is_set():
                broker.acquire(["q"], limit=1, wait=0.1, lease=1)

        waiting = threading.Thread(target=wait)
        waiting.start()
        try:
            assert streams.until_opened(3)
        finally:
            done.set()
            waiting.join()


def test_one_who_cannot_listen_looks() -> None:
    """And soon: no change stream tells of the message."""
    looks = 0

    def answer(name: str, command: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal looks
        if name != "aggregate":
            return None
        if "$changeStream" in command["pipeline"][0]:
            return refusal(13, "not authorized")
        looks += 1
        return None

    with ScriptedMongo(answer, hello=MEMBER) as server, closing(MongoBroker.from_url(server.url)) as broker:
        deadline = time.monotonic() + 60
        while looks < 10 and time.monotonic() < deadline:
            broker.acquire(["q"], limit=1, wait=1, lease=1)
        assert looks >= 10


@pytest.mark.parametrize("kind", ["broker", "backend"])
def test_streams_that_a_server_alone_does_not_have_are_not_promised(kind: str) -> None:
    def answer(name: str, command: dict[str, Any]) -> dict[str, Any] | None:
        if name == "aggregate" and "$changeStream" in command["pipeline"][0]:
            return refusal(40573, "The $changeStream stage is only supported on replica sets")
        return None

    with ScriptedMongo(answer) as server:
        with closing(MongoBroker.from_url(server.url)) as broker, closing(MongoBackend.from_url(server.url)) as backend:
            assert broker.acquire(["q"], limit=1, wait=0.1, lease=1) == []
            assert backend.wait(["x"], timeout=0.1) == []
        url = f"{server.url}&wake=stream"
        with (
            closing(MongoBroker.from_url(url)) as broker,
            closing(MongoBackend.from_url(url)) as backend,
        ):
            call = broker.queues if kind == "broker" else lambda: backend.fetch(["x"])
            with pytest.raises(ConfigurationError, match="leave out wake=stream"):
                call()
