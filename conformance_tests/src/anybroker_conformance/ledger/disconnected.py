"""Wrong backends of a server: when the connection is cut, the server is away, or a process dies in a call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from anybroker.errors import BrokerUnavailable
from anybroker_conformance.backend.networked import Reply, Request, TcpBackend
from anybroker_conformance.ledger.registry import wrong_backend

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from anybroker.backend import Result

DAY = 86400.0


@wrong_backend("reconnects", "repeats what may have happened, and takes its own result for another one's")
class Retries(TcpBackend):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            return super()._call(request)


@wrong_backend("reconnects", "lets another exception through than BrokerUnavailable")
class RawErrors(TcpBackend):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable as error:
            raise ConnectionError(str(error)) from None


@wrong_backend("reconnects", "does not work again once there was an error")
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


@wrong_backend("reconnects", "goes on with a connection that is dead")
class KeepsDeadConnection(TcpBackend):
    one: socket.socket | None = None

    def _connection(self) -> socket.socket:
        self.one = self.one or super()._connection()
        return self.one


@wrong_backend("reconnects", "takes a server that is away for one that has nothing")
class KnowsNothing(TcpBackend):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            if request.verb in {"fetch", "wait"}:
                return Reply(results=[None] * len(request.names))
            raise


@wrong_backend("reconnects", "takes a server that is away for a lock that is held")
class ClaimsInVain(TcpBackend):
    def claim(self, key: str, *, ttl: float) -> str | None:
        try:
            return super().claim(key, ttl=ttl)
        except BrokerUnavailable:
            return None


@wrong_backend("reconnects", "waits on in silence when the server has gone")
class SleepsOn(TcpBackend):
    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        try:
            return super().wait(ids, timeout=timeout)
        except BrokerUnavailable:
            time.sleep(timeout)
            return []


@wrong_backend("reconnects", "says that it has stored what it has only tried to")
class StoresLater(TcpBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        try:
            return super().store(results, ttl=ttl)
        except BrokerUnavailable:
            return [True] * len(results)


@wrong_backend("reconnects", "lets a member that joins again after an error count twice")
class JoinsAgain(TcpBackend):
    errors = 0

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        try:
            return super().join(group_id, member_id, size=size)
        except BrokerUnavailable:
            self.errors += 1
            return super().join(group_id, f"{member_id} {self.errors}", size=size)


@wrong_backend("join", "notes a member and counts it in two steps: whoever dies between them never counts")
class NotesThenCounts(TcpBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        noted, counted = (f"{step} {group_id} {member_id}" for step in ("noted", "counted"))
        if self.claim(noted, ttl=DAY) is not None:
            complete = super().join(group_id, member_id, size=size)
            self.claim(counted, ttl=DAY)
            return complete
        token = self.claim(counted, ttl=DAY)
        if token is None:
            return super().join(group_id, member_id, size=size)
        self.release(counted, token)  # somebody is about to count it
        return False
