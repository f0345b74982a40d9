"""What pymongo sends, as a test hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pymongo
from pymongo.monitoring import CommandListener

from anybroker_broker_mongodb import clients

if TYPE_CHECKING:
    import pytest
    from pymongo.monitoring import CommandFailedEvent, CommandSucceededEvent

T = TypeVar("T", bound=CommandListener)


class Listener(CommandListener):
    """Hears of each command before it is sent: ``started`` is to be written."""

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


def heard_by(listener: T, monkeypatch: pytest.MonkeyPatch) -> T:
    """All clients that are made afterwards tell this listener."""

    def client(*args: Any, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(*args, event_listeners=[listener], **options)

    monkeypatch.setattr(clients, "MongoClient", client)
    monkeypatch.setattr(clients, "_here", clients._Clients())  # another test may have left a client open
    return listener
