"""What a broker object holds: leases, consumers, and messages that came when nobody asked any more.

A consumer of RabbitMQ gets as many messages as its prefetch allows, and one more for each that it acknowledges. Here
each ``acquire`` has consumers of its own (:mod:`.acquisition`), whose prefetch is what it wants, and which are
cancelled before anything is acknowledged: nothing is taken that nobody has asked for. All of it is for the
connection's thread alone, but ``id``, ``broken``, ``wait`` and what was ``replaced``.
"""

from __future__ import annotations

import logging
import secrets
import struct
import time
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pika import spec

from anybroker_broker_amqp.channel import Channel, Listener
from anybroker_broker_amqp.translation import ACCESS_REFUSED, meaning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anybroker_broker_amqp.acquisition import Acquisition
    from anybroker_broker_amqp.channel import Then
    from anybroker_broker_amqp.connection import Connection
    from anybroker_broker_amqp.protocol import Timer
    from anybroker_broker_amqp.reply import Reply

_log = logging.getLogger("anybroker.amqp")

KEEP = 0.1
"""Seconds for which a message is kept that came when nobody asked any more; then it is given back."""
LINGER = 0.02
"""Seconds for which the consumers of an ``acquire`` that waited in vain are there for the next one."""
_WARN_AT = 0.8
"""Share of a lease after which a held message is warned of."""
_COMPACT = 1024
_ACK = struct.Struct(">BHLHHQBB")


class Source(NamedTuple):
    """A queue of RabbitMQ, and what its messages are."""

    name: str
    queue: str
    priority: int


class Arrival(NamedTuple):
    """A message as it came."""

    source: Source
    tag: int
    since: float
    """When it came, in monotonic seconds: its lease has begun."""
    properties: Any
    body: bytes


class Gone(Exception):
    """A queue or the channel is gone; the same may be tried again at once."""


class Subscription:
    """A consumer of RabbitMQ."""

    __slots__ = ("acquisition", "confirmed", "left", "source", "tag", "unwanted")

    def __init__(self, tag: str, source: Source, left: int, acquisition: Acquisition) -> None:
        self.tag = tag
        self.source = source
        self.left = left
        self.acquisition: Acquisition | None = acquisition
        self.confirmed = False
        self.unwanted = False
        """To be cancelled once it is confirmed: RabbitMQ's channel crashes when that comes first."""


class Consumer(Listener):
    """A channel, and everything that lasts as long as it."""

    def __init__(self, connection: Connection, lease: float) -> None:
        """``lease``: seconds for which a message is held at most."""
        self.connection = connection
        self.id = secrets.token_hex(8)
        """Names the leases of this channel."""
        self.replaced: set[int] = set()
        """Delivery tags that were settled by an update that raised: to be answered when it is repeated."""
        self._lease = lease
        self._over: Gone | None = None
        """Why the leases have ended while the channel has not yet."""
        self._tags = count(1)
        self._sources: dict[str, Source] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._active: dict[Acquisition, None] = {}
        self._ready: dict[Acquisition, None] = {}
        self._lingering: dict[tuple[tuple[str, ...], int], tuple[list[Subscription], Timer]] = {}
        self._held: set[int] = set()
        """Delivery tags of what was handed out."""
        self._unsettled: dict[int, float] = {}
        """Delivery tag -> since when; the oldest first."""
        self._order: deque[int] = deque()
        """Tags in the order of delivery; also some that are settled."""
        self._buffer: dict[str, deque[Arrival]] = {}
        self._kept_at = 0.0
        self._giving_back: Timer | None = None
        self._warned = False
        self.channel = Channel(connection, self)
        self._counting: Channel | None = None
        connection.after_read.append(self._after_read)
        connection.call_later(lease * _WARN_AT, self._watch)

    @property
    def broken(self) -> BaseException | None:
        """Why nothing is held here any more."""
        return self.connection.ended or self._over or self.channel.closed

    def wait(self, reply: Reply[Any], timeout: float, *, doing: str) -> Any:
        """As :meth:`.Connection.wait`, for any thread; answers come behind messages, which may be large and many."""
        return self.connection.wait(reply, timeout, doing=doing, progress=lambda: self.channel.received)

    # acquiring

    def begin(self, acquisition: Acquisition) -> None:
        """Take note of who wants messages."""
        if self.broken is not None:
            acquisition.fail(self.lost(self.broken))
            return
        self._active[acquisition] = None
        self._sources.update((source.name, source) for source in acquisition.sources)
        for source in acquisition.sources:
            kept = self._buffer.get(source.name)
            while kept and len(acquisition.got) < acquisition.limit:
                acquisition.got.append(kept.popleft())
            if kept is not None and not kept:
                del self._buffer[source.name]
        self._end_other_lingering(acquisition)
        if acquisition.got:
            self.finish(acquisition)
        elif not self._adopt(acquisition):
            acquisition.look()

    def finish(self, acquisition: Acquisition, *, linger: bool = False) -> None:
        """Hand over what has come."""
        if self._active.pop(acquisition, acquisition) is acquisition:
            return
        self._ready.pop(acquisition, None)
        acquisition.stop()
        subscriptions, acquisition.subscriptions = acquisition.subscriptions, []
        if linger and not acquisition.got:
            self._let_linger(acquisition, subscriptions)
        else:
            self._cancel(subscriptions)
        self._held.update(arrival.tag for arrival in acquisition.got)
        acquisition.reply.set(acquisition.got)

    def count(self, source: Source, then: Then) -> None:
        """Ask how many messages a queue has."""
        if self._counting is None or self._counting.closed is not None:
            self._counting = Channel(self.connection)  # its own: where a queue is missing, the server closes it
        self._counting.ask(spec.Queue.Declare(0, source.name, passive=True, arguments={}), then)

    def subscribe(self, acquisition: Acquisition, source: Source, prefetch: int, then: Then) -> None:
        """Take up to so many messages from a queue."""
        subscription = Subscription(f"{next(self._tags)}:{source.name}", source, prefetch, acquisition)
        self._subscriptions[subscription.tag] = subscription
        acquisition.subscriptions.append(subscription)
        self.channel.ask(spec.Basic.Qos(0, prefetch, False))  # noqa: FBT003  of each consumer that follows
        confirmed = partial(self._subscribed, subscription, then)
        self.channel.ask(spec.Basic.Consume(0, source.name, subscription.tag, arguments={}), confirmed)

    def barrier(self, then: Then) -> None:
        """Call back when the server has done all that was sent on this channel."""
        self.channel.ask(spec.Basic.Qos(0, 1, False), then)  # noqa: FBT003  the cheapest method with a reply

    def cancel(self, acquisition: Acquisition) -> None:
        """End the consumers of an acquisition."""
        subscriptions, acquisition.subscriptions = acquisition.subscriptions, []
        self._cancel(subscriptions)

    def _cancel(self, subscriptions: Iterable[Subscription]) -> None:
        for subscription in subscriptions:
            if self._subscriptions.pop(subscription.tag, None) is None:
                continue
            if subscription.confirmed:
                self.channel.tell(spec.Basic.Cancel(subscription.tag, nowait=True))
            else:
                subscription.unwanted = True

    def _subscribed(self, subscription: Subscription, then: Then, method: Any) -> None:
        subscription.confirmed = True
        if subscription.unwanted:
            self.channel.tell(spec.Basic.Cancel(subscription.tag, nowait=True))
        then(method)

    def _let_linger(self, acquisition: Acquisition, subscriptions: list[Subscription]) -> None:
        if acquisition.key in self._lingering or any(one.tag not in self._subscriptions for one in subscriptions):
            self._cancel(subscriptions)
            return
        for subscription in subscriptions:
            subscription.acquisition = None
        timer = self.connection.call_later(LINGER, partial(self._end_lingering, acquisition.key))
        self._lingering[acquisition.key] = subscriptions, timer

    def _end_lingering(self, key: tuple[tuple[str, ...], int]) -> None:
        subscriptions, _ = self._lingering.pop(key, ([], None))
        self._cancel(subscriptions)

    def _adopt(self, acquisition: Acquisition) -> bool:
        """Let this one have the consumers of the one before, which have seen that nothing is there."""
        subscriptions, timer = self._lingering.pop(acquisition.key, (None, None))
        if subscriptions is None or timer is None:
            return False
        timer.cancelled = True
        if any(one.tag not in self._subscriptions for one in subscriptions):
            self._cancel(subscriptions)
            return False
        for subscription in subscriptions:
            subscription.acquisition = acquisition
        acquisition.subscriptions = subscriptions
        acquisition.wait_on()
        return True

    def _end_other_lingering(self, acquisition: Acquisition) -> None:
        """What they still get is for this one."""
        for key, (_, timer) in list(self._lingering.items()):
            if key != acquisition.key and not set(key[0]).isdisjoint(acquisition.key[0]):
                timer.cancelled = True
                self._end_lingering(key)

    # settling

    def tell_replaced(self, tag: int) -> bool:
        """Whether it was replaced by an update that has raised; said once."""
        told = tag in self.replaced
        self.replaced.discard(tag)
        return told

    def reserve(self, tags: Sequence[int]) -> list[bool]:
        """Take leases away from their holders, to settle them; False for each that is lost."""
        held, answers = self._held, []
        for tag in tags:
            answers.append(tag in held)
            held.discard(tag)
        return answers

    def restore(self, tags: Iterable[int]) -> None:
        """Give leases back to their holders: they could not be settled."""
        if self._over is None:
            self._held.update(tag for tag in tags if tag in self._unsettled)

    def give_back(self, tags: Iterable[int]) -> None:
        """End leases; others get the messages at once."""
        for tag in tags:
            if tag in self._held and tag in self._unsettled:
                self._held.discard(tag)
                self._return(tag)

    def holds(self, tags: Sequence[int], reply: Reply[list[bool]]) -> None:
        """Which leases are valid, once the server has shown that it is there."""
        answers = [tag in self._held for tag in tags]
        self.barrier(partial(self._answer, reply, answers))

    def ack(self, tags: Sequence[int], reply: Reply[list[bool]]) -> None:
        """Remove messages; False for each whose lease is lost."""
        answers = self.reserve(tags)
        self.remove([tag for tag, ours in zip(tags, answers, strict=True) if ours])
        self.barrier(partial(self._answer, reply, answers))

    def remove(self, tags: Iterable[int]) -> None:
        """Acknowledge what was reserved: the oldest together, the others one by one."""
        chosen = {tag for tag in tags if self._unsettled.pop(tag, None) is not None}
        last, order = 0, self._order
        while order and order[0] not in self._unsettled:
            tag = order.popleft()
            last = tag if tag in chosen else last
        if len(order) > 2 * len(self._unsettled) + _COMPACT:
            self._order = deque(tag for tag in order if tag in self._unsettled)
        number = self.channel.number
        frames = [_ack(number, last, multiple=True)] if last else []
        frames += [_ack(number, tag) for tag in chosen if tag > last]
        if self.channel.closed is None:
            self.connection.send(b"".join(frames))

    def remove_for_certain(self, tags: Sequence[int], reply: Reply[list[bool]]) -> None:
        """As ``remove``, and hear when the server has done it."""
        self.remove(tags)
        self.barrier(partial(self._answer, reply, [True] * len(tags)))

    def _answer(self, reply: Reply[list[bool]], answers: list[bool], method: Any) -> None:
        if isinstance(method, BaseException) and any(answers):
            reply.fail(meaning(method, self.connection.where))
        else:
            reply.set(answers)

    # what arrives

    def on_deliver(self, consumer: str, tag: int, *, redelivered: bool, properties: Any, body: bytes) -> None:  # noqa: ARG002
        """A message, perhaps for a consumer that is cancelled by now."""
        if self._over is not None:
            return
        now = time.monotonic()
        subscription = self._subscriptions.get(consumer)
        source = subscription.source if subscription else self._sources[consumer.partition(":")[2]]
        self._unsettled[tag] = now
        self._order.append(tag)
        acquisition = None
        if subscription is not None:
            acquisition = subscription.acquisition
            subscription.left -= 1
            if not subscription.left:
                self._cancel([subscription])
        if acquisition is None or len(acquisition.got) >= acquisition.limit:
            acquisition = self._who_wants(source)
        arrival = Arrival(source, tag, now, properties, body)
        if acquisition is None:
            self._keep(arrival)
            return
        acquisition.got.append(arrival)
        self.offer(acquisition)

    def on_cancel(self, consumer: str) -> None:
        """The server has ended a consumer: the queue was deleted."""
        subscription = self._subscriptions.pop(consumer, None)
        if subscription is None:
            return
        _log.warning("RabbitMQ's queue %s was deleted while it was consumed from", subscription.source.name)
        if subscription.acquisition is not None:
            subscription.acquisition.fail(Gone(f"the queue {subscription.source.name} was deleted"))

    def on_end(self, error: BaseException) -> None:
        """All leases are lost."""
        if self.connection.ended is None and self._held:
            _log.warning("RabbitMQ has closed a channel; %d messages are delivered again: %s", len(self._held), error)
        self._held.clear()
        self._unsettled.clear()
        self._order.clear()
        self._buffer.clear()
        self._subscriptions.clear()
        self._lingering.clear()
        if self._after_read in self.connection.after_read:
            self.connection.after_read.remove(self._after_read)
        for acquisition in list(self._active):
            acquisition.fail(self.lost(error))
        if self._counting is not None:
            self._counting.close()

    def failed(self, acquisition: Acquisition) -> None:
        """Its caller hears why."""
        if self._active.pop(acquisition, acquisition) is acquisition:
            return
        self._ready.pop(acquisition, None)
        self._cancel(acquisition.subscriptions)
        if self.channel.closed is None:
            for arrival in acquisition.got:
                self._keep(arrival)

    def lost(self, error: BaseException) -> BaseException:
        """What somebody hears who acquires, of the end of a channel: whether it may be tried again at once."""
        if self.connection.ended is None and getattr(error, "reply_code", 0) != ACCESS_REFUSED:
            return Gone(str(error))
        return meaning(error, self.connection.where)

    def offer(self, acquisition: Acquisition) -> None:
        """Finish it, once all is read that came together, if it has enough."""
        if acquisition.enough and acquisition in self._active:
            self._ready[acquisition] = None

    def _after_read(self) -> None:
        while self._ready:
            self.finish(next(iter(self._ready)))

    def _who_wants(self, source: Source) -> Acquisition | None:
        for acquisition in self._active:
            if source in acquisition.sources and len(acquisition.got) < acquisition.limit:
                return acquisition
        return None

    def _keep(self, arrival: Arrival) -> None:
        self._buffer.setdefault(arrival.source.name, deque()).append(arrival)
        self._kept_at = time.monotonic()
        if self._giving_back is None:
            self._giving_back = self.connection.call_later(KEEP, self._give_back)

    def _give_back(self) -> None:
        self._giving_back = None
        young = self._kept_at + KEEP - time.monotonic()
        if self._buffer and young > 0:
            self._giving_back = self.connection.call_later(young, self._give_back)
            return
        for kept in self._buffer.values():
            for arrival in kept:
                self._return(arrival.tag)
        self._buffer.clear()

    def _return(self, tag: int) -> None:
        self._unsettled.pop(tag, None)
        self.channel.tell(spec.Basic.Nack(tag, requeue=True))

    def _watch(self) -> None:
        """End leases in time, and warn before."""
        if self.broken is not None:
            return
        now = time.monotonic()
        age = now - next(iter(self._unsettled.values()), now)
        if age >= self._lease:
            self._end_leases(age)
            return
        if age < self._lease * _WARN_AT:
            self._warned = False
        elif not self._warned:
            self._warned = True
            _log.warning(
                "a message is held since %.0f s; after %.0f s (consumer_timeout) all messages that are held are "
                "delivered again. Raise consumer_timeout in rabbitmq.conf, and in the URL",
                age,
                self._lease,
            )
        self.connection.call_later(self._lease * (1 if self._warned else _WARN_AT) - age, self._watch)

    def _end_leases(self, age: float) -> None:
        """Give up what is held, as by the end of the channel, so that it counts as delivered in vain.

        RabbitMQ does so only up to version 4.2. From 4.3 on it takes a message of a quorum queue back without a word
        to those whose consumer is cancelled, and then ignores its acknowledgement; classic queues wait for ever.
        """
        _log.warning(
            "a message was held for %.0f s (consumer_timeout); %d messages are delivered again", age, len(self._held)
        )
        self._over = Gone("a message was held for too long")
        self._held.clear()
        self.channel.close()


def _ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """As ``spec.Basic.Ack`` would be marshalled, at a tenth of the cost."""
    return _ACK.pack(1, channel, 13, 60, 80, tag, multiple, spec.FRAME_END)
