"""A channel of a connection: methods and their replies, deliveries, confirms. Lives in the connection's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pika import exceptions, frame, spec

if TYPE_CHECKING:
    from pika.amqp_object import Method

    from anybroker_broker_amqp.connection import Connection

Then = Callable[[Any], None]
"""Called with the method that answers, or with the exception that ended the channel before."""


class Listener:
    """What happens on a channel of which nobody asked. Does nothing."""

    def on_deliver(self, consumer: str, tag: int, *, redelivered: bool, properties: Any, body: bytes) -> None:
        """A message for a consumer."""

    def on_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None:
        """The server has stored, or refused, what was published as number ``tag``, or all up to it."""

    def on_return(self, properties: Any, routing_key: str) -> None:
        """What was published goes to no queue. Its confirm follows."""

    def on_cancel(self, consumer: str) -> None:
        """The server has ended a consumer: its queue is gone."""

    def on_end(self, error: BaseException) -> None:
        """The channel is closed, by the server or with its connection."""


class Channel:
    """Replies come in the order of the methods, so that methods need not wait for each other."""

    def __init__(self, connection: Connection, listener: Listener | None = None) -> None:
        """Open it. What is sent before the server has opened it, is done afterwards."""
        self.connection = connection
        self.number = connection.add_channel(self)
        self.closed: BaseException | None = None
        self.received = 0
        """Bytes of messages; may be read by any thread."""
        self._listener = listener or Listener()
        self._pending: deque[Then | None] = deque()
        self._content: tuple[Any, ...] = ()
        self._properties: Any = None
        self._left = 0
        self._parts: list[bytes] = []
        self.ask(spec.Channel.Open())

    def ask(self, method: Method, then: Then | None = None) -> None:
        """Send a method that is answered."""
        if self.closed is not None:
            if then is not None:
                then(self.closed)
            return
        self._pending.append(then)
        self.tell(method)

    def tell(self, method: Method) -> None:
        """Send a method that is not answered."""
        if self.closed is None:
            self.connection.send(frame.Method(self.number, method).marshal())

    def publish(self, exchange: str, routing_key: str, properties: spec.BasicProperties, body: bytes) -> None:
        """Send a message. Where it goes to no queue, the server drops it."""
        self.tell(spec.Basic.Publish(0, exchange, routing_key))
        self.connection.send(frame.Header(self.number, len(body), properties).marshal())
        step = self.connection.body_max
        for start in range(0, len(body), step):
            self.connection.send(frame.Body(self.number, body[start : start + step]).marshal())

    def close(self) -> None:
        """Close it in the course of things."""
        if self.closed is None:
            self.ask(spec.Channel.Close(200, "", 0, 0), self._ended)

    def fail(self, error: BaseException) -> None:
        """It is closed, and all who wait for a reply hear why."""
        if self.closed is not None:
            return
        self.closed = error
        pending, self._pending = self._pending, deque()
        for then in pending:
            if then is not None:
                then(error)
        self._listener.on_end(error)

    def _ended(self, _: Any) -> None:
        self.connection.remove_channel(self.number)
        self.fail(exceptions.ChannelClosedByClient(200, "closed"))

    # what arrives

    def on_method(self, method: Method) -> None:
        """A method that is no delivery."""
        if isinstance(method, spec.Basic.Ack | spec.Basic.Nack):
            stored = isinstance(method, spec.Basic.Ack)
            self._listener.on_confirm(method.delivery_tag, multiple=bool(method.multiple), stored=stored)
        elif isinstance(method, spec.Basic.Return):
            self._content = (method.routing_key,)
        elif isinstance(method, spec.Basic.GetOk):
            self._content = (method, self._pending.popleft())
        elif isinstance(method, spec.Basic.Cancel):
            self._listener.on_cancel(str(method.consumer_tag))
        elif isinstance(method, spec.Channel.Close):
            self.tell(spec.Channel.CloseOk())
            self.connection.remove_channel(self.number)
            self.fail(exceptions.ChannelClosedByBroker(method.reply_code, method.reply_text))
        elif self._pending:
            then = self._pending.popleft()
            if then is not None:
                then(method)

    def on_deliver(self, consumer: str, tag: int, redelivered: bool) -> None:  # noqa: FBT001  once per message
        """A delivery, whose header and body follow."""
        self._content = (consumer, tag, redelivered)

    def on_header(self, size: int, properties: Any) -> None:
        """The header of a message."""
        self._properties = properties
        self._left = size
        if not size:
            self._complete(b"")

    def on_body(self, part: bytes) -> None:
        """A body, or a part of it."""
        self.received += len(part)
        self._left -= len(part)
        if self._left > 0:
            self._parts.append(part)
        elif self._parts:
            self._parts.append(part)
            whole = b"".join(self._parts)
            self._parts.clear()
            self._complete(whole)
        else:
            self._complete(part)

    def _complete(self, body: bytes) -> None:
        content, properties = self._content, self._properties
        self._content, self._properties = (), None
        if len(content) == 1:
            self._listener.on_return(properties, content[0])
        elif len(content) == 2:  # noqa: PLR2004  who asked for it gets all three
            method, then = content
            if then is not None:
                then((method, properties, body))
        else:
            consumer, tag, redelivered = content
            self._listener.on_deliver(consumer, tag, redelivered=redelivered, properties=properties, body=body)
