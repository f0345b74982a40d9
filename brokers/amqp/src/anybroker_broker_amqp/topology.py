"""What has to exist in RabbitMQ before messages can go there: declared once by each broker object."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pika import spec

from anybroker.errors import AnybrokerError, BrokerUnavailable, ConfigurationError
from anybroker_broker_amqp import delays
from anybroker_broker_amqp.translation import INTERNAL_ERROR, NOT_FOUND, refused_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pika.amqp_object import Method

    from anybroker_broker_amqp.links import Links
    from anybroker_broker_amqp.urls import Options

_PAUSES = (0.1, 0.5, 1.0)
"""Seconds until a declaration that RabbitMQ was too busy for is repeated."""
_LOOK = 60.0
"""Seconds between two looks whether delayed messages have not found their queue."""


class Topology:
    """Queues, and the way of delayed messages into them."""

    def __init__(self, links: Links, options: Options) -> None:
        self._links = links
        self._options = options
        self._known: set[str] = set()
        self._reachable: set[str] = set()
        """Queues that delayed messages find."""
        self._delays = False
        self._doubtful = False
        """What makes delays may be there in part."""
        self._look_at = 0.0

    def forget(self) -> None:
        """Something is not there any more: declare everything again."""
        self._known.clear()
        self._reachable.clear()
        self._delays = False
        self._doubtful = True

    def declare(self, queues: Iterable[str], delayed: Iterable[str] = ()) -> None:
        """Make sure of queues, some of which delayed messages go to. Raises ``ConfigurationError`` in passive mode."""
        passive = self._options.passive
        unknown = [name for name in dict.fromkeys(queues) if name not in self._known]
        for name in unknown if passive else ():
            if not self._exists(spec.Queue.Declare(0, name, passive=True, arguments={})):
                raise ConfigurationError(f"the queue {name} does not exist, and with passive=yes it must")
        if unknown and not passive:
            self._make([self._queue(name) for name in unknown])
        later = list(dict.fromkeys(delayed))
        if later or (unknown and not passive):
            self._prepare_delays(wanted=bool(later))
            if self._delays:  # then messages may be on their way to an unknown queue, too, which was deleted
                self._lead_to(later if passive else [*later, *unknown])
        self._known.update(unknown)

    def is_known(self, queue: str) -> bool:
        """Whether a queue was declared, and not forgotten."""
        return queue in self._known

    def strays(self) -> int:
        """How many delayed messages have not found their queue; looked up once in a while."""
        if not self._delays or time.monotonic() < self._look_at:
            return 0
        self._look_at = time.monotonic() + _LOOK
        look = spec.Queue.Declare(0, delays.strays(self._options.prefix), passive=True, arguments={})
        return int(self._links.ask([look])[0].message_count)

    def _queue(self, name: str) -> Method:
        arguments: dict[str, Any] = {"x-queue-type": self._options.type}
        if self._options.type == "quorum":
            arguments["x-delivery-limit"] = delays.NO_LIMIT
        return spec.Queue.Declare(0, name, durable=True, arguments=arguments)

    def _prepare_delays(self, *, wanted: bool) -> None:
        """Look whether there are delays, and make them if they are wanted."""
        if self._delays:
            return
        ready = delays.ready(self._options.prefix)
        exists = self._exists(spec.Exchange.Declare(0, ready, passive=True, arguments={}))
        if not exists and not wanted:
            return
        if not self._options.passive:
            if not exists or self._doubtful:
                self._make(list(delays.declarations(self._options.prefix)))
        elif not exists:
            raise ConfigurationError(f"the exchange {ready} does not exist, and with passive=yes it must")
        self._delays, self._doubtful = True, False

    def _lead_to(self, queues: Iterable[str]) -> None:
        """Let delayed messages reach queues."""
        unreachable = [name for name in dict.fromkeys(queues) if name not in self._reachable]
        if unreachable:
            self._make([delays.destination(self._options.prefix, name) for name in unreachable])
            self._reachable.update(unreachable)
            self._look_at = 0.0

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

    def _exists(self, method: Method) -> bool:
        try:
            self._links.ask([method])
        except AnybrokerError as error:
            if refused_with(error) == NOT_FOUND:
                return False
            raise
        return True
