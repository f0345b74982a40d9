"""Connections to a MongoDB server that are cut between two commands."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker_broker_mongodb import MongoBroker
from anybroker_conformance.faults.proxy import Proxy
from tests.brokers.mongodb.hearing import Listener, heard_by
from tests.live import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.monitoring import CommandStartedEvent


class Cut(Listener):
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


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    _, _, rest = service("mongodb").url().partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    with Proxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def cut(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Cut:
    """Heard by all clients that are made afterwards."""
    return heard_by(Cut(proxy), monkeypatch)


@pytest.fixture
def broker(proxy: Proxy, cut: Cut) -> Iterator[MongoBroker]:  # noqa: ARG001  it cuts what the broker sends
    prefix = f"t{secrets.token_hex(4)}-"
    url = f"mongodb://{proxy.host}:{proxy.port}/anybroker?directConnection=true&prefix={prefix}"
    with closing(MongoBroker.from_url(url)) as broker:
        yield broker
