"""The connection of a backend object, and the sessions on it that its threads borrow."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anybroker.errors import BrokerUnavailable
from anybroker_backend_amqp.session import Session
from anybroker_broker_amqp import forks
from anybroker_broker_amqp.connection import Connection, connect
from anybroker_broker_amqp.translation import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pika import ConnectionParameters

_SPARE = 8
"""Sessions that are kept for later."""


class Sessions:
    """Connects when first used, and anew when the connection was lost. ``timeout``: seconds for each answer."""

    def __init__(self, targets: Sequence[ConnectionParameters], *, timeout: float) -> None:
        self._targets = targets
        self._timeout = timeout
        self.closed = False
        self._connection: Connection | None = None
        self._begin()
        forks.watch(self)

    def connection(self) -> Connection:
        """One that works. Raises the contract's errors."""
        with self._lock:
            if self.closed:
                raise BrokerUnavailable("this result backend was closed")
            if self._connection is None or self._connection.ended is not None:
                self._connection = connect(self._targets, name="anybroker-amqp-results", timeout=self._timeout)
            return self._connection

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One for the calling thread alone; what fails within is said in the words of the contract."""
        connection = self.connection()
        connection.until_unblocked(self._timeout)  # until then the server reads nothing, and channels would pile up
        session = self._kept()
        if session is None or session.broken is not None:
            session = Session(connection, self._timeout)
        with translated(connection.where):
            try:
                yield session
            except BaseException:
                session.close()  # gives back what it holds
                raise
        if len(self._spare) < _SPARE:
            self._spare.append(session)
        else:
            session.close()

    def _kept(self) -> Session | None:
        try:
            return self._spare.pop()
        except IndexError:  # also where another thread was faster
            return None

    def close(self) -> None:
        """End the connection."""
        self.closed = True
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def forget(self) -> None:
        """Begin anew: in the child of a fork, where the connection is the parent's."""
        connection = self._connection
        self._begin()
        if connection is not None:
            connection.forget()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.preparing = threading.Lock()
        """Held while what all use is made."""
        self._connection = None
        self._spare: list[Session] = []
