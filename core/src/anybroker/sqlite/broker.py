"""The SQLite broker: every law in full, for the processes of one machine."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Self, cast

from anybroker import capabilities as declare
from anybroker.broker import Delivery
from anybroker.errors import BrokerUnavailable
from anybroker.loading import parse_url, read_options
from anybroker.sqlite import options, registry
from anybroker.sqlite.database import now
from anybroker.sqlite.inspection import Inspection, unblock
from anybroker.sqlite.rows import MAX_LEASE, due_at, eta_text, lease_milliseconds, to_datetime, to_message
from anybroker.sqlite.statements import statement
from anybroker.validation import check_changes, check_messages

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from anybroker.broker import Broker, Inspect, Message
    from anybroker.sqlite.database import Database

    Token = tuple[int, int]

_ENQUEUE = statement("enqueue")
_LOOK = statement("look")
_PROMOTE = statement("promote")
_CLAIM = statement("claim")
_ACK = statement("ack")
_EXTEND = statement("extend")
_GIVE_UP = statement("give_up")
_REPLACE = statement("replace")
_MOVE = statement("move")

PROMOTE_LIMIT = 10_000
"""Messages of one queue that one ``acquire`` makes ready. Of more, those due first."""
_LONGEST_WAIT = 1.0
"""Seconds after which ``acquire`` looks again in any case: the clock may have been set."""
_PRUNE_ABOVE = 4096
"""Leases remembered for ``close`` before those that have run out are forgotten."""


class SqliteBroker(Inspection):
    """Keeps messages in a file that any number of processes of one machine may use.

    ``path``: the file, created when first used; its directory must exist.
    ``synchronous``: with ``full``, new work (``enqueue`` and ``update``) is on the disk when the call returns, and a
    power cut loses nothing; it may undo the most recent ``acquire``, ``ack`` and ``extend``, which brings work back.
    With ``normal`` a power cut may also lose the newest messages; the death of every process still loses none.
    ``busy_timeout``: seconds for which a call waits for other processes to finish writing.
    ``max_body``: bytes.

    A ``lease_until`` and every ``eta`` is judged by SQLite's clock, that of the machine.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: options.Synchronous = "full",
        busy_timeout: float = options.BUSY_TIMEOUT,
        max_body: int = options.MAX_BODY,
    ) -> None:
        self._durable = synchronous == "full"
        self._database = registry.borrow(path, busy_timeout=busy_timeout)
        self._closed = False
        self._held: dict[Token, tuple[int, int]] = {}
        """Leases that this object took, with the process that took them and when they run out."""
        self.capabilities = declare.Capabilities(
            durability=declare.Durability.POWER_CUT if self._durable else declare.Durability.SERVER,
            ordering=declare.Ordering.FIFO_PER_KEY,
            priorities=(-declare.INT32 - 1, declare.INT32),
            idempotent_enqueue=True,
            inspect=True,
            max_body=max_body,
            max_lease=MAX_LEASE,
            delay_precision=0.05,
            expiry_bound=0.05,
            wake_bound=0.05,
            wait_slack=0.05,
        )
        """Every law in full strength."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``sqlite:///relative.db`` or ``sqlite:////absolute.db``. Raises ``ConfigurationError``.

        Options: ``synchronous`` (full, normal), ``busy_timeout`` (a duration), ``max_body`` (bytes).
        """
        address = parse_url(url)
        path = options.file_path(address)
        given = read_options(address, options.BrokerOptions)
        return cls(
            path,
            synchronous=given.synchronous,
            busy_timeout=given.busy_timeout.total_seconds(),
            max_body=given.max_body,
        )

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; an id that is still here is recognised and left as it is."""
        database = self._opened()
        check_messages(messages, self.capabilities)
        if not messages:
            return
        with database.transaction(durable=self._durable) as connection:
            moment = now(connection)
            connection.executemany(
                _ENQUEUE,
                [
                    (
                        message.id,
                        message.queue,
                        message.priority,
                        message.ordering_key,
                        due_at(message, moment),
                        eta_text(message.eta),
                        message.body,
                        moment,
                    )
                    for message in messages
                ],
            )
        database.watch.notify()

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages, waiting at most ``wait`` seconds for the first."""
        database = self._opened()
        milliseconds = lease_milliseconds(lease)
        if limit <= 0 or not queues:
            return []
        deadline = time.monotonic() + wait
        while not self._closed:
            seen = database.watch.version
            try:
                until_next, found = self._look(queues)
                taken = self._claim(found, limit, milliseconds) if found else []
            except BrokerUnavailable:
                if self._is_closed():  # while this call was under way
                    return []
                raise
            left = deadline - time.monotonic()
            if taken or left <= 0:
                return taken
            if not found:
                database.watch.wait(seen, min(left, until_next, _LONGEST_WAIT))
        return []

    def _is_closed(self) -> bool:
        return self._closed

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages for good; False where the lease had been lost."""
        if self._closed or not deliveries:
            return [False] * len(deliveries)
        with self._database.transaction() as connection:
            rows = connection.execute(_ACK, _leases(_token(delivery) for delivery in deliveries)).fetchall()
            lines = {(queue, key) for _, key, queue in rows if key is not None}
            if lines:
                unblock(connection, lines, now(connection))
        if lines:
            self._database.watch.notify()
        gone = {token for token, _, _ in rows}
        return [self._ended(delivery, gone) for delivery in deliveries]

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Replace leased messages by their new versions; False where the lease had been lost.

        A new version keeps its place, unless its queue or ordering key is another: then it arrives there as the last.
        """
        check_changes(changes, self.capabilities)
        if self._closed or not changes:
            return [False] * len(changes)
        with self._database.transaction(durable=self._durable) as connection:
            moment = now(connection)
            answers = [_replace(connection, delivery, message, moment) for delivery, message in changes]
        for delivery, _ in changes:
            self._held.pop(_token(delivery), None)
        self._database.watch.notify()
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Hold leases for ``lease`` seconds from now; False where one had been lost."""
        milliseconds = lease_milliseconds(lease)
        if self._closed or not deliveries:
            return [False] * len(deliveries)
        tokens = [_token(delivery) for delivery in deliveries]
        with self._database.transaction() as connection:
            until = now(connection) + milliseconds
            rows = connection.execute(_EXTEND, {**_leases(tokens), "until": until}).fetchall()
        still_held = {token for (token,) in rows}
        self._held.update((token, (os.getpid(), until)) for token in tokens if token[1] in still_held)
        self._database.watch.notify()
        return [token in still_held for _, token in tokens]

    def close(self) -> None:
        """Give up the leases that this object holds in this process."""
        if self._closed:
            return
        self._closed = True
        try:
            self._give_up()
        finally:
            self._database.watch.notify()
            registry.give_back(self._database)

    def _look(self, queues: Sequence[str]) -> tuple[float, list[str]]:
        """The seconds until the next message falls due, and the queues in which something can be had now."""
        until_next = float("inf")
        found = []
        for queue in queues:
            ((ready, next_due, moment),) = self._database.read(_LOOK, {"queue": queue})
            if ready or (next_due is not None and next_due <= moment):
                found.append(queue)
            elif next_due is not None:
                until_next = min(until_next, (next_due - moment) / 1000)
        return until_next, found

    def _claim(self, queues: Sequence[str], limit: int, milliseconds: int) -> list[Delivery]:
        taken: list[Delivery] = []
        with self._database.transaction() as connection:
            moment = now(connection)
            until = moment + milliseconds
            for queue in queues:
                connection.execute(_PROMOTE, {"queue": queue, "now": moment, "limit": PROMOTE_LIMIT})
                rows = connection.execute(
                    _CLAIM, {"queue": queue, "until": until, "limit": limit - len(taken)}
                ).fetchall()
                taken += _deliveries(queue, rows, until)
                if len(taken) >= limit:
                    break
        self._hold(taken, moment, until)
        if self._closed:  # close() came too early to know of these
            self._give_up()
            return []
        if taken:
            self._database.watch.notify()  # whoever waits must know when these leases run out
        return taken

    def _hold(self, taken: list[Delivery], moment: int, until: int) -> None:
        if len(self._held) > _PRUNE_ABOVE:
            for token, (_, runs_out) in list(self._held.items()):
                if runs_out < moment:
                    self._held.pop(token, None)
        hold = (os.getpid(), until)
        self._held.update((_token(delivery), hold) for delivery in taken)

    def _give_up(self) -> None:
        mine = [token for token, (process, _) in list(self._held.items()) if process == os.getpid()]
        self._held.clear()
        if mine:
            with self._database.transaction() as connection:
                connection.execute(_GIVE_UP, {**_leases(mine), "now": now(connection)})

    def _ended(self, delivery: Delivery, gone: set[int]) -> bool:
        """Whether a delivery's token is among those ``gone``; true once, however often it is in a batch."""
        token = _token(delivery)
        self._held.pop(token, None)
        if token[1] not in gone:
            return False
        gone.remove(token[1])
        return True

    def _opened(self) -> Database:
        if self._closed:
            raise BrokerUnavailable(f"this broker of {self._database.path} was closed")
        return self._database


def _token(delivery: Delivery) -> Token:
    return cast("Token", delivery.token)


def _leases(tokens: Iterable[Token]) -> dict[str, str]:
    pairs = list(tokens)
    return {"seqs": json.dumps([seq for seq, _ in pairs]), "tokens": json.dumps([token for _, token in pairs])}


def _deliveries(
    queue: str, rows: list[tuple[int, int, int, str, int, str | None, str | None, bytes]], until: int
) -> list[Delivery]:
    """The rows of ``claim.sql``, which come in no particular order, as deliveries in theirs."""
    rows.sort(key=lambda row: (-row[4], row[0]))
    lease_until = to_datetime(until)
    return [
        Delivery(to_message(id_, queue, body, eta, priority, key), (seq, token), count, lease_until)
        for seq, token, count, id_, priority, key, eta, body in rows
    ]


def _replace(connection: sqlite3.Connection, delivery: Delivery, message: Message, moment: int) -> bool:
    old = delivery.message
    seq, token = _token(delivery)
    values = {
        "seq": seq,
        "token": token,
        "priority": message.priority,
        "due_at": due_at(message, moment),
        "eta": eta_text(message.eta),
        "body": message.body,
        "now": moment,
    }
    if (old.queue, old.ordering_key) == (message.queue, message.ordering_key):
        return connection.execute(_REPLACE, values).rowcount == 1
    values |= {"queue": message.queue, "ordering_key": message.ordering_key}
    moved = connection.execute(_MOVE, values).rowcount == 1
    if moved and old.ordering_key is not None:
        unblock(connection, [(old.queue, old.ordering_key)], moment)
    return moved


_: type[Broker] = SqliteBroker
__: type[Inspect] = SqliteBroker
