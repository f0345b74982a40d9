"""The server: ``python -m anybroker_conformance.faults.reference.server PORT FILE``.

It keeps its messages in an SQLite file, so that they survive its death; a thread serves each connection. It ends when
the process that started it does.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from datetime import UTC, datetime

from anybroker.broker import Delivery, Message
from anybroker.errors import AnybrokerError
from anybroker.sqlite import SqliteBroker
from anybroker_conformance.faults.reference.wire import Lease, Reply, Request, Sent, receive, send

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
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                request = receive(self._sock, Request)
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


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main(port: int, path: str) -> None:
    """Serve until killed."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    broker = SqliteBroker(path, synchronous="normal")
    with socket.create_server(("127.0.0.1", port), backlog=128, reuse_port=True) as listener:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # who wanted to connect has gone again, or there are too many: they will come again
                time.sleep(0.01)
                continue
            threading.Thread(target=Session(sock, broker, path).serve, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
