"""The server: ``python -m anybroker_conformance.faults.reference.server PORT FILE``.

It keeps its messages in an SQLite file, so that they survive its death; a thread serves each connection. It ends when
the process that started it does.
"""

from __future__ import annotations

import contextlib
import select
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anybroker.broker import Delivery, Message
from anybroker.errors import AnybrokerError
from anybroker.sqlite import SqliteBroker
from anybroker_conformance.faults.reference.listening import serve_each
from anybroker_conformance.faults.reference.wire import REQUESTS, Lease, Reply, Request, Sent, receive, send

if TYPE_CHECKING:
    import socket

LISTENS_AGAIN_AFTER = 0.2
"""Seconds after which a waiting acquire looks whether its client is still there."""


_NAMELESS = Message("", "", b"")


class Session:
    """One connection."""

    def __init__(self, sock: socket.socket, broker: SqliteBroker, path: str) -> None:
        self._sock = sock
        self._broker = broker
        self._path = path

    def serve(self) -> None:
        """Answer request after request until the client goes."""
        with self._sock, contextlib.suppress(OSError):
            while True:
                request = receive(self._sock, REQUESTS)
                try:
                    reply = self._answer(request)
                except AnybrokerError as error:
                    reply = Reply(error=type(error).__name__, text=str(error))
                send(self._sock, reply)

    def _answer(self, request: Request) -> Reply:  # noqa: PLR0911, C901 (one per verb)
        broker, held = self._broker, [lease.delivery() for lease in request.leases]
        queue = request.queues[0] if request.queues else ""
        match request.verb:
            case "enqueue":
                broker.enqueue([one.message() for one in request.messages])
            case "acquire":
                return Reply(leases=[Lease.of(one) for one in self._acquire(request)])
            case "ack":
                return Reply(bools=broker.ack(held))
            case "update":
                messages = [one.message() for one in request.messages]
                return Reply(bools=broker.update(list(zip(held, messages, strict=True))))
            case "extend":
                return Reply(bools=broker.extend(held, lease=request.lease))
            case "give up":
                self._give_up(request.tokens)
            case "queues":
                return Reply(names=broker.queues())
            case "stats":
                found = broker.stats(queue)
                return Reply(counts=(found.ready, found.leased, found.delayed, found.oldest))
            case "peek":
                return Reply(messages=[Sent.of(one) for one in broker.peek(queue, limit=request.limit)])
            case "remove":
                return Reply(bools=broker.remove(queue, request.ids))
            case "purge":
                return Reply(number=broker.purge(queue))
        return Reply()

    def _acquire(self, request: Request) -> list[Delivery]:
        """Wait in short pieces: nothing is leased to a client that has gone."""
        deadline = time.monotonic() + request.wait
        while True:
            left = max(0.0, deadline - time.monotonic())
            wait = min(left, LISTENS_AGAIN_AFTER)
            taken = self._broker.acquire(request.queues, limit=request.limit, wait=wait, lease=request.lease)
            if taken or left <= LISTENS_AGAIN_AFTER:
                return taken
            if select.select([self._sock], [], [], 0)[0]:
                raise ConnectionError("the client has gone")

    def _give_up(self, tokens: list[tuple[int, int]]) -> None:
        """Give back what is still held, by a broker object that holds nothing else."""
        held = [Delivery(_NAMELESS, token, None, datetime.now(UTC)) for token in tokens]
        holder = SqliteBroker(self._path)
        try:
            holder.extend(held, lease=60)
        finally:
            holder.close()


def main(port: int, path: str) -> None:
    """Serve until killed."""
    broker = SqliteBroker(path, synchronous="normal")
    serve_each(port, lambda sock: Session(sock, broker, path).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
