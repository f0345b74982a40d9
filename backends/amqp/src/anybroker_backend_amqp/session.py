"""A channel for one thread at a time: each call returns when the server has answered."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pika import spec

from anybroker.errors import BrokerUnavailable
from anybroker_backend_amqp.lanes import Lanes
from anybroker_broker_amqp.channel import Channel, Listener
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.translation import NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED, meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pika.amqp_object import Method

    from anybroker_broker_amqp.connection import Connection


class Got(NamedTuple):
    """A message that is held until it is acknowledged or given back."""

    tag: int
    headers: Mapping[str, Any]
    body: bytes


class Publication(NamedTuple):
    """A message to be sent."""

    exchange: str
    routing_key: str
    properties: spec.BasicProperties
    body: bytes


class Session(Listener):
    """A channel with confirms, and others beside it for what the server may refuse."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self.connection = connection
        self._timeout = timeout
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._refused = False
        self._confirmed: Reply[None] | None = None
        self._delivered: Reply[Got] | None = None
        self._lanes = Lanes(connection, timeout)
        self._channel: Channel = self._run(self._begin)

    @property
    def broken(self) -> BaseException | None:
        """Why it is of no use any more."""
        return self.connection.ended or self._channel.closed

    def ask(self, *methods: Method) -> list[Any]:
        """The replies to methods that are sent together."""
        replies: list[Reply[Any]] = [Reply() for _ in methods]

        def send() -> None:
            for method, reply in zip(methods, replies, strict=True):
                self._channel.ask(method, partial(_pass_on, reply))

        self.connection.call(send)
        return [self._answer(reply, type(method).__name__) for method, reply in zip(methods, replies, strict=True)]

    def attempt(self, methods: Sequence[Method], *, expected: int) -> list[Any]:
        """The replies to methods, done in any order; None for each that is refused with the code ``expected``."""
        return [answers[-1] for answers in self._lanes.do([[method] for method in methods], expected=expected)]

    def peek(self, queues: Sequence[str]) -> list[Got | None]:
        """The first message of each queue, which stays there; None where there is none, or no queue.

        It is taken and given back by one write, so that it is away for a moment alone. Nobody misses it: the
        declaration is answered by the queue once what was given back has reached it, and what asks for it later is
        served later. Not so the *number* of messages that a declaration tells: RabbitMQ's queues answer that first,
        and count what is on its way back as missing (``prioritise_call`` in its ``rabbit_amqqueue_process``).
        """
        tasks = [_to_peek(queue) for queue in queues]
        return [_found(answers[0]) for answers in self._lanes.do(tasks, expected=NOT_FOUND)]

    def open(self, queues: Sequence[str], arguments: Mapping[str, Any]) -> list[tuple[bool, Got | None]]:
        """Make queues, if they are not there; False for one that is there in another form. The first message of each.

        In one round trip, but for those in another form.
        """
        tasks = [[_to_declare(queue, arguments), *_to_peek(queue)] for queue in queues]
        answers = self._lanes.do(tasks, expected=PRECONDITION_FAILED)
        others = [queue for queue, steps in zip(queues, answers, strict=True) if steps[-1] is None]
        found = dict(zip(others, self.peek(others), strict=True))
        return [
            (False, found[queue]) if queue in found else (True, _found(steps[1]))
            for queue, steps in zip(queues, answers, strict=True)
        ]

    def delete(self, queues: Sequence[str]) -> None:
        """Delete queues. One that is not there is no error.

        Not side by side: on the channel that holds the locks, which then outlast the last deletion whatever happens.
        """
        self.ask(*(spec.Queue.Delete(0, queue) for queue in queues))

    def declare(self, queues: Sequence[str], arguments: Mapping[str, Any]) -> list[bool]:
        """Make queues, if they are not there; False for one that is there in another form."""
        methods = [_to_declare(queue, arguments) for queue in queues]
        return [answer is not None for answer in self.attempt(methods, expected=PRECONDITION_FAILED)]

    def declare_exclusive(self, queue: str) -> bool:
        """Make a queue for this connection alone; False if another one has made it."""
        method = spec.Queue.Declare(0, queue, exclusive=True, arguments={"x-queue-type": "classic"})
        return self.attempt([method], expected=RESOURCE_LOCKED) != [None]

    def get(self, queues: Sequence[str]) -> list[Got | None]:
        """Take the first message of each of some queues that exist."""
        return [_found(answer) for answer in self.ask(*(spec.Basic.Get(0, queue) for queue in queues))]

    def wait_for(self, queue: str, timeout: float) -> Got | None:
        """Take the first message of a queue as soon as there is one; None if that takes too long."""
        reply: Reply[Got] = Reply()
        self._delivered = reply
        self.ask(spec.Basic.Qos(0, 1, False))  # noqa: FBT003
        self.ask(spec.Basic.Consume(0, queue, "lock", arguments={}))
        arrived = reply.wait(timeout)
        self.ask(spec.Basic.Cancel("lock"))
        self._delivered = None
        return reply.result() if arrived or reply.done else None

    def publish(self, messages: Sequence[Publication]) -> None:
        """Send messages. They are stored once :meth:`confirm` has returned."""
        self.connection.call(lambda: self._send(messages))

    def confirm(self) -> None:
        """Wait until the server has stored all that was published."""
        reply: Reply[None] = Reply()
        self.connection.call(lambda: self._confirm(reply))
        self._answer(reply, "publish")

    def give_back(self, messages: Iterable[Got]) -> None:
        """Put messages back where they were."""
        nacks = [spec.Basic.Nack(got.tag, requeue=True) for got in messages]

        def tell() -> None:
            for nack in nacks:
                self._channel.tell(nack)

        self.connection.call(tell)

    def close(self) -> None:
        """Give back what is held."""
        self.connection.call(self._channel.close)
        self._lanes.close()

    # in the connection's thread

    def _begin(self) -> Channel:
        channel = Channel(self.connection, self)
        channel.ask(spec.Confirm.Select())
        return channel

    def _send(self, messages: Sequence[Publication]) -> None:
        for message in messages:
            self._published += 1
            self._unconfirmed.add(self._published)
            self._channel.publish(message.exchange, message.routing_key, message.properties, message.body)

    def _confirm(self, reply: Reply[None]) -> None:
        if self._channel.closed is not None:
            reply.fail(meaning(self._channel.closed, self.connection.where))
        self._confirmed = reply
        self._tell_confirmed()

    def _tell_confirmed(self) -> None:
        if self._unconfirmed or self._confirmed is None:
            return
        if self._refused:
            self._confirmed.fail(BrokerUnavailable(f"{self.connection.where} refused to store a result"))
        else:
            self._confirmed.set(None)
        self._refused, self._confirmed = False, None

    def on_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None:
        """Stored, or refused."""
        self._refused |= not stored
        if multiple:
            self._unconfirmed = {one for one in self._unconfirmed if one > tag}
        else:
            self._unconfirmed.discard(tag)
        self._tell_confirmed()

    def on_deliver(self, consumer: str, tag: int, *, redelivered: bool, properties: Any, body: bytes) -> None:  # noqa: ARG002
        """What was waited for."""
        if self._delivered is not None and not self._delivered.done:
            self._delivered.set(Got(tag, properties.headers or {}, body))
        else:
            self._channel.tell(spec.Basic.Nack(tag, requeue=True))

    def on_end(self, error: BaseException) -> None:
        """Whoever waits hears of it."""
        for reply in (self._confirmed, self._delivered):
            if reply is not None:
                reply.fail(meaning(error, self.connection.where))

    def _run(self, act: Callable[[], Channel]) -> Channel:
        reply: Reply[Channel] = Reply()
        self.connection.call(lambda: reply.set(act()))
        channel: Channel = self._answer(reply, "open a channel")
        return channel

    def _answer(self, reply: Reply[Any], doing: str) -> Any:
        return self.connection.wait(reply, self._timeout, doing=doing)


def _to_declare(queue: str, arguments: Mapping[str, Any]) -> Method:
    return spec.Queue.Declare(0, queue, durable=True, arguments=dict(arguments))


def _to_peek(queue: str) -> list[Method]:
    return [
        spec.Basic.Get(0, queue),
        spec.Basic.Nack(0, multiple=True, requeue=True),
        spec.Queue.Declare(0, queue, passive=True, arguments={}),
    ]


def _found(answer: Any) -> Got | None:
    """From what is answered to a ``Get``."""
    if answer is None or isinstance(answer, spec.Basic.GetEmpty):
        return None
    method, properties, body = answer
    return Got(method.delivery_tag, properties.headers or {}, body)


def _pass_on(reply: Reply[Any], answer: Any) -> None:
    if isinstance(answer, BaseException):
        reply.fail(meaning(answer, "RabbitMQ"))
    else:
        reply.set(answer)
