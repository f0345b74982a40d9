"""A history: every call of a broker, when it began and ended, and what it said of which message."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from anybroker.broker import Delivery, Message

Verb = Literal["enqueue", "acquire", "ack", "update", "extend", "close", "remove", "purge"]
"""The verbs that a history keeps: those that can change what is there."""
Outcome = Literal["ok", "fail", "unknown"]
"""``ok``: it returned. ``fail``: it raised, and promised thereby that nothing happened. ``unknown``: it raised
``BrokerUnavailable`` or its process died: it may have happened, or not, or still happen."""


class Content(msgspec.Struct, frozen=True):
    """A message as it was handed over, its body as a digest."""

    id: str
    queue: str
    digest: str
    """Of the body; equal for equal bodies."""
    size: int
    eta: float | None
    """Seconds since 1970."""
    priority: int
    ordering_key: str | None

    @classmethod
    def of(cls, message: Message) -> Content:
        """The content of a message."""
        digest = hashlib.sha256(message.body).hexdigest()[:16]
        eta = message.eta.timestamp() if message.eta else None
        return cls(message.id, message.queue, digest, len(message.body), eta, message.priority, message.ordering_key)


class Item(msgspec.Struct, frozen=True):
    """One message of a call."""

    content: Content
    """What was enqueued, what was delivered, or the delivery that a settle or an extend is about."""
    token: str | None = None
    """``repr`` of the delivery's token."""
    delivery_count: int | None = None
    lease_until: float | None = None
    """Seconds since 1970."""
    answer: bool | None = None
    """What ``ack``, ``update``, ``extend`` or ``remove`` said of it; None while, or because, it said nothing."""
    new: Content | None = None
    """The new version of an ``update``."""

    @property
    def id(self) -> str:
        """Of the message."""
        return self.content.id

    @classmethod
    def delivered(cls, delivery: Delivery, *, answer: bool | None = None, new: Message | None = None) -> Item:
        """A delivery in a call."""
        return cls(
            content=Content.of(delivery.message),
            token=repr(delivery.token),
            delivery_count=delivery.delivery_count,
            lease_until=delivery.lease_until.timestamp(),
            answer=answer,
            new=None if new is None else Content.of(new),
        )


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call, from its start to its end.

    ``began`` and ``ended`` are seconds of a clock that all processes of the machine share and that no test moves;
    ``began_at`` and ``ended_at`` are the same moments by the clock that judges leases and etas, seconds since 1970.
    """

    number: int
    """Unique within the process."""
    process: int
    thread: str
    client: str
    """Which broker object: a name such as ``consumer 2``."""
    verb: Verb
    queues: tuple[str, ...] = ()
    """Of an ``acquire``, a ``remove`` or a ``purge``."""
    limit: int | None = None
    wait: float | None = None
    lease: float | None = None
    """Seconds asked for, of an ``acquire`` or an ``extend``."""
    began: float
    began_at: float
    ended: float | None = None
    """None: the process died in it."""
    ended_at: float | None = None
    outcome: Outcome = "unknown"
    items: tuple[Item, ...] = ()
    """What went in (enqueue, ack, update, extend, remove) or came out (acquire)."""
    stored: tuple[str, ...] = ()
    """Ids that a failed ``enqueue`` said to be stored all the same."""
    error: str | None = None

    def about(self, id_: str) -> bool:
        """Whether the call concerns a message."""
        return any(item.id == id_ for item in self.items)


class History(msgspec.Struct, frozen=True):
    """What happened, as far as it was recorded, in the order in which the calls began."""

    calls: tuple[Call, ...]
    deaths: tuple[float, ...] = ()
    """When the service was killed; seconds, as ``began`` of a call."""

    def of(self, id_: str) -> tuple[Call, ...]:
        """The calls about one message, and the closings of the clients that held it."""
        about = tuple(call for call in self.calls if call.about(id_))
        holders = {call.client for call in about if call.verb == "acquire"}
        return tuple(call for call in self.calls if call in about or (call.verb == "close" and call.client in holders))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all messages, in the order in which they appeared."""
        return tuple(dict.fromkeys(item.id for call in self.calls for item in call.items))
