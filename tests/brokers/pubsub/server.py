"""The Pub/Sub servers of these tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import anybroker_conformance.services.pubsub
from anybroker_conformance.services.door import install
from tests.live import Service, Url, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker_conformance.services import Running


@contextmanager
def without_emulator() -> Iterator[None]:
    """What the door starts is the stand-in, also where Google's emulator is installed. It is compiled if need be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anybroker_conformance.services.pubsub, "_emulator", lambda: None)
        install(["pubsub"])
        yield


class StandIn(Service):
    """The stand-in, for subscriptions with message ordering.

    The emulator is no judge of them: it does not keep the order of what is given back, and delivers acknowledged
    messages without a key again, both against Google's documentation.
    """

    @property
    def running(self) -> Running:
        with without_emulator():
            return super().running

    def start(self) -> None:
        with without_emulator():
            super().start()

    def revive(self) -> str | None:
        with without_emulator():
            return super().revive()


pubsub = service("pubsub")
stand_in = StandIn("pubsub", "local")


class OwnPrefix(Url):
    """The URL of a suite, in which every test has a prefix of its own.

    A process that a test kills takes what is due later in that test along, and nothing of another test.
    """

    def __get__(self, suite: object | None, kind: type) -> str:
        namespace = getattr(suite, "namespace", "")
        return super().__get__(suite, kind) + (f"&prefix={namespace}-" if namespace else "")
