"""The adapter: connections when they are needed, none of them shared by two calls or by two processes."""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Self, cast

from anybroker import capabilities as declare
from anybroker import errors
from anybroker.broker import Stats
from anybroker.errors import BrokerUnavailable, ConfigurationError, Unsupported
from anybroker.loading import parse_url
from anybroker.validation import check_changes, check_messages
from anybroker_conformance.faults.reference.wire import REPLIES, Lease, Reply, Request, Sent, receive, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anybroker.broker import Broker, Delivery, Inspect, Message

    Token = tuple[int, int]

CONNECT = 5.0
"""Seconds for a connection to come about."""
REPLY = 5.0
"""Seconds for a reply, beyond what the request itself waits for."""
MAX_LEASE = 365 * 86400.0
PRUNE_ABOVE = 4096
MAX_BODY = 1024 * 1024


class TcpBroker:
    """The broker at ``tcp://host:port``.

    A call that fails has ended its connection and every idle one; the next call makes a new one. Nothing is sent
    twice: what became of a request without reply only the server knows.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._closed = False
        self._start_afresh()
        _objects.add(self)
        self.capabilities = declare.Capabilities(
            durability=declare.Durability.SERVER,
            ordering=declare.Ordering.FIFO_PER_KEY,
            priorities=(-declare.INT32 - 1, declare.INT32),
            idempotent_enqueue=True,
            inspect=True,
            max_body=MAX_BODY,
            max_lease=MAX_LEASE,
            delay_precision=0.1,
            expiry_bound=0.1,
            wake_bound=0.1,
            wait_slack=0.1,
        )
        """Every law in full strength."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``tcp://host:port``. Raises ``ConfigurationError``."""
        hosts = parse_url(url).hosts
        if len(hosts) != 1 or hosts[0][1] is None:
            raise ConfigurationError("write tcp://host:port")
        return cls(hosts[0][0], hosts[0][1])

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; an id that is still here is recognised and left as it is."""
        check_messages(messages, self.capabilities)
        self._refuse_if_closed()
        if messages:
            self._call(Request("enqueue", messages=[Sent.of(one) for one in messages]))

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages, waiting at most ``wait`` seconds for the first."""
        _check_lease(lease)
        self._refuse_if_closed()
        if limit <= 0 or not queues:
            return []
        reply = self._call(Request("acquire", queues=list(queues), limit=limit, wait=wait, lease=lease))
        taken = [one.delivery() for one in reply.leases]
        self._hold(taken)
        if self._closed:  # meanwhile
            self._give_up()
            return []
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages for good; False where the lease had been lost."""
        return self._settle(Request("ack", leases=_leases(deliveries)))

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace leased messages by their new versions; False where the lease had been lost."""
        check_changes(changes, self.capabilities)
        leases = _leases(one for one, _ in changes)
        return self._settle(Request("update", leases=leases, messages=[Sent.of(new) for _, new in changes]))

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Hold leases for ``lease`` seconds from now; False where one had been lost."""
        _check_lease(lease)
        if self._closed or not deliveries:
            return [False] * len(deliveries)
        answers = self._call(Request("extend", leases=_leases(deliveries), lease=lease)).bools
        until = time.time() + lease
        self._held.update((_token(one), until) for one, held in zip(deliveries, answers, strict=True) if held)
        return answers

    def close(self) -> None:
        """Give up the leases that this object holds in this process, and end its connections."""
        self._closed = True
        try:
            self._give_up()
        finally:
            self._end_connections()

    def queues(self) -> list[str]:
        """The names of the queues that hold messages, sorted."""
        return self._call(Request("queues")).names

    def stats(self, queue: str) -> Stats:
        """Counts of one queue."""
        return Stats(*self._call(Request("stats", queues=[queue])).counts)

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """The first messages of a queue in the order of delivery, whatever their state."""
        return [one.message() for one in self._call(Request("peek", queues=[queue], limit=limit)).messages]

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Remove messages that are not leased."""
        return self._call(Request("remove", queues=[queue], ids=list(ids))).bools

    def purge(self, queue: str) -> int:
        """Remove every message of a queue that is not leased; returns how many."""
        return self._call(Request("purge", queues=[queue])).number

    def _settle(self, request: Request) -> list[bool]:
        if self._closed or not request.leases:
            return [False] * len(request.leases)
        answers = self._call(request).bools
        for one in request.leases:
            self._held.pop(one.token, None)
        return answers

    def _give_up(self) -> None:
        held = list(self._held)
        self._held.clear()
        if held:
            self._call(Request("give up", tokens=held))

    def _hold(self, taken: Sequence[Delivery]) -> None:
        """Remember leases for ``close``; those that have run out are forgotten when there are many."""
        if len(self._held) > PRUNE_ABOVE:
            now = time.time()
            for token, until in list(self._held.items()):
                if until < now:
                    self._held.pop(token, None)
        self._held.update((_token(one), one.lease_until.timestamp()) for one in taken)

    def _call(self, request: Request) -> Reply:
        sock = None
        try:
            sock = self._connection()
            sock.settimeout(REPLY + request.wait)
            send(sock, request)
            reply = receive(sock, REPLIES)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._end_connections()
            raise BrokerUnavailable(f"tcp://{self._address[0]}:{self._address[1]}: {error}") from error
        except BaseException:  # such as KeyboardInterrupt: a reply may still come, and must meet no other request
            if sock is not None:
                sock.close()
            raise
        self._idle.append(sock)
        if self._closed:  # meanwhile
            self._end_connections()
        if reply.error is not None:
            kind: Any = getattr(errors, reply.error, BrokerUnavailable)
            raise kind(reply.text)
        return reply

    def _connection(self) -> socket.socket:
        try:
            return self._idle.pop()
        except IndexError:
            sock = socket.create_connection(self._address, timeout=CONNECT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock

    def _end_connections(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return  # another thread took the last one

    def _start_afresh(self) -> None:
        """Forget connections and leases: in the child of a fork they are those of the parent."""
        self._idle: deque[socket.socket] = deque()
        self._held: dict[Token, float] = {}
        """Until when, in seconds since 1970."""

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BrokerUnavailable("this broker was closed")


_objects: weakref.WeakSet[TcpBroker] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for broker in list(_objects):
        broker._start_afresh()  # noqa: SLF001 (its own module)


os.register_at_fork(after_in_child=_after_fork_in_child)


def _check_lease(lease: float) -> None:
    if not 0 <= lease <= MAX_LEASE:
        raise Unsupported(f"a lease of {lease} seconds; this broker takes 0 to {MAX_LEASE:.0f}")


def _token(delivery: Delivery) -> Token:
    return cast("Token", delivery.token)


def _leases(deliveries: Iterable[Delivery]) -> list[Lease]:
    return [Lease.of(one) for one in deliveries]


_: type[Broker] = TcpBroker
__: type[Inspect] = TcpBroker
