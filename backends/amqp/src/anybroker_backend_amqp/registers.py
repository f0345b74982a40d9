"""Registers on queues: a value under a name, changed by one at a time.

A register is a queue with one message, its value. RabbitMQ cannot compare and set, so whoever reads or changes a
register first takes a lock: one of a fixed number of queues that hold one message each, its *cell*. Who has the cell
has the lock, and it returns by itself when the connection of its holder ends. Values expire by the time-to-live of the
message, by the server's clock; the queue of a register follows some time later (``x-expires``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from pika import spec

from anybroker.errors import BrokerUnavailable
from anybroker_backend_amqp.session import Publication
from anybroker_broker_amqp.names import word
from anybroker_broker_amqp.translation import NOT_FOUND, refused_with

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anybroker_backend_amqp.session import Got, Session
    from anybroker_backend_amqp.sessions import Sessions

LOCKS = 64
LONGEST = 2**32 - 1
"""Milliseconds, 49.7 days: the longest time-to-live that RabbitMQ takes."""
_REST = 60_000
"""Milliseconds for which the queue of a register outlives its value."""
_CLASSIC = {"x-queue-type": "classic"}
"""Said, since the virtual host may have another default: what is read is put back at once, in its place, uncounted."""
_UNTIL, _LIFE = "until", "life"
_SETUP_PAUSE = 0.05
_PART = 64
"""Registers that are opened together."""


class Value(NamedTuple):
    """What is in a register: a body, and named fields of texts and numbers."""

    body: bytes
    fields: Mapping[str, Any]


class Held(Exception):
    """Somebody else holds a lock for longer than the caller waits."""


Change = Callable[[Value | None], Value | None]
"""What becomes of a value; None: it stays."""
Tell = Callable[[str, Value], Publication | None]
"""What is published beside a new value, if anything."""


class Registers:
    """The registers of one kind: ``result``, ``group`` or ``claim``."""

    def __init__(self, sessions: Sessions, prefix: str, kind: str, *, patience: float) -> None:
        """``patience``: seconds for a lock whose holder does not answer any more."""
        self._sessions = sessions
        self._prefix = prefix
        self._kind = kind
        self._patience = patience
        self._ready = False
        self._doubtful = False
        """Somebody has deleted locks."""

    def read(self, keys: Sequence[str], *, wait: float = math.inf) -> list[Value | None]:
        """The values, None where there is none. Raises ``Held`` after ``wait`` seconds."""
        if not keys:
            return []
        with self._locked(keys, wait=wait) as session:
            values = self._values(session, keys)
        return [values[key] for key in keys]

    def write(
        self,
        changes: Mapping[str, Change],
        *,
        ttl: float | None,
        tell: Tell = lambda *_: None,
    ) -> dict[str, bool]:
        """Set each register to what its function makes of the old value; None: leave it. Whether it was set.

        ``tell``: what to publish beside the new value, if anything.
        """
        if not changes:
            return {}
        written: dict[str, bool] = {}
        with self._locked(list(changes)) as session:
            todo = list(changes)
            while todo:  # the server stores one part while it makes the queues of the next one
                part, todo = todo[:_PART], todo[_PART:]
                written |= self._write(session, {key: changes[key] for key in part}, ttl, tell)
            session.confirm()
        return written

    def _write(self, session: Session, changes: Mapping[str, Change], ttl: float | None, tell: Tell) -> dict[str, bool]:
        """As ``write``, without waiting until it is stored."""
        life = _life(ttl)
        opened = session.open([self.name(key) for key in changes], _arguments(life))
        publications: list[Publication] = []
        written: dict[str, bool] = {}
        for (key, change), (alike, old) in zip(changes.items(), opened, strict=True):
            value = change(_value(old))
            written[key] = value is not None
            if value is None:
                continue
            lives = life if alike else self._prolong(session, key, old, life)
            publications.append(_publication(self.name(key), value, ttl, lives))
            told = tell(key, value)
            publications += [] if told is None else [told]
        session.publish(publications)
        return written

    def remove(self, keys: Sequence[str], unless: Callable[[Value | None], bool] | None = None) -> list[bool]:
        """Remove registers, unless the value says otherwise. Whether it was removed."""
        if not keys:
            return []
        with self._locked(keys) as session:
            kept = set() if unless is None else {key for key, old in self._values(session, keys).items() if unless(old)}
            session.delete([self.name(key) for key in dict.fromkeys(keys) if key not in kept])
        return [key not in kept for key in keys]

    def _values(self, session: Session, keys: Sequence[str]) -> dict[str, Value | None]:
        distinct = list(dict.fromkeys(keys))
        found = session.peek([self.name(key) for key in distinct])
        return {key: _value(got) for key, got in zip(distinct, found, strict=True)}

    def _prolong(self, session: Session, key: str, old: Got | None, life: int | None) -> int | None:
        """How long a queue lives that was declared otherwise; if it would vanish before its new value, it is made anew.

        With it goes the old value, which is to be replaced: whoever dies here has not said that he has replaced it.
        """
        lives: int | None = old.headers.get(_LIFE) if old is not None else 0
        if _outlives(lives, life):
            return lives
        session.delete([self.name(key)])
        session.declare([self.name(key)], _arguments(life))
        return life

    def name(self, key: str) -> str:
        """The queue of a register."""
        return f"{self._prefix}{self._kind}.{word(key)}"

    # locks

    @contextmanager
    def _locked(self, keys: Sequence[str], *, wait: float = math.inf) -> Iterator[Session]:
        """A session, while the locks of these keys are held; waits so many seconds for them."""
        deadline = time.monotonic() + wait
        locks = sorted({f"{self._prefix}lock.{crc32(self.name(key).encode()) % LOCKS:02}" for key in keys})
        with self._sessions.session() as session:
            self._prepare(session)
            try:
                cells = self._take(session, locks, deadline)
            except BrokerUnavailable as error:
                if refused_with(error) == NOT_FOUND:
                    self._ready, self._doubtful = False, True
                raise
            yield session
            session.give_back(cells)  # had something failed, its end would

    def _take(self, session: Session, locks: Sequence[str], deadline: float) -> list[Got]:
        """All locks at once, or up to one that somebody holds: who waits for it holds none of those that follow.

        So nobody waits in a circle.
        """
        taken: list[Got] = []
        while len(taken) < len(locks):
            cells = session.get(locks[len(taken) :])
            free = cells.index(None) if None in cells else len(cells)
            taken += [cell for cell in cells[:free] if cell is not None]
            if free < len(cells):
                session.give_back(cell for cell in cells[free:] if cell is not None)
                taken.append(self._wait_for(session, locks[len(taken)], deadline))
        return taken

    def _wait_for(self, session: Session, lock: str, deadline: float) -> Got:
        left = deadline - time.monotonic()
        cell = session.wait_for(lock, max(0.0, min(self._patience, left)))
        if cell is None:
            if left < self._patience:
                raise Held(lock)
            raise BrokerUnavailable(f"somebody has held {lock} for {self._patience:g} s; if it was purged, delete it")
        return cell

    def _prepare(self, session: Session) -> None:
        """Make the locks, once for the virtual host; of several who try, one does."""
        with self._sessions.preparing:  # the connection is one, so that an exclusive queue keeps only others away
            if not self._ready:
                self._make_ready(session)
                self._ready, self._doubtful = True, False

    def _make_ready(self, session: Session) -> None:
        deadline = time.monotonic() + self._patience
        while self._missing(session):
            setup = f"{self._prefix}lock.setup"
            if not session.declare_exclusive(setup):
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"somebody else makes the locks {self._prefix}lock.* since long")
                time.sleep(_SETUP_PAUSE)
                continue
            if missing := self._missing(session):
                self._make_locks(session, missing)
                session.ask(spec.Exchange.Declare(0, f"{self._prefix}lock.ready", "fanout", durable=True))
            session.delete([setup])

    def _missing(self, session: Session) -> list[str]:
        """The locks that are to be made: all, or those that were deleted."""
        names = [f"{self._prefix}lock.{number:02}" for number in range(LOCKS)]
        ready = spec.Exchange.Declare(0, f"{self._prefix}lock.ready", passive=True, arguments={})
        if session.attempt([ready], expected=NOT_FOUND) == [None]:
            return names
        if not self._doubtful:
            return []
        looks = [spec.Queue.Declare(0, name, passive=True, arguments={}) for name in names]
        found = session.attempt(looks, expected=NOT_FOUND)
        return [name for name, answer in zip(names, found, strict=True) if answer is None]

    def _make_locks(self, session: Session, names: Sequence[str]) -> None:
        """What somebody began who died over it is made anew: nobody uses these queues yet."""
        session.declare(names, _CLASSIC)
        session.ask(*(spec.Queue.Purge(0, name) for name in names))
        properties = spec.BasicProperties(delivery_mode=2)
        session.publish([Publication("", name, properties, b"") for name in names])
        session.confirm()


def _value(got: Got | None) -> Value | None:
    if got is None:
        return None
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
    return None if needed > LONGEST else min(LONGEST, 2 ** (needed - 1).bit_length())


def _outlives(life: Any, wanted: int | None) -> bool:
    return life is None or (wanted is not None and life >= wanted)


def _arguments(life: int | None) -> dict[str, Any]:
    """The new value drops the old one."""
    return _CLASSIC | {"x-max-length": 1} | ({} if life is None else {"x-expires": life})
