"""Networked result backends, right and wrong, for test_backend_networked.py, which runs them in another pytest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from anybroker.errors import BrokerUnavailable
from anybroker_conformance import BackendConformance
from anybroker_conformance.backend.networked import BackendServer, Reply, Request, TcpBackend

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from anybroker.backend import Result

SERVER = BackendServer()
SERVER.start()


class Right(TcpBackend):
    pass


class Retries(TcpBackend):
    """Repeats what may have happened, and takes its own result for another one's."""

    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            return super()._call(request)


class RawErrors(TcpBackend):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable as error:
            raise ConnectionError(str(error)) from None


class NeverAgain(TcpBackend):
    dead = False

    def _call(self, request: Request) -> Reply:
        if self.dead:
            raise BrokerUnavailable("there was an error once")
        try:
            return super()._call(request)
        except BrokerUnavailable:
            self.dead = True
            raise


class KeepsDeadConnection(TcpBackend):
    one: socket.socket | None = None

    def _connection(self) -> socket.socket:
        self.one = self.one or super()._connection()
        return self.one


class KnowsNothing(TcpBackend):
    """Takes a server that is away for one that has nothing."""

    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            if request.verb in {"fetch", "wait"}:
                return Reply(results=[None] * len(request.names))
            raise


class ClaimsInVain(TcpBackend):
    def claim(self, key: str, *, ttl: float) -> str | None:
        try:
            return super().claim(key, ttl=ttl)
        except BrokerUnavailable:
            return None


class SleepsOn(TcpBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        try:
            return super().wait(ids, timeout=timeout)
        except BrokerUnavailable:
            time.sleep(timeout)
            return []


class StoresLater(TcpBackend):
    """Says that it has stored what it has only tried to."""

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        try:
            return super().store(results, ttl=ttl)
        except BrokerUnavailable:
            return [True] * len(results)


class JoinsAgain(TcpBackend):
    """A member that joins again after an error has another name."""

    errors = 0

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        try:
            return super().join(group_id, member_id, size=size)
        except BrokerUnavailable:
            self.errors += 1
            return super().join(group_id, f"{member_id} {self.errors}", size=size)


def suite(kind: type[TcpBackend]) -> Any:
    class Suite(BackendConformance):
        url = SERVER.url
        server = SERVER

        def connect(self) -> TcpBackend:
            return kind.from_url(self.url or "")

    Suite.__name__ = Suite.__qualname__ = f"Test{kind.__name__}"
    return Suite


WRONG = [kind for kind in TcpBackend.__subclasses__() if kind is not Right]
for one in (Right, *WRONG):
    globals()[f"Test{one.__name__}"] = suite(one)
