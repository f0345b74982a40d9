"""The RabbitMQ broker."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Self, cast

from anybroker import capabilities as declare
from anybroker.broker import Delivery
from anybroker.errors import AnybrokerError, BrokerUnavailable, MessageTooLarge
from anybroker.loading import read_options
from anybroker.validation import check_changes, check_messages, check_queue_name
from anybroker_broker_amqp import delays, overview, wire
from anybroker_broker_amqp.acquisition import Acquisition
from anybroker_broker_amqp.consumer import Gone, Source
from anybroker_broker_amqp.links import Links
from anybroker_broker_amqp.names import queue_name
from anybroker_broker_amqp.overview import Management
from anybroker_broker_amqp.reply import Reply
from anybroker_broker_amqp.topology import Topology
from anybroker_broker_amqp.translation import INTERNAL_ERROR, NOT_FOUND, TOO_LARGE, refused_with, size_limit
from anybroker_broker_amqp.urls import Options, split, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anybroker.broker import Broker, Estimate, Message, Overview
    from anybroker_broker_amqp.consumer import Arrival, Consumer
    from anybroker_broker_amqp.publisher import Batch

    Token = tuple[str, int]
    Act = Callable[[Consumer, Sequence[int], Reply[list[bool]]], None]

_log = logging.getLogger("anybroker.amqp")
_STRAYS = 100
"""So many are sent on at once."""
_TRIES = 3
"""How often in a row a queue may vanish from under a call."""
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts: a queue that another client is declaring at this moment refuses until it has a leader."""


class AmqpBroker:
    """Keeps messages in RabbitMQ's queues.

    ``url``: ``amqp://user:password@host:5672/vhost`` or ``amqps://``; several hosts, separated by commas, are tried in
    turn. The options are the fields of :class:`.urls.Options`.

    A lease lasts as long as the channel on which the message came, and at most for nearly the ``consumer_timeout``.
    """

    def __init__(self, url: str) -> None:
        """Raises ``ConfigurationError``. Does not connect yet."""
        address = split(url)
        options = self._options = read_options(address, Options)
        self._timeout = options.timeout.total_seconds()
        self._links = Links(
            targets(address, options),
            timeout=self._timeout,
            lease=options.longest_lease,
        )
        self._topology = Topology(self._links, options)
        self._size_limit: int | None = None
        """Bytes; the server's own, once it has refused a message for it."""
        self._management = Management(address, options) if options.management else None
        self.capabilities = declare.Capabilities(
            durability=declare.Durability.SERVER,
            lease=declare.Lease.CONNECTION,
            final=declare.Guarantee.BEST_EFFORT,
            update=declare.Guarantee.BEST_EFFORT,
            priorities=(0, options.priorities) if options.priorities else None,
            clock=declare.Clock.CLIENT,
            overview=True,
            delivery_count=options.type == "quorum",
            max_body=options.max_body,
            max_lease=options.longest_lease,
            delay_precision=1.0,
            expiry_bound=1.0,
            wake_bound=0.1,
            wait_slack=0.5,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The broker of a URL. Raises ``ConfigurationError``."""
        return cls(url)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; returns when the server has confirmed each of them."""
        check_messages(messages, self.capabilities)
        self._check_size(messages)
        if messages:
            self._publish(self._named(messages), [])

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:  # noqa: ARG002
        """Take up to ``limit`` messages, waiting at most ``wait`` seconds for the first."""
        if limit <= 0 or not queues:
            return []
        names = list(dict.fromkeys(check_queue_name(queue) for queue in queues))
        sources = [source for queue in names for source in self._sources(queue)]
        deadline = time.monotonic() + wait
        tries = 0
        while True:
            self._declare([source.name for source in sources])
            consumer = self._links.consumer()
            try:
                arrivals = self._acquire(consumer, sources, limit, deadline - time.monotonic())
            except (Gone, BrokerUnavailable) as error:
                if isinstance(error, BrokerUnavailable) and refused_with(error) != INTERNAL_ERROR:
                    raise
                tries += 1
                self._topology.forget()
                if tries == _TRIES:
                    raise BrokerUnavailable(str(error)) from error
                if not isinstance(error, Gone):
                    _log.warning("RabbitMQ has failed, and delivers again what was held here: %s", error)
            else:
                return self._deliveries(consumer, arrivals)

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages for good; False where the lease is lost."""
        holder = self._links.holder
        return self._settle(holder, deliveries, lambda consumer, tags, reply: consumer.ack(tags, reply))

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Store the new versions, then remove the old ones; False where the lease is lost.

        Raises ``BrokerUnavailable``, with both versions stored, when the server goes in between. One that raises may be
        repeated: what it had replaced is not replaced again, and answered by True.
        """
        check_changes(changes, self.capabilities)
        self._check_size([message for _, message in changes])
        holder = self._links.holder
        deliveries = [delivery for delivery, _ in changes]
        versions = self._named(message for _, message in changes)
        answers = self._settle(holder, deliveries, _reserve)
        ours = [place for place, answer in enumerate(answers) if answer]
        if ours and holder is not None:
            tags = [cast("Token", deliveries[place].token)[1] for place in ours]
            self._replace(holder, tags, [versions[place] for place in ours])
        return [answer or _was_replaced(holder, delivery) for answer, delivery in zip(answers, deliveries, strict=True)]

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:  # noqa: ARG002
        """Whether the leases still hold: as long as the channel does, which nothing prolongs."""
        holder = self._links.holder
        return self._settle(holder, deliveries, lambda consumer, tags, reply: consumer.holds(tags, reply))

    def close(self) -> None:
        """Give up what is held, at once, and the connections."""
        self._links.close()

    def known_queues(self) -> list[str]:
        """The queues with the prefix, where a management URL is given; but for those whose names had to be cut."""
        return overview.known_queues(self._management, self._options.prefix)

    def estimate(self, queue: str) -> Estimate:
        """How much is ready; and with a management URL, how much is leased."""
        return overview.estimate(self._links, self._management, [one.name for one in self._sources(queue)])

    def clear(self, queue: str) -> None:
        """Remove what is ready, at once."""
        overview.clear(self._links, [one.name for one in self._sources(queue)])

    def _sources(self, queue: str) -> list[Source]:
        levels = range(self._options.priorities, -1, -1)
        return [Source(queue_name(self._options.prefix, queue, level), queue, level) for level in levels]

    def _declare(self, names: Sequence[str], delayed: Sequence[str] = ()) -> None:
        """Make sure of queues of RabbitMQ, and send on what came due when one of them was gone."""
        self._topology.declare(names, delayed)
        try:
            if number := self._topology.strays():
                self._send_strays(number)
        except (Gone, AnybrokerError) as error:
            if refused_with(error) == NOT_FOUND:  # somebody has deleted the queue of strays
                self._topology.forget()
            _log.warning("delayed messages that have not found their queue cannot be sent on yet: %s", error)

    def _send_strays(self, number: int) -> None:
        """Send on, of so many strays, those whose queue is known here; the others stay where they are."""
        consumer = self._links.consumer()
        source = Source(delays.strays(self._options.prefix), "strays", 0)
        seen: list[int] = []
        try:
            while number > 0 and (arrivals := self._acquire(consumer, [source], min(number, _STRAYS), 0)):
                number -= len(arrivals)
                seen += [arrival.tag for arrival in arrivals]
                found: dict[int, tuple[Message, str]] = {}
                for arrival in arrivals:
                    name = delays.target(self._options.prefix, arrival.properties.headers or {})
                    if self._topology.is_known(name):
                        found[arrival.tag] = wire.decode(arrival.properties, arrival.body, source.queue, 0), name
                if found:
                    tags = list(found)
                    consumer.connection.call(partial(consumer.reserve, tags))
                    self._replace(consumer, tags, list(found.values()))
        finally:
            consumer.connection.call(lambda: consumer.give_back(seen))

    # publishing

    def _named(self, messages: Iterable[Message]) -> list[tuple[Message, str]]:
        """Messages, and the queues of RabbitMQ to which they go."""
        prefix = self._options.prefix
        return [(message, queue_name(prefix, message.queue, message.priority)) for message in messages]

    def _check_size(self, messages: Sequence[Message]) -> None:
        """Raise ``MessageTooLarge`` for what the server refuses, once it is known to."""
        limit = self._size_limit
        for message in messages:
            if limit is not None and len(message.body) > limit:
                raise MessageTooLarge(f"message {message.id!r} has {len(message.body):,} bytes, {TOO_LARGE}: {limit:,}")

    def _publish(self, todo: Sequence[tuple[Message, str]], stored: list[str]) -> None:
        """Publish until all is confirmed; what a queue that was just declared refuses, or that is gone, again.

        ``stored`` is filled with the ids of what is confirmed, also when this raises.
        """
        for pause in _PAUSES:
            batch, keys = self._publish_once(todo)
            returned = {place for place, key in enumerate(keys) if batch.returned and key in batch.returned}
            failed = returned.union(batch.refused, range(batch.confirmed, batch.size))
            stored += [message.id for place, (message, _) in enumerate(todo) if place not in failed]
            if batch.error is not None:
                self._judge(batch.error, [todo[place][0] for place in failed], stored)
            if not failed:
                return
            if returned:
                self._topology.forget()
            todo = [todo[place] for place in sorted(failed)]
            time.sleep(pause)
        message, name = todo[0]
        raise BrokerUnavailable(
            f"message {message.id!r} ({len(todo)} in all) is not stored: the queue {name} is gone or refuses it",
            stored=stored,
        )

    def _judge(self, error: AnybrokerError, messages: Sequence[Message], stored: Sequence[str]) -> None:
        """Raise why messages are not stored, unless it was for that of another thread, on the same channel."""
        if (limit := size_limit(error)) is not None:
            self._size_limit = limit
            self._check_size(messages)
        elif isinstance(error, BrokerUnavailable):
            if refused_with(error) == NOT_FOUND:  # the exchanges of delays are gone
                self._topology.forget()
            raise BrokerUnavailable(str(error), stored=stored) from error
        else:
            raise error

    def _publish_once(self, todo: Sequence[tuple[Message, str]]) -> tuple[Batch, list[tuple[str, str]]]:
        """What came of it, and how each message would be named if it were returned."""
        now = datetime.now(UTC)
        furthest = now + timedelta(seconds=delays.LONGEST)
        later = [name for message, name in todo if message.eta is not None and message.eta > now]
        self._declare([name for _, name in todo], later)
        publisher = self._links.publisher()
        number, body_max = publisher.channel.number, publisher.connection.body_max
        routes = [self._route(message, name, now) for message, name in todo]
        frames = [
            wire.encode(
                message,
                exchange=exchange,
                routing_key=key,
                channel=number,
                body_max=body_max,
                again=message.eta is not None and message.eta > furthest,
            )
            for (message, _), (exchange, key) in zip(todo, routes, strict=True)
        ]
        batch = publisher.publish(frames, self._timeout)
        return batch, [(key, message.id) for (message, _), (_, key) in zip(todo, routes, strict=True)]

    def _route(self, message: Message, name: str, now: datetime) -> tuple[str, str]:
        if message.eta is None or message.eta <= now:
            return "", name
        return delays.route(self._options.prefix, name, (message.eta - now).total_seconds())

    # consuming

    def _acquire(self, consumer: Consumer, sources: Sequence[Source], limit: int, wait: float) -> list[Arrival]:
        acquisition = Acquisition(consumer, sources, min(limit, self._options.prefetch), max(0.0, wait))
        consumer.connection.call(lambda: consumer.begin(acquisition))
        arrivals: list[Arrival] = consumer.wait(acquisition.reply, max(0.0, wait) + self._timeout, doing="acquire")
        return arrivals

    def _deliveries(self, consumer: Consumer, arrivals: Sequence[Arrival]) -> list[Delivery]:
        begun = min((arrival.since for arrival in arrivals), default=0.0) - time.monotonic()
        until = datetime.now(UTC) + timedelta(seconds=begun + self._options.longest_lease)
        counted = self.capabilities.delivery_count
        deliveries: list[Delivery] = []
        again: list[Delivery] = []
        for source, tag, _since, properties, body in arrivals:
            delivery = Delivery(
                wire.decode(properties, body, source.queue, source.priority),
                (consumer.id, tag),
                wire.delivery_count(properties) if counted else None,
                until,
            )
            (again if wire.AGAIN in (properties.headers or {}) else deliveries).append(delivery)
        if again:
            self._send_on(consumer, again, others=bool(deliveries))
        return deliveries

    def _send_on(self, consumer: Consumer, again: Sequence[Delivery], *, others: bool) -> None:
        """Delay once more what is to wait for longer than one delay; what ``others`` have brought counts more."""
        try:
            self.update([(delivery, delivery.message) for delivery in again])
        except AnybrokerError as error:
            tags = [cast("Token", delivery.token)[1] for delivery in again]
            consumer.connection.call(lambda: consumer.give_back(tags))
            if not others:
                raise
            _log.warning("%d delayed messages cannot be sent on, and are tried again: %s", len(again), error)

    # settling

    def _settle(self, consumer: Consumer | None, deliveries: Sequence[Delivery], act: Act) -> list[bool]:
        """Do something with the leases of a consumer; False for all others, without asking the server."""
        answers = [False] * len(deliveries)
        if consumer is None:
            return answers
        tokens = [cast("Token", delivery.token) for delivery in deliveries]
        places = [place for place, (lease, _) in enumerate(tokens) if lease == consumer.id]
        if not places:
            return answers
        reply: Reply[list[bool]] = Reply()
        tags = [tokens[place][1] for place in places]
        consumer.connection.call(lambda: act(consumer, tags, reply))
        for place, answer in zip(places, consumer.wait(reply, self._timeout, doing="settle"), strict=True):
            answers[place] = answer
        return answers

    def _replace(self, consumer: Consumer, tags: Sequence[int], versions: Sequence[tuple[Message, str]]) -> None:
        """Store new versions, then remove the old ones, whose leases are reserved with this consumer."""
        stored: list[str] = []
        try:
            self._publish(versions, stored)
        except Exception:
            ids = [message.id for message, _ in versions]
            number, confirmed = Counter(ids), Counter(stored)
            certain = {id_ for id_ in ids if confirmed[id_] == number[id_]}  # of fewer, nobody knows which
            done = {tag for id_, tag in zip(ids, tags, strict=True) if id_ in certain}
            consumer.replaced.update(done)
            consumer.connection.call(lambda: consumer.remove(done))
            consumer.connection.call(lambda: consumer.restore(tag for tag in tags if tag not in done))
            raise
        reply: Reply[list[bool]] = Reply()
        if consumer.broken is not None:
            raise BrokerUnavailable("the connection went during an update: the old versions are delivered too")
        consumer.connection.call(lambda: consumer.remove_for_certain(tags, reply))
        consumer.wait(reply, self._timeout, doing="update")


def _reserve(consumer: Consumer, tags: Sequence[int], reply: Reply[list[bool]]) -> None:
    reply.set(consumer.reserve(tags))


def _was_replaced(consumer: Consumer | None, delivery: Delivery) -> bool:
    """Whether an earlier update, which raised because of another message, has replaced it."""
    lease, tag = cast("Token", delivery.token)
    return consumer is not None and lease == consumer.id and consumer.tell_replaced(tag)


_: type[Broker] = AmqpBroker
__: type[Overview] = AmqpBroker
