"""What has to exist in RabbitMQ before messages can go there: declared once by each broker object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pika import exceptions, spec

from anybroker.errors import AnybrokerError, ConfigurationError
from anybroker_broker_amqp import delays
from anybroker_broker_amqp.translation import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pika.amqp_object import Method

    from anybroker_broker_amqp.links import Links
    from anybroker_broker_amqp.urls import Options

_NO_LIMIT = 2**31 - 1
"""RabbitMQ 4 drops a message that was delivered 20 times, unless told otherwise. Here that is core's to decide."""


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
            self._links.ask([self._queue(name) for name in unknown])
        self._known.update(unknown)
        unreachable = [name for name in dict.fromkeys(delayed) if name not in self._reachable]
        if unreachable:
            self._declare_delays()
            self._links.ask([delays.destination(self._options.prefix, name) for name in unreachable])
            self._reachable.update(unreachable)

    def _queue(self, name: str) -> Method:
        arguments: dict[str, Any] = {"x-queue-type": self._options.type}
        if self._options.type == "quorum":
            arguments["x-delivery-limit"] = _NO_LIMIT
        return spec.Queue.Declare(0, name, durable=True, arguments=arguments)

    def _declare_delays(self) -> None:
        if self._delays:
            return
        ready = delays.ready(self._options.prefix)
        try:
            self._find(spec.Exchange.Declare(0, ready, passive=True, arguments={}), f"the exchange {ready}")
        except ConfigurationError:
            if self._options.passive:
                raise
            self._links.ask(list(delays.declarations(self._options.prefix)))
        self._delays = True

    def _find(self, method: Method, what: str) -> None:
        try:
            self._links.ask([method])
        except AnybrokerError as error:
            if (
                isinstance(error.__cause__, exceptions.ChannelClosedByBroker)
                and error.__cause__.reply_code == NOT_FOUND
            ):
                raise ConfigurationError(f"{what} does not exist, and with passive=yes it must") from error
            raise
