"""Waiting for results that are pushed: each backend object has a queue of its own, bound to what it waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pika import exceptions, spec

from anybroker_backend_amqp.results import to_result
from anybroker_broker_amqp import forks
from anybroker_broker_amqp.channel import Channel, Listener
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.translation import NOT_FOUND, meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anybroker.backend import Result
    from anybroker_backend_amqp.sessions import Sessions
    from anybroker_broker_amqp.connection import Connection

EXCHANGE = "amq.direct"
"""To which final results are published; every virtual host has it."""
_LINGER = 2.0
"""Seconds for which a result is still listened for that nobody waits for: whoever waits in turns comes again."""
_IDLE = 32
"""So many of those, or as many as the last wait was for."""
_LOOKS = 64
"""Registers that are looked for at a time, each on a channel that the server closes where there is none."""
_BARRIER = spec.Basic.Qos(0, 0, False)  # noqa: FBT003
"""The cheapest method with a reply: it comes when the channel has done all that it was told before."""


class Wait:
    """One call that waits."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.results: dict[str, Result] = {}
        """What was pushed."""
        self.first: Reply[None] = Reply()
        """There when a result was pushed, or all of them were looked for."""
        self.looks: set[Look] = set()
        """Those that are not over."""
        self.read: set[str] = set()
        """Ids of what was read, and is not final."""
        self.error: BaseException | None = None


class Look:
    """Whether results are stored at all, which is asked once they are listened for."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.unanswered = len(ids)
        self.bound: Reply[None] = Reply()
        """There when what is stored from now on is certain to come."""
        self.waits: list[Wait] = []

    def end(self) -> None:
        """All are looked for."""
        for wait in self.waits:
            wait.looks.discard(self)
            if not wait.looks:
                wait.first.set(None)
        self.waits.clear()


class Interest:
    """A result that is listened for."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.waits: list[Wait] = []
        self.current = False
        """Nothing final is stored: somebody has looked for it, in vain, and what is stored since then is pushed."""


class Ear(Listener):
    """The queue, its consumer, and what it is bound to; ends with its connection."""

    def __init__(self, connection: Connection, key: Callable[[str], str]) -> None:
        """Call it in the connection's thread."""
        self.connection = connection
        self.lock = threading.Lock()
        self.interests: dict[str, Interest] = {}
        self.idle: dict[str, float] = {}
        """For which nobody waits, and since when; the longest first."""
        self._most_idle = _IDLE
        self._key = key
        self._queue = ""
        self._sweeping = False
        self._todo: deque[tuple[Look, str]] = deque()
        """What is still to be looked for."""
        self._looking = 0
        self.ready: Reply[None] = Reply()
        self.channel = Channel(connection, self)
        self.channel.ask(spec.Queue.Declare(0, "", exclusive=True, auto_delete=True, arguments={}), self._declared)

    @property
    def broken(self) -> BaseException | None:
        """Why nothing is heard any more."""
        return self.connection.ended or self.channel.closed

    def _declared(self, method: Any) -> None:
        if isinstance(method, BaseException):
            self.ready.fail(meaning(method, self.connection.where))
            return
        self._queue = method.queue
        self.channel.ask(spec.Basic.Consume(0, self._queue, "results", no_ack=True, arguments={}))
        self.ready.set(None)

    def listen(self, look: Look) -> None:
        """Bind, and then look for what is stored already."""

        def bound(answer: Any) -> None:
            _pass_on(look.bound, answer, self.connection.where)
            self._todo += [(look, id_) for id_ in look.ids]
            self._go_on_looking()

        for id_ in look.ids:
            self.channel.ask(spec.Queue.Bind(0, self._queue, EXCHANGE, self._key(id_), arguments={}))
        self.channel.ask(_BARRIER, bound)
        if not self._sweeping:
            self._sweeping = True
            self.connection.call_later(_LINGER, self._sweep)

    def _go_on_looking(self) -> None:
        """Ask for registers, without their locks: where there is none, nothing was stored."""
        while self._todo and self._looking < _LOOKS and self.broken is None:
            look, id_ = self._todo.popleft()
            self._looking += 1
            channel = Channel(self.connection)
            method = spec.Queue.Declare(0, self._key(id_), passive=True, arguments={})
            channel.ask(method, partial(self._looked, look, id_, channel))

    def _looked(self, look: Look, id_: str, channel: Channel, answer: Any) -> None:
        channel.close()
        absent = isinstance(answer, exceptions.ChannelClosedByBroker) and answer.reply_code == NOT_FOUND
        with self.lock:
            interest = self.interests.get(id_)
            if absent and interest is not None and interest.look is look:
                interest.current = True
            look.unanswered -= 1
            if not look.unanswered:
                look.end()
        self._looking -= 1
        self._go_on_looking()

    def catch_up(self, reply: Reply[None]) -> None:
        """Reply when every result that was stored before has come.

        Two round trips: when the queue answers, it has handed all of it to the channel; when the channel answers what
        it is asked after that, it has sent it on.
        """

        def handed_over(answer: Any) -> None:
            if isinstance(answer, BaseException):
                reply.fail(meaning(answer, self.connection.where))
            else:
                self.channel.ask(_BARRIER, lambda answer: _pass_on(reply, answer, self.connection.where))

        self.channel.ask(spec.Queue.Declare(0, self._queue, passive=True, arguments={}), handed_over)

    def on_deliver(self, consumer: str, tag: int, *, redelivered: bool, properties: Any, body: bytes) -> None:  # noqa: ARG002
        """A final result."""
        result = to_result(body, properties.headers)
        with self.lock:
            interest = self.interests.get(result.id)
            if interest is None:
                return
            interest.current = False
            for wait in interest.waits:
                wait.results[result.id] = result
                wait.first.set(None)
                wait.arrived.set()

    def on_end(self, error: BaseException) -> None:
        """Whoever waits hears of it."""
        self.ready.fail(meaning(error, self.connection.where))
        self.wake(meaning(error, self.connection.where))

    def wake(self, error: BaseException | None = None) -> None:
        """End all waits."""
        with self.lock:
            for interest in self.interests.values():
                for wait in interest.waits:
                    wait.error = error
                    wait.first.set(None)
                    wait.arrived.set()

    def enter(self, ids: Sequence[str], wait: Wait) -> tuple[list[str], Look]:
        """What of a wait is new, and the look for it, which is to begin. Call it with the lock."""
        new = [id_ for id_ in ids if id_ not in self.interests]
        look = Look(new)
        for id_ in ids:
            interest = self.interests.setdefault(id_, Interest(look))
            interest.waits.append(wait)
            self.idle.pop(id_, None)
            if interest.look.unanswered and interest.look not in wait.looks:
                wait.looks.add(interest.look)
                interest.look.waits.append(wait)
        if not wait.looks:
            wait.first.set(None)
        return new, look

    def begin(self, wait: Wait, new: Sequence[str]) -> None:
        """Forget what came until now, which may be out of date, unless it is new. Call it with the lock."""
        wait.results = {id_: wait.results[id_] for id_ in new if id_ in wait.results}
        if wait.error is None and not wait.results:
            wait.arrived.clear()

    def unknown(self, ids: Sequence[str]) -> list[str]:
        """Those that may be stored."""
        with self.lock:
            return [id_ for id_ in ids if not self.interests[id_].current]

    def leave(self, ids: Sequence[str], wait: Wait) -> None:
        """It waits no more. Call it with the lock."""
        now = time.monotonic()
        for id_ in ids:
            interest = self.interests[id_]
            interest.current |= id_ in wait.read and id_ not in wait.results
            interest.waits.remove(wait)
            if not interest.waits:
                self.idle[id_] = now
        for look in wait.looks:
            look.waits.remove(wait)
        self._most_idle = max(_IDLE, len(ids))
        if len(self.idle) > self._most_idle:
            self.connection.call(self._forget_idle)

    def _sweep(self) -> None:
        self._forget_idle()
        self._sweeping = bool(self.interests) and self.broken is None
        if self._sweeping:
            self.connection.call_later(_LINGER, self._sweep)

    def _forget_idle(self) -> None:
        """Listen no more for what nobody has waited for in a while, and not for too much of it."""
        if self.broken is not None:
            return
        before = time.monotonic() - _LINGER
        with self.lock:
            oldest = [*self.idle.items()]
            too_many = len(oldest) - self._most_idle
            ids = [id_ for place, (id_, since) in enumerate(oldest) if since < before or place < too_many]
            for id_ in ids:
                del self.idle[id_], self.interests[id_]
        for id_ in ids:
            self.channel.ask(spec.Queue.Unbind(0, self._queue, EXCHANGE, self._key(id_), arguments={}))


class Waiting:
    """Makes an ear when it is needed."""

    def __init__(self, sessions: Sessions, key: Callable[[str], str], *, timeout: float) -> None:
        """``key``: the routing key of a result, by its id."""
        self._sessions = sessions
        self._key = key
        self._timeout = timeout
        self.forget()
        forks.watch(self)

    def forget(self) -> None:
        """In the child of a fork."""
        self._lock = threading.Lock()
        self._ear: Ear | None = None

    @contextmanager
    def listening(self, ids: Sequence[str]) -> Iterator[tuple[Wait, list[str]]]:
        """A wait to which these results are pushed, and those of them that may be stored already.

        Once one is pushed, the others may not have been looked for.
        """
        ear = self._working()
        wait = Wait()
        with ear.lock:
            new, look = ear.enter(ids, wait)
            bound = {ear.interests[id_].look.bound for id_ in ids}
        try:
            if new:
                ear.connection.call(lambda: ear.listen(look))
            for one in bound:  # of other waits, too
                ear.connection.wait(one, self._timeout, doing="listen for results")
            if len(new) < len(ids):  # a result may be stored, and the server slow to push it
                caught_up = Reply[None]()
                ear.connection.call(lambda: ear.catch_up(caught_up))
                ear.connection.wait(caught_up, self._timeout, doing="listen for results")
            with ear.lock:
                ear.begin(wait, new)
            ear.connection.wait(wait.first, self._timeout, doing="look for results")
            yield wait, ear.unknown(ids)
        finally:
            with ear.lock:
                ear.leave(ids, wait)

    def close(self) -> None:
        """End all waits."""
        if self._ear is not None:
            self._ear.wake()

    def _working(self) -> Ear:
        with self._lock:
            if self._ear is None or self._ear.broken is not None:
                connection = self._sessions.connection()
                made: Reply[Ear] = Reply()
                connection.call(lambda: made.set(Ear(connection, self._key)))
                ear: Ear = connection.wait(made, self._timeout, doing="listen for results")
                connection.wait(ear.ready, self._timeout, doing="listen for results")
                self._ear = ear
            return self._ear


def _pass_on(reply: Reply[None], answer: Any, where: str) -> None:
    if isinstance(answer, BaseException):
        reply.fail(meaning(answer, where))
    else:
        reply.set(None)
