"""Processes that die between two commands to a MongoDB server."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.brokers.mongodb.hearing import Listener, heard_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.monitoring import CommandStartedEvent


class Died(BaseException):
    """What pymongo does not catch."""


class Deaths(Listener):
    """Lets a call end before one of its commands, as if its process had been killed there."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._thread = 0

    def before_each_command(self, call: Callable[[str], object]) -> Iterator[str]:
        """Make a call with a name of its own, once for each of its commands, before which it dies; gives the names."""
        for number in count():
            self._left, self._thread = number, threading.get_ident()
            name = f"death{number}"
            try:
                call(name)
            except Died:
                yield name
            else:
                self._left = None
                return

    def started(self, event: CommandStartedEvent) -> None:
        if self._left is None or self._thread != threading.get_ident() or event.command_name == "endSessions":
            return
        self._left -= 1
        if self._left < 0:
            self._left = None
            raise Died


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Deaths:
    """Heard by all clients that are made afterwards."""
    return heard_by(Deaths(), monkeypatch)
