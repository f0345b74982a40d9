"""The Pub/Sub broker: a topic and a subscription for each queue."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

from anybroker.broker import Estimate
from anybroker.capabilities import Capabilities, Clock, Durability, Guarantee, Ordering
from anybroker.errors import BrokerUnavailable, Unsupported
from anybroker.validation import check_changes, check_messages
from anybroker_broker_pubsub.forks import gate
from anybroker_broker_pubsub.options import MAX_BODY, MAX_LEASE, MIN_LEASE, Settings, read_settings
from anybroker_broker_pubsub.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.broker import Broker, Delivery, Message, Overview

LONGEST_WAIT = 365 * 86_400.0
"""Seconds of a wait, also of one for ever: threads cannot wait for longer than C counts."""


class PubSubBroker:
    """Queues in Google Cloud Pub/Sub. Connects when it is first used; an object survives a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: Session | None = None
        self._inherited: list[Session] = []
        """Of the processes that this one was forked from; gRPC does not like them to be collected."""
        self._closed = False
        self.capabilities = Capabilities(
            durability=Durability.PROCESS if settings.emulated else Durability.POWER_CUT,
            exclusive=Guarantee.BEST_EFFORT,
            fencing=Guarantee.EXACT if settings.options.exactly_once else Guarantee.BEST_EFFORT,
            final=Guarantee.BEST_EFFORT,
            update=Guarantee.BEST_EFFORT,
            ordering=Ordering.PER_KEY if settings.options.ordering else Ordering.NONE,
            clock=Clock.CLIENT,
            overview=True,
            max_body=MAX_BODY,
            min_lease=MIN_LEASE,
            max_lease=MAX_LEASE,
            delay_precision=2.0 if settings.options.ordering else 1.0,
            expiry_bound=1.5,
            transit=settings.options.ack_deadline.total_seconds() + 1.0,
            wake_bound=0.1,
            wait_slack=1.5,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``pubsub://project/?option=value``; see :class:`~anybroker_broker_pubsub.options.Options`."""
        return cls(read_settings(url))

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Publish, and wait until all is confirmed."""
        check_messages(messages, self.capabilities)
        stored, failed = self._here().put(messages)
        if failed is not None:
            if isinstance(failed, BrokerUnavailable):
                missing = {message.id for position, message in enumerate(messages) if position not in stored}
                failed.stored = frozenset(message.id for message in messages) - missing
            raise failed

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Pull; one pull waits in each of the queues when all are empty."""
        names = list(dict.fromkeys(queues))
        _check_lease(lease)
        session = self._here()
        if not names or limit <= 0:
            return []
        session.later.start()
        end = time.monotonic() + min(max(0.0, wait), LONGEST_WAIT)
        waiting = len(names) == 1 and wait > 0
        while True:
            if waiting:
                taken = session.wait(names, limit, end, lease)
            else:
                taken = session.look(names, limit, lease, covered=wait > 0)
            if taken or time.monotonic() >= end:
                return taken
            waiting = True

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Acknowledge; False where the lease was lost, as far as that is known here."""
        return self._here().acknowledge(deliveries)

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Publish the new version, then acknowledge the old one; a death in between leaves both."""
        check_changes(changes, self.capabilities)
        return self._here().update(changes)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Change deadlines, to whole seconds from now."""
        _check_lease(lease)
        return self._here().extend(deliveries, lease)

    def known_queues(self) -> list[str]:
        """The queues with the prefix of the URL."""
        return self._here().known_queues()

    def estimate(self, queue: str) -> Estimate:  # noqa: ARG002
        """Nothing: Pub/Sub does not tell; Cloud Monitoring does (``num_undelivered_messages``)."""
        return Estimate()

    def clear(self, queue: str) -> None:
        """Forget what is in a queue; what waits for its eta elsewhere stays."""
        self._here().clear(queue)

    def close(self) -> None:
        """Give back what this object holds, unless the process is a fork of the one that took it."""
        session, self._session, self._closed = self._session, None, True
        if session is not None:
            if session.pid == os.getpid():
                session.close()
            else:
                self._inherited.append(session)

    def _here(self) -> Session:
        """The session of this process."""
        session = self._session
        if session is not None and session.pid == os.getpid():
            return session
        with gate.making:
            if self._closed:
                raise BrokerUnavailable(f"{self._settings.shown}: this broker was closed")
            if self._session is None or self._session.pid != os.getpid():
                if self._session is not None:
                    self._inherited.append(self._session)
                self._session = Session(self._settings)
            return self._session


def _check_lease(lease: float) -> None:
    if lease > MAX_LEASE:
        raise Unsupported(f"a lease of {lease:g} s: Pub/Sub has {MAX_LEASE} s at most; extend it before it ends")


_: type[Broker] = PubSubBroker
__: type[Overview] = PubSubBroker
