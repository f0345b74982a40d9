"""One ``acquire`` on its way: look how much there is, take as much, and wait where there is nothing.

Lives in the connection's thread; its caller waits for the reply.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from anybroker_broker_amqp.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_broker_amqp.consumer import Arrival, Consumer, Source, Subscription
    from anybroker_broker_amqp.protocol import Timer

_LOOK_AGAIN = 0.003
"""Seconds between two looks whether more of what there is has come."""
_PROGRESS = 0.05
"""Seconds in which more must come of what there is. What is still on its way when a consumer of a quorum queue is
cancelled, RabbitMQ returns to the queue, and counts as delivered."""
_OVERTIME = 0.25
"""Seconds after the end of ``wait`` for which more may come of what there is."""


class Acquisition:
    """Wants up to ``limit`` messages from ``sources``, in order of preference."""

    def __init__(self, consumer: Consumer, sources: Sequence[Source], limit: int, wait: float) -> None:
        self.sources = sources
        self.limit = limit
        self.got: list[Arrival] = []
        self.reply: Reply[list[Arrival]] = Reply()
        self.subscriptions: list[Subscription] = []
        self.key = tuple(source.name for source in sources), limit
        """Who has the same wants to be served by the same consumers."""
        self._consumer = consumer
        self._wait = wait
        self._until = time.monotonic() + wait
        self._unanswered = 0
        self._counts: dict[str, int] = {}
        self._expected = 1
        self._waiting = False
        """For the first message, where there was none."""
        self._overdue = False
        self._seen = 0
        self._progress_at = float("-inf")
        """When more came of what there is, or was asked for."""
        self._deadline: Timer | None = None

    @property
    def enough(self) -> bool:
        """It waits for no more; also not for a consumer to be confirmed, which cannot be cancelled before."""
        return len(self.got) >= self._expected and not self._unanswered

    def look(self) -> None:
        """Ask how much there is."""
        if self._wait > 0:
            self._deadline = self._consumer.connection.call_later(self._wait, self._expired)
        self._unanswered = len(self.sources)
        for source in self.sources:
            self._consumer.count(source, partial(self._counted, source))

    def wait_on(self) -> None:
        """Its consumers are there already: wait for the first message."""
        self._waiting = True
        if self._wait <= 0:
            self._consumer.barrier(self._arrived)
        else:
            self._deadline = self._consumer.connection.call_later(self._wait, self._expired)

    def stop(self) -> None:
        """It is over."""
        if self._deadline is not None:
            self._deadline.cancelled = True

    def fail(self, error: BaseException) -> None:
        """It cannot go on."""
        self.stop()
        self._consumer.failed(self)
        self.reply.fail(error)

    def _counted(self, source: Source, method: Any) -> None:
        if isinstance(method, BaseException):
            self.fail(self._consumer.lost(method))
            return
        self._counts[source.name] = method.message_count
        self._unanswered -= 1
        if not self._unanswered and not self.reply.done:
            self._take()

    def _take(self) -> None:
        left = self.limit
        wanted: list[tuple[Source, int]] = []
        for source in self.sources:
            number = min(left, self._counts[source.name])
            if number:
                wanted.append((source, number))
                left -= number
        if not wanted:
            self._wait_for_first()
            return
        self._expected = self.limit - left
        self._progress_at = time.monotonic()
        self._unanswered = len(wanted)
        for source, number in wanted:
            self._consumer.subscribe(self, source, number, self._subscribed)

    def _subscribed(self, method: Any) -> None:
        """What there was is on its way: before the reply to whatever is asked from now on."""
        self._unanswered -= 1
        if self._unanswered or isinstance(method, BaseException) or self.reply.done:
            return
        if self.enough:
            self._consumer.offer(self)
        elif not self._waiting:
            self._consumer.barrier(self._arrived)
        elif self._overdue:
            self._consumer.finish(self, linger=True)

    def _arrived(self, method: Any) -> None:
        """Less came than there was: it takes long to come, or others have taken it."""
        if self.reply.done or isinstance(method, BaseException):
            return
        now = time.monotonic()
        if len(self.got) > self._seen:
            self._seen, self._progress_at = len(self.got), now
        if self._overdue and now > self._until + _OVERTIME:
            self._consumer.finish(self)
        elif now < self._progress_at + _PROGRESS:
            self._consumer.connection.call_later(_LOOK_AGAIN, self._ask_again)
        elif self.got:
            self._consumer.finish(self)
        else:
            self._wait_for_first()

    def _ask_again(self) -> None:
        if not self.reply.done:
            self._consumer.barrier(self._arrived)

    def _wait_for_first(self) -> None:
        if self._wait <= 0 or self._overdue:
            self._consumer.finish(self)
            return
        self._waiting = True
        self._expected = 1
        self._consumer.cancel(self)
        self._unanswered = len(self.sources)
        for source in self.sources:
            self._consumer.subscribe(self, source, 1, self._subscribed)  # no more is on its way when it is cancelled

    def _expired(self) -> None:
        self._overdue = True
        if self._waiting and not self._unanswered and not self.reply.done:  # else it ends when no more comes
            self._consumer.finish(self, linger=True)
