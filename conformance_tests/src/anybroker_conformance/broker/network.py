"""A broker behind a network that fails on purpose, and what its calls may do then."""

from __future__ import annotations

import copy
import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import msgspec

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_conformance.faults.proxy import TO_SERVER, Proxy
from anybroker_conformance.faults.route import NoRoute, route, upstream
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.history.recorder import RecordedBroker
    from anybroker_conformance.subject import Subject

AWAY = 30.0
"""Seconds within which a call raises while the server is away, and works again when it is back."""
_MARKER = 4096
"""Bytes by which the proxy recognises that the client does not go round it."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call while something failed."""

    value: Any = None
    unavailable: BrokerUnavailable | None = None
    seconds: float = 0.0


class Network:
    """A proxy before the server, and brokers that reach the server through it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        try:
            self._server = upstream(subject.suite.url)
        except NoRoute as reason:
            subject.untested(f"the connection cannot be cut: {reason}")
        self._opened: list[RecordedBroker] = []
        self._declared = subject.capabilities  # and so there is a first object, which does not go through the proxy

    def __enter__(self) -> Self:
        self.proxy = Proxy(*self._server)
        try:
            self.broker = self.open()
            self._check_way()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.proxy.flow()
        self.proxy.accept()
        for broker in self._opened:
            with suppress(AnybrokerError):
                broker.recorded.close()
        self.proxy.close()

    def open(self) -> RecordedBroker:
        """One more object that goes through the proxy."""
        suite = copy.copy(self.subject.suite)
        suite.url = route(suite.url or "", self.proxy.host, self.proxy.port)  # type: ignore[misc]  # of this one alone
        self._opened.append(self.subject.adopt(suite.connect()))
        return self._opened[-1]

    def _check_way(self) -> None:
        queue = self.subject.queue("way")
        body = os.urandom(min(_MARKER, self._declared.max_body))
        self.broker.enqueue([self.subject.message(queue, body)])
        passed = self.proxy.count(TO_SERVER)
        self.broker.ack(self.subject.take(queue, broker=self.broker))
        if passed < len(body):
            self.subject.untested(
                "the connection cannot be cut: the client goes round the proxy, to an address that the server told it"
            )


def attempt(name: str, call: Callable[[], Any]) -> Outcome:
    """Make a call that may raise ``BrokerUnavailable``, and nothing else, within a bounded time."""
    began = time.monotonic()
    try:
        outcome = Outcome(call(), seconds=time.monotonic() - began)
    except BrokerUnavailable as error:
        outcome = Outcome(unavailable=error, seconds=time.monotonic() - began)
    except AssertionError:
        raise
    except Exception as error:
        raise LawBroken(
            f"{name} raised {type(error).__name__} instead of BrokerUnavailable when the server was not to be reached: "
            f"{error}"
        ) from error
    if outcome.seconds > AWAY + PATIENCE:
        raise LawBroken(f"{name} took {outcome.seconds:.0f} s to say that the server was not to be reached")
    return outcome


def works_again(subject: Subject, broker: RecordedBroker) -> None:
    """The same object does all its work again, soon after the server is back."""
    deadline = time.monotonic() + AWAY + PATIENCE
    queue = f"{subject.namespace}-none"
    look = partial(broker.acquire, [queue], limit=1, wait=0, lease=subject.short)
    while error := attempt("acquire", look).unavailable:
        if time.monotonic() > deadline:
            raise LawBroken(f"the server is back since {AWAY:g} s, and the same object still raises: {error}")
        time.sleep(0.02)


def does_all(subject: Subject, broker: RecordedBroker) -> None:
    """An object whose server is back enqueues, acquires, extends, updates and acknowledges.

    Connections that it had in reserve may turn out to be dead, one by one.
    """
    works_again(subject, broker)
    queue = subject.queue("again")
    deadline = time.monotonic() + AWAY + PATIENCE
    while True:
        outcome = attempt("a verb", lambda: _do_all(subject, broker, queue))
        if not outcome.unavailable:
            return
        if time.monotonic() > deadline:
            raise LawBroken(f"the server is back, and the same object still raises: {outcome.unavailable}")


def _do_all(subject: Subject, broker: RecordedBroker, queue: str) -> None:
    broker.enqueue([subject.message(queue, b"before")])
    [held] = subject.take(queue, broker=broker)
    if broker.extend([held], lease=subject.long) != [True]:
        raise LawBroken("the server is back, and extend does not work", held.message.id)
    new = msgspec.structs.replace(held.message, body=b"after")
    if broker.update([(held, new)]) != [True]:
        raise LawBroken("the server is back, and update does not work", held.message.id)
    [held] = subject.take(queue, broker=broker)
    if broker.ack([held]) != [True]:
        raise LawBroken("the server is back, and ack does not work", held.message.id)
