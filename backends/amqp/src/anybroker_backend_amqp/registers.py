"""Registers on queues: a value under a name, changed by one at a time.

A register is a queue with one message, its value. RabbitMQ cannot compare and set, so whoever reads or changes a
register first takes a lock: one of a fixed number of queues that hold one message each, its *cell*. Who has the cell
has the lock, and it returns by itself when the connection of its holder ends. Values expire by the time-to-live of the
message, by the server's clock; the queue of a register follows some time later (``x-expires``).
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from pika import spec

from anybroker.errors import BrokerUnavailable
from anybroker_backend_amqp.session import Publication
from anybroker_broker_amqp.names import word
from anybroker_broker_amqp.translation import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from anybroker_backend_amqp.session import Got, Session
    from anybroker_backend_amqp.sessions import Sessions

LOCKS = 64
LONGEST = 2**32 - 1
"""Milliseconds, 49.7 days: the longest time-to-live that RabbitMQ takes."""
_REST = 60_000
"""Milliseconds for which the queue of a register outlives its value."""
_UNTIL, _LIFE = "until", "life"
_SETUP_PAUSE = 0.05


class Value(NamedTuple):
    """What is in a register: a body, and named fields of texts and numbers."""

    body: bytes
    fields: Mapping[str, Any]


class Registers:
    """The registers of one kind: ``result``, ``group`` or ``claim``."""

    def __init__(self, sessions: Sessions, prefix: str, kind: str, *, patience: float) -> None:
        """``patience``: seconds for a lock whose holder does not answer any more."""
        self._sessions = sessions
        self._prefix = prefix
        self._kind = kind
        self._patience = patience
        self._ready = False
        self._preparing = threading.Lock()

    def read(self, keys: Sequence[str]) -> list[Value | None]:
        """The values, None where there is none."""
        found: dict[str, Value | None] = {}
        for session, of_lock in self._locked(keys):
            for key in of_lock:
                name = self.name(key)
                got = session.get(name) if session.exists(name) else None
                if got is not None:
                    found[key] = _value(got)
                    session.give_back(got)
                    session.exists(name)  # it has been given back when the server answers this
        return [found.get(key) for key in keys]

    def write(
        self,
        changes: Mapping[str, Callable[[Value | None], Value | None]],
        *,
        ttl: float | None,
        tell: Callable[[str, Value], Publication | None] = lambda *_: None,
    ) -> dict[str, bool]:
        """Set each register to what its function makes of the old value; None: leave it. Whether it was set.

        ``tell``: what to publish beside the new value, if anything.
        """
        answers = {}
        for session, of_lock in self._locked(list(changes)):
            for key in of_lock:
                answers[key] = self._write_one(session, key, changes[key], ttl, tell)
        return answers

    def remove(self, keys: Sequence[str], unless: Callable[[Value | None], bool] = lambda _: False) -> list[bool]:
        """Remove registers, unless the value says otherwise. Whether it was removed."""
        answers = dict.fromkeys(keys, False)
        for session, of_lock in self._locked(keys):
            for key in of_lock:
                name = self.name(key)
                got = session.get(name) if session.exists(name) else None
                if unless(None if got is None else _value(got)):
                    if got is not None:
                        session.give_back(got)
                        session.exists(name)
                    continue
                session.ask(spec.Queue.Delete(0, name))
                answers[key] = True
        return [answers[key] for key in keys]

    def _write_one(
        self,
        session: Session,
        key: str,
        change: Callable[[Value | None], Value | None],
        ttl: float | None,
        tell: Callable[[str, Value], Publication | None],
    ) -> bool:
        name, life = self.name(key), _life(ttl)
        number = session.declare(name, _arguments(life))
        got = None if number == 0 else session.get(name)
        new = change(None if got is None else _value(got))
        if new is None:
            if got is not None:
                session.give_back(got)
                session.exists(name)
            return False
        if number is None and not (got is not None and _outlives(got.headers.get(_LIFE), life)):
            session.ask(spec.Queue.Delete(0, name))  # it would vanish before the new value does
            session.declare(name, _arguments(life))
            got = None
        elif number is None and got is not None:
            life = got.headers.get(_LIFE)
        told = tell(key, new)
        session.publish(_publication(name, new, ttl, life), *([] if told is None else [told]))
        if got is not None:
            session.ack(got)
        return True

    def name(self, key: str) -> str:
        """The queue of a register."""
        return f"{self._prefix}{self._kind}.{word(key)}"

    # locks

    def _locked(self, keys: Sequence[str]) -> Iterator[tuple[Session, list[str]]]:
        """The keys in groups, each while its lock is held."""
        if not keys:
            return
        groups: dict[str, list[str]] = defaultdict(list)
        for key in dict.fromkeys(keys):
            groups[f"{self._prefix}lock.{crc32(self.name(key).encode()) % LOCKS}"].append(key)
        with self._sessions.session() as session:
            self._prepare(session)
            for lock, of_lock in groups.items():
                with self._lock(session, lock):
                    yield session, of_lock

    @contextmanager
    def _lock(self, session: Session, lock: str) -> Iterator[None]:
        cell = session.get(lock) or session.wait_for(lock, self._patience)
        if cell is None:
            raise BrokerUnavailable(f"somebody has held {lock} for {self._patience:g} s")
        yield
        session.give_back(cell)  # had something failed, the end of the session would give it back

    def _prepare(self, session: Session) -> None:
        """Make the locks, once for the virtual host; of several who try, one does."""
        if self._ready:
            return
        ready = f"{self._prefix}lock.ready"
        find = spec.Exchange.Declare(0, ready, passive=True, arguments={})
        deadline = time.monotonic() + self._patience
        while session.attempt(find, expected=NOT_FOUND) is None:
            setup = f"{self._prefix}lock.setup"
            if session.declare(setup, {}, exclusive=True) is None:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"somebody else makes the locks {self._prefix}lock.* since long")
                time.sleep(_SETUP_PAUSE)
                continue
            if session.attempt(find, expected=NOT_FOUND) is None:
                self._make_locks(session)
                session.ask(spec.Exchange.Declare(0, ready, "fanout", durable=True))
            session.ask(spec.Queue.Delete(0, setup))
        self._ready = True

    def _make_locks(self, session: Session) -> None:
        """What somebody began who died over it is made anew: nobody uses these queues yet."""
        properties = spec.BasicProperties(delivery_mode=2)
        for number in range(LOCKS):
            name = f"{self._prefix}lock.{number}"
            session.ask(spec.Queue.Declare(0, name, durable=True, arguments={}))
            session.ask(spec.Queue.Purge(0, name))
            session.publish(Publication("", name, properties, b""))


def _value(got: Got) -> Value | None:
    until = got.headers.get(_UNTIL)
    return Value(got.body, got.headers) if until is None or time.time() < until else None


def _publication(name: str, value: Value, ttl: float | None, life: int | None) -> Publication:
    milliseconds = None if ttl is None else max(1, math.ceil(ttl * 1000))
    fields = dict(value.fields)
    if life is not None:
        fields[_LIFE] = life
    expiration = None
    if milliseconds is not None and milliseconds > LONGEST:
        fields[_UNTIL] = math.ceil(time.time() + (ttl or 0.0))
    elif milliseconds is not None:
        expiration = str(milliseconds)
    properties = spec.BasicProperties(headers=fields, delivery_mode=2, expiration=expiration)
    return Publication("", name, properties, value.body)


def _life(ttl: float | None) -> int | None:
    """Milliseconds that the queue of a register must live unused, as a power of two; None: for ever."""
    if ttl is None:
        return None
    needed = max(1, math.ceil(ttl * 1000)) + _REST
    return None if needed > LONGEST // 2 else 2 ** (needed - 1).bit_length()


def _outlives(life: Any, wanted: int | None) -> bool:
    return life is None or (wanted is not None and life >= wanted)


def _arguments(life: int | None) -> dict[str, Any]:
    return {} if life is None else {"x-expires": life}
