"""Connections to a MongoDB server that are cut between two commands."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pymongo.monitoring import CommandListener

from anybroker_broker_mongodb import MongoBroker, clients
from anybroker_conformance.faults.proxy import Proxy
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent


class Cut(CommandListener):
    """Cuts the connections when one of some commands is sent, after so many others of them."""

    def __init__(self, proxy: Proxy) -> None:
        self.after: int | None = None
        self.commands = {"update", "delete", "find"}
        self._proxy = proxy

    def started(self, event: CommandStartedEvent) -> None:
        if self.after is not None and event.command_name in self.commands:
            self.after -= 1
            if self.after < 0:
                self.after = None
                self._proxy.cut_now(reset=True)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    _, _, rest = service("mongodb").url().partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    with Proxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def cut(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Cut:
    """Heard by all clients that are made afterwards."""
    heard = Cut(proxy)

    def client(*args: Any, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(*args, event_listeners=[heard], **options)

    monkeypatch.setattr(clients, "MongoClient", client)
    monkeypatch.setattr(clients, "_here", clients._Clients())  # another test may have left a client open
    return heard


@pytest.fixture
def broker(proxy: Proxy, cut: Cut) -> Iterator[MongoBroker]:  # noqa: ARG001  it cuts what the broker sends
    prefix = f"t{secrets.token_hex(4)}-"
    url = f"mongodb://{proxy.host}:{proxy.port}/anybroker?directConnection=true&prefix={prefix}"
    with closing(MongoBroker.from_url(url)) as broker:
        yield broker
