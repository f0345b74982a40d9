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
from anybroker_broker_amqp.translation import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


Change = Callable[[Value | None], Value | None]
"""What becomes of a value; None: it stays."""


class Registers:
    """The registers of one kind: ``result``, ``group`` or ``claim``."""

    def __init__(self, sessions: Sessions, prefix: str, kind: str, *, patience: float) -> None:
        """``patience``: seconds for a lock whose holder does not answer any more."""
        self._sessions = sessions
        self._prefix = prefix
        self._kind = kind
        self._patience = patience
        self._ready = False

    def read(self, keys: Sequence[str]) -> list[Value | None]:
        """The values, None where there is none."""
        if not keys:
            return []
        with self._locked(keys) as session:
            found = self._take(session, keys)
            self._put_back(session, {self.name(key): got for key, got in found.items()})
        return [_value(found[key]) if key in found else None for key in keys]

    def write(
        self,
        changes: Mapping[str, Change],
        *,
        ttl: float | None,
        tell: Callable[[str, Value], Publication | None] = lambda *_: None,
    ) -> dict[str, bool]:
        """Set each register to what its function makes of the old value; None: leave it. Whether it was set.

        ``tell``: what to publish beside the new value, if anything.
        """
        if not changes:
            return {}
        with self._locked(list(changes)) as session:
            counts, found = self._open(session, list(changes), _life(ttl))
            new = {key: change(_value(found[key]) if key in found else None) for key, change in changes.items()}
            kept = {self.name(key): got for key, got in found.items() if new[key] is None}
            other = [key for key, count in counts.items() if count is None and new[key] is not None]
            lives = dict.fromkeys(changes, _life(ttl)) | self._prolong(session, other, found, _life(ttl))
            replaced = [got for key, got in found.items() if new[key] is not None]
            publications = []
            for key, value in new.items():
                if value is not None:
                    publications.append(_publication(self.name(key), value, ttl, lives[key]))
                    told = tell(key, value)
                    publications += [] if told is None else [told]
            session.publish(publications)
            session.ack(replaced)
            self._put_back(session, kept)
        return {key: value is not None for key, value in new.items()}

    def remove(self, keys: Sequence[str], unless: Callable[[Value | None], bool] = lambda _: False) -> list[bool]:
        """Remove registers, unless the value says otherwise. Whether it was removed."""
        if not keys:
            return []
        with self._locked(keys) as session:
            found = self._take(session, keys)
            kept = {key for key in keys if unless(_value(found[key]) if key in found else None)}
            self._put_back(session, {self.name(key): got for key, got in found.items() if key in kept})
            session.ask(*(spec.Queue.Delete(0, self.name(key)) for key in dict.fromkeys(keys) if key not in kept))
        return [key not in kept for key in keys]

    def _take(self, session: Session, keys: Sequence[str]) -> dict[str, Got]:
        """The values that there are, held."""
        distinct = list(dict.fromkeys(keys))
        there = session.existing([self.name(key) for key in distinct])
        present = [key for key, is_there in zip(distinct, there, strict=True) if is_there]
        gots = session.get([self.name(key) for key in present])
        return {key: got for key, got in zip(present, gots, strict=True) if got is not None}

    def _open(
        self, session: Session, keys: Sequence[str], life: int | None
    ) -> tuple[dict[str, int | None], dict[str, Got]]:
        """How many messages each queue had (None: it is there with another life), and the old values, held."""
        counts = dict(zip(keys, session.declare([self.name(key) for key in keys], _arguments(life)), strict=True))
        filled = [key for key, count in counts.items() if count != 0]
        gots = zip(filled, session.get([self.name(key) for key in filled]), strict=True)
        return counts, {key: got for key, got in gots if got is not None}

    def _prolong(
        self, session: Session, keys: Sequence[str], found: dict[str, Got], life: int | None
    ) -> dict[str, int | None]:
        """How long each of these queues lives; one that would vanish before its new value does is made anew.

        With it goes the old value, which is to be replaced: whoever dies here has not said that he has replaced it.
        """
        lives: dict[str, int | None] = {}
        for key in keys:
            lives[key] = found[key].headers.get(_LIFE) if key in found else 0
            if not _outlives(lives[key], life):
                found.pop(key, None)
                session.ask(spec.Queue.Delete(0, self.name(key)))
                session.declare([self.name(key)], _arguments(life))
                lives[key] = life
        return lives

    @staticmethod
    def _put_back(session: Session, gots: Mapping[str, Got]) -> None:
        if gots:
            session.give_back(gots.values())
            session.existing(list(gots))  # they have been given back when the server answers this

    def name(self, key: str) -> str:
        """The queue of a register."""
        return f"{self._prefix}{self._kind}.{word(key)}"

    # locks

    @contextmanager
    def _locked(self, keys: Sequence[str]) -> Iterator[Session]:
        """A session, while the locks of these keys are held."""
        locks = sorted({f"{self._prefix}lock.{crc32(self.name(key).encode()) % LOCKS:02}" for key in keys})
        with self._sessions.session() as session:
            self._prepare(session)
            cells = session.get(locks)
            if None in cells:  # who waits for one holds none of those that follow: nobody waits in a circle
                session.give_back(cell for cell in cells if cell is not None)
                cells = [self._wait_for(session, lock) for lock in locks]
            yield session
            session.give_back(cell for cell in cells if cell is not None)  # had something failed, its end would

    def _wait_for(self, session: Session, lock: str) -> Got:
        cell = session.wait_for(lock, self._patience)
        if cell is None:
            raise BrokerUnavailable(f"somebody has held {lock} for {self._patience:g} s")
        return cell

    def _prepare(self, session: Session) -> None:
        """Make the locks, once for the virtual host; of several who try, one does."""
        if self._ready:
            return
        ready = f"{self._prefix}lock.ready"
        find = spec.Exchange.Declare(0, ready, passive=True, arguments={})
        deadline = time.monotonic() + self._patience
        while session.attempt([find], expected=NOT_FOUND) == [None]:
            setup = f"{self._prefix}lock.setup"
            if not session.declare_exclusive(setup):
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"somebody else makes the locks {self._prefix}lock.* since long")
                time.sleep(_SETUP_PAUSE)
                continue
            if session.attempt([find], expected=NOT_FOUND) == [None]:
                self._make_locks(session)
                session.ask(spec.Exchange.Declare(0, ready, "fanout", durable=True))
            session.ask(spec.Queue.Delete(0, setup))
        self._ready = True

    def _make_locks(self, session: Session) -> None:
        """What somebody began who died over it is made anew: nobody uses these queues yet."""
        names = [f"{self._prefix}lock.{number:02}" for number in range(LOCKS)]
        session.declare(names, {})
        session.ask(*(spec.Queue.Purge(0, name) for name in names))
        properties = spec.BasicProperties(delivery_mode=2)
        session.publish([Publication("", name, properties, b"") for name in names])


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
    """Should the holder of an old value vanish once the new one is stored, the old one returns, and is dropped."""
    return {"x-max-length": 1} if life is None else {"x-max-length": 1, "x-expires": life}
