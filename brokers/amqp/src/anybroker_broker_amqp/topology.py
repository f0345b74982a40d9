"""What has to exist in RabbitMQ before messages can go there: declared once by each broker object."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pika import spec

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError
from anybroker_broker_amqp import delays
from anybroker_broker_amqp.translation import INTERNAL_ERROR, NOT_FOUND, refused_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pika.amqp_object import Method

    from anybroker_broker_amqp.links import Links
    from anybroker_broker_amqp.urls import Options

_NO_LIMIT = 2**31 - 1
"""RabbitMQ 4 drops a message that was delivered 20 times, unless told otherwise. Here that is core's to decide."""
_PAUSES = (0.1, 0.5, 1.0)
"""Seconds until a declaration that RabbitMQ was too busy for is repeated."""


class Topology:
    """Queues, and the way of delayed messages into them."""

    def __init__(self, links: Links, options: Options) -> None:
        self._links = links
        self._options = options
        self._known: set[str] = set()
        self._reachable: set[str] = set()
        """Queues that delayed messages find."""
        self._delays = False

    def forget(self) -> None:
        """Something is not there any more: declare everything again."""
        self._known.clear()
        self._reachable.clear()
        self._delays = False

    def declare(self, queues: Iterable[str], delayed: Iterable[str] = ()) -> None:
        """Make sure of queues, some of which delayed messages go to. Raises ``ConfigurationError`` in passive mode."""
        unknown = [name for name in dict.fromkeys(queues) if name not in self._known]
        for name in unknown if self._options.passive else ():
            self._find(spec.Queue.Declare(0, name, passive=True, arguments={}), f"the queue {name}")
        if unknown and not self._options.passive:
            self._make([delays.done(self._options.prefix), *(made for name in unknown for made in self._queue(name))])
            self._reachable.update(unknown)
        self._known.update(unknown)
        later = dict.fromkeys(delayed)
        if later:
            self._declare_delays()
        unreachable = [name for name in later if name not in self._reachable]
        if unreachable:
            self._make([delays.destination(self._options.prefix, name) for name in unreachable])
            self._reachable.update(unreachable)

    def _queue(self, name: str) -> Iterator[Method]:
        """A queue, and the way into it: messages may be on their way to one of that name which was deleted."""
        arguments: dict[str, Any] = {"x-queue-type": self._options.type}
        if self._options.type == "quorum":
            arguments["x-delivery-limit"] = _NO_LIMIT
        yield spec.Queue.Declare(0, name, durable=True, arguments=arguments)
        yield delays.destination(self._options.prefix, name)

    def _declare_delays(self) -> None:
        if self._delays:
            return
        ready = delays.ready(self._options.prefix)
        try:
            self._find(spec.Exchange.Declare(0, ready, passive=True, arguments={}), f"the exchange {ready}")
        except ConfigurationError:
            if self._options.passive:
                raise
            self._make(list(delays.declarations(self._options.prefix)))
        self._delays = True

    def _make(self, methods: Sequence[Method]) -> None:
        """Declare. A busy RabbitMQ closes the connection when a new quorum queue has no leader in time.

        It leaves nothing of that queue, and what it has declared before may be declared again.
        """
        for pause in _PAUSES:
            try:
                self._links.ask(methods)
            except BrokerUnavailable as error:
                if refused_with(error) != INTERNAL_ERROR:
                    raise
                time.sleep(pause)
            else:
                return
        self._links.ask(methods)

    def _find(self, method: Method, what: str) -> None:
        try:
            self._links.ask([method])
        except AnybrokerError as error:
            if refused_with(error) == NOT_FOUND:
                raise ConfigurationError(f"{what} does not exist, and with passive=yes it must") from error
            raise
