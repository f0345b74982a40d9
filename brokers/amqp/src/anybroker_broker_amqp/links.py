"""The connections of a broker object: one to consume, one to publish, made when needed and made anew when lost.

Two, because RabbitMQ stops reading from connections that publish while it is short of memory or disk, and what is held
must be settled all the same.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from anybroker.errors import BrokerUnavailable
from anybroker_broker_amqp import forks
from anybroker_broker_amqp.channel import Channel
from anybroker_broker_amqp.connection import Connection, connect
from anybroker_broker_amqp.consumer import Consumer
from anybroker_broker_amqp.publisher import Publisher
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.translation import meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pika import ConnectionParameters
    from pika.amqp_object import Method


class Links:
    """Connects when first used. ``timeout``: seconds for each answer of the server; ``lease``: as for a consumer."""

    def __init__(self, targets: Sequence[ConnectionParameters], *, timeout: float, lease: float) -> None:
        self.timeout = timeout
        self._targets = targets
        self._lease = lease
        self._closed = False
        self._renew()
        forks.watch(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._consuming: Connection | None = None
        self._publishing: Connection | None = None
        self._consumer: Consumer | None = None
        self._publisher: Publisher | None = None

    @property
    def closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    def consumer(self) -> Consumer:
        """One that works. Raises the contract's errors."""
        consumer = self._consumer
        if consumer is not None and consumer.broken is None and not self._closed:
            return consumer
        with self._lock:
            if self._consumer is None or self._consumer.broken is not None:
                connection = self._consuming = self._open(self._consuming, "anybroker-amqp-consume")
                made: Consumer = self._made(connection, lambda: Consumer(connection, self._lease))
                self._consumer = made
            return self._consumer

    def publisher(self) -> Publisher:
        """One that works. Raises the contract's errors."""
        publisher = self._publisher
        if publisher is not None and publisher.broken is None and not self._closed:
            return publisher
        with self._lock:
            if self._publisher is None or self._publisher.broken is not None:
                connection = self._publishing = self._open(self._publishing, "anybroker-amqp-publish")
                made: Publisher = self._made(connection, lambda: Publisher(connection))
                self._publisher = made
            return self._publisher

    @property
    def holder(self) -> Consumer | None:
        """Who holds leases; None where all are lost."""
        consumer = self._consumer
        return consumer if consumer is not None and consumer.broken is None else None

    def ask(self, methods: Sequence[Method]) -> list[Any]:
        """The replies to methods, on a channel of their own. Raises the contract's errors."""
        connection = self.consumer().connection
        reply: Reply[list[Any]] = Reply()
        answers: list[Any] = []
        opened: list[Channel] = []

        def answered(method: Any) -> None:
            answers.append(method)
            if isinstance(method, BaseException):
                reply.fail(meaning(method, connection.where))
            elif len(answers) == len(methods):
                opened[0].close()
                reply.set(answers)

        def begin() -> None:
            opened.append(Channel(connection))
            for method in methods:
                opened[0].ask(method, answered)

        connection.call(begin)
        connection.wait(reply, self.timeout, doing=type(methods[0]).__name__)
        return answers

    def close(self) -> None:
        """Give up what is held, and the connections."""
        self._closed = True
        with self._lock:
            connections = (self._consuming, self._publishing)
            self._renew()
        for connection in connections:
            if connection is not None:
                connection.close()

    def forget(self) -> None:
        """In the child of a fork: begin anew, and leave the parent's connections alone."""
        connections = (self._consuming, self._publishing)
        self._renew()
        for connection in connections:
            if connection is not None:
                connection.forget()

    def _open(self, connection: Connection | None, name: str) -> Connection:
        if self._closed:
            raise BrokerUnavailable("this was closed")
        if connection is not None and connection.ended is None:
            return connection
        return connect(self._targets, name=name, timeout=self.timeout)

    def _made(self, connection: Connection, make: Callable[[], Any]) -> Any:
        reply: Reply[Any] = Reply()
        connection.call(lambda: reply.set(make()))
        return connection.wait(reply, self.timeout, doing="open a channel")
