"""The RabbitMQ result backend."""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import msgspec
from pika import spec

from anybroker.capabilities import BackendCapabilities, Durability
from anybroker.loading import read_options
from anybroker.validation import check_results
from anybroker_backend_amqp.registers import Held, Registers, Value
from anybroker_backend_amqp.results import to_result, to_value
from anybroker_backend_amqp.session import Publication
from anybroker_backend_amqp.sessions import Sessions
from anybroker_backend_amqp.waiting import EXCHANGE, Waiting
from anybroker_broker_amqp.urls import Options, split, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.backend import Result, ResultBackend

_members = msgspec.msgpack.Decoder(set[str])
_encode = msgspec.msgpack.encode
_LOCK_WAIT = 2.0
"""Seconds for which a shorter wait, too, waits for others to read or write: an answer is worth more than haste."""


class AmqpBackend:
    """Keeps results in RabbitMQ: a queue with one message for each.

    ``url``: as for ``AmqpBroker``. The options are the fields of :class:`anybroker_broker_amqp.urls.Options`.
    """

    def __init__(self, url: str) -> None:
        """Raises ``ConfigurationError``. Does not connect yet."""
        address = split(url)
        options = read_options(address, Options)
        timeout = options.timeout.total_seconds()
        self._group_ttl = options.group_ttl.total_seconds()
        patience = max(timeout, 2.5 * options.heartbeat)
        self._sessions = Sessions(targets(address, options), timeout=timeout)
        self._results, self._groups, self._claims = (
            Registers(self._sessions, options.prefix, kind, patience=patience) for kind in ("result", "group", "claim")
        )
        self._waiting = Waiting(self._sessions, self._results.name, timeout=timeout)
        self.capabilities = BackendCapabilities(
            durability=Durability.SERVER,
            pushed=True,
            max_body=options.max_body,
            ttl_precision=0.5,
            wake_bound=0.1,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The backend of a URL. Raises ``ConfigurationError``."""
        return cls(url)

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        """Write states; False where a later attempt or a final state is there already."""
        check_results(results, self.capabilities)
        answers = []
        for part in _without_repeats(results):
            changes = {result.id: _replacing(result) for result in part}
            written = self._results.write(changes, ttl=ttl, tell=self._tell)
            answers += [written[result.id] for result in part]
        return answers

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        """The current states, None where unknown or expired."""
        return [None if value is None else to_result(*value) for value in self._results.read(ids)]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        """Those that are final, as soon as there is one; nothing after ``timeout`` seconds."""
        wanted = list(dict.fromkeys(ids))
        deadline = time.monotonic() + timeout
        if timeout <= 0 or not wanted:
            with suppress(Held):
                return self._final(wanted, _LOCK_WAIT)
            return []
        with self._waiting.listening(wanted) as (wait, unknown):
            if unknown and not wait.results:
                # What is stored while somebody holds a lock is pushed; what was stored before, the next wait reads.
                with suppress(Held):
                    found = self._final(unknown, max(_LOCK_WAIT, deadline - time.monotonic()))
                    wait.read.update(set(unknown).difference(result.id for result in found))
                    if found:
                        return found
            if not self._sessions.closed:
                wait.arrived.wait(min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX))
            if wait.error is not None and not wait.results:
                raise wait.error
            return [wait.results[id_] for id_ in wanted if id_ in wait.results]

    def forget(self, ids: Sequence[str]) -> None:
        """Remove results. Unknown ids are no error."""
        self._results.remove(ids)

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        """Record that a member finished; True when all have, until the group is sealed."""
        complete = False

        def joined(old: Value | None) -> Value:
            nonlocal complete
            if old is not None and "sealed" in old.fields:
                return Value(b"", {"sealed": True})
            members = {member_id} if old is None else _members.decode(old.body) | {member_id}
            complete = len(members) >= size
            return Value(_encode(members), {})

        self._groups.write({group_id: joined}, ttl=self._group_ttl)
        return complete

    def seal(self, group_id: str) -> None:
        """Let ``join`` answer False from now on. Who the members were is forgotten."""
        self._groups.write({group_id: lambda _: Value(b"", {"sealed": True})}, ttl=self._group_ttl)

    def claim(self, key: str, *, ttl: float) -> str | None:
        """Take the lock ``key`` for ``ttl`` seconds, or None while somebody holds it."""
        token = secrets.token_hex(16)
        taken = self._claims.write({key: lambda old: Value(token.encode(), {}) if old is None else None}, ttl=ttl)
        return token if taken[key] else None

    def release(self, key: str, token: str) -> bool:
        """Give the lock back; False if ``token`` no longer held it."""
        return self._claims.remove([key], unless=lambda old: old is None or old.body != token.encode())[0]

    def close(self) -> None:
        """Free the connection."""
        self._sessions.closed = True
        self._waiting.close()
        self._sessions.close()

    def _final(self, ids: Sequence[str], wait: float) -> list[Result]:
        """Those that are final. Raises ``Held`` after ``wait`` seconds."""
        results = [to_result(*value) for value in self._results.read(ids, wait=wait) if value is not None]
        return [result for result in results if result.state.final]

    def _tell(self, id_: str, value: Value) -> Publication | None:
        if not to_result(*value).state.final:
            return None
        return Publication(
            EXCHANGE, self._results.name(id_), spec.BasicProperties(headers=dict(value.fields)), value.body
        )


def _replacing(result: Result) -> Callable[[Value | None], Value | None]:
    def replaced(old: Value | None) -> Value | None:
        return to_value(result) if old is None or result.replaces(to_result(*old)) else None

    return replaced


def _without_repeats(results: Sequence[Result]) -> list[list[Result]]:
    """In parts in which every id is there once, in their order: one result may be written twice."""
    parts: list[list[Result]] = []
    seen: set[str] = set()
    for result in results:
        if not parts or result.id in seen:
            parts.append([])
            seen.clear()
        parts[-1].append(result)
        seen.add(result.id)
    return parts


_: type[ResultBackend] = AmqpBackend
