"""Wrong brokers of law 14: what stays of keys, updates, large bodies, waits and connections."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from anybroker.memory import MemoryBroker
from anybroker_conformance.faults.reference import TcpBroker
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from anybroker.broker import Delivery, Message


@wrong_broker("bounded", "remembers every ordering key that it ever had")
class RemembersKeys(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: dict[tuple[str, str], int] = {}

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages)
        for one in messages:
            if one.ordering_key is not None:
                self.lines.setdefault((one.queue, one.ordering_key), len(self.lines))


@wrong_broker("bounded", "remembers what it ever updated")
class RemembersUpdates(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.updated: list[tuple[object, str]] = []

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        self.updated += [(one.token, f"{one.message.id} of {one.message.queue}") for one, _ in changes]
        return super().update(changes)


@wrong_broker("bounded", "keeps bodies of more than 64 KiB beside the messages, and for ever")
class KeepsLargeBodies(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.bodies: dict[str, bytes] = {}

    def enqueue(self, messages: Sequence[Message]) -> None:
        self.bodies |= {one.id: one.body for one in messages if len(one.body) > 65_536}
        super().enqueue(messages)


@wrong_broker("bounded", "a wait that ended without a message leaves a thread for a minute")
class ThreadForEachWait(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        if wait > 0 and not taken:
            threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
        return taken


@wrong_broker("bounded", "does not close a connection that broke")
class KeepsBrokenConnections(TcpBroker):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.files: list[socket.socket] = []

    def _connection(self) -> socket.socket:
        is_new = not self._idle
        sock = super()._connection()
        if is_new:
            self.files.append(sock.dup())
        return sock

    def close(self) -> None:
        super().close()
        for one in self.files:
            one.close()
