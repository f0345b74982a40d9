"""What the server may refuse, by closing the channel on which it was asked: on channels for that alone.

They hold no lock, and may be late when their connection breaks: nothing is changed here, but that queues are made.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pika import exceptions

from anybroker_broker_amqp.channel import Channel
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.translation import meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pika.amqp_object import Method

    from anybroker_broker_amqp.connection import Connection

    Step = tuple[int, Method, Reply[Any]]

WIDTH = 16
"""RabbitMQ makes queues slowly, one after another for each channel: sixteen get two to three times as much done. A
connection has 2047 channels at most."""

AHEAD = 32
"""Tasks that a channel is given at a time. Those after one that is refused are not done, and given again."""


class Lanes:
    """Channels that share the work, opened when needed. For one thread at a time."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._channels: list[Channel | None] = [None] * WIDTH

    def do(self, tasks: Sequence[Sequence[Method]], *, expected: int) -> list[list[Any]]:
        """The replies to the methods of each task, which are done in their order; None to one without an answer.

        Where the server refuses one with the reply code ``expected``, None is the last reply of that task.
        """
        answers: list[list[Any]] = [[] for _ in tasks]
        todo = [range(lane, len(tasks), WIDTH) for lane in range(min(WIDTH, len(tasks)))]
        while any(todo):
            sent: list[list[Step]] = [
                [(place, method, Reply()) for place in places[:AHEAD] for method in tasks[place]] for places in todo
            ]
            self._connection.call(partial(self._send, sent))
            for lane, steps in enumerate(sent):
                refused = self._collect(steps, answers, expected)
                done = AHEAD if refused is None else todo[lane].index(refused) + 1
                todo[lane] = todo[lane][done:]
        return answers

    def _collect(self, steps: Sequence[Step], answers: list[list[Any]], expected: int) -> int | None:
        """Wait for the replies; the place of the task that was refused, after which nothing was done."""
        for place, method, reply in steps:
            try:
                answers[place].append(self._connection.wait(reply, self._timeout, doing=type(method).__name__))
            except exceptions.ChannelClosedByBroker as error:
                if error.reply_code != expected:
                    raise meaning(error, self._connection.where) from error
                answers[place].append(None)
                return place
        return None

    def close(self) -> None:
        """Close the channels."""
        self._connection.call(self._close)

    # in the connection's thread

    def _send(self, lanes: Sequence[Sequence[Step]]) -> None:
        for lane, steps in enumerate(lanes):
            for _, method, reply in steps:
                channel = self._channel(lane)
                if method.synchronous:
                    channel.ask(method, partial(_pass_on, reply))
                else:
                    channel.tell(method)
                    reply.set(None)

    def _channel(self, lane: int) -> Channel:
        channel = self._channels[lane]
        if channel is None or channel.closed is not None:
            channel = self._channels[lane] = Channel(self._connection)
        return channel

    def _close(self) -> None:
        for channel in self._channels:
            if channel is not None:
                channel.close()


def _pass_on(reply: Reply[Any], answer: Any) -> None:
    if isinstance(answer, exceptions.ChannelClosedByBroker):
        reply.fail(answer)
    elif isinstance(answer, BaseException):
        reply.fail(meaning(answer, "RabbitMQ"))
    else:
        reply.set(answer)
