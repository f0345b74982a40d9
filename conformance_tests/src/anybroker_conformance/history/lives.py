"""A history sorted by message: what happened to each of them, in the order in which it began."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from anybroker_conformance.history.calls import Call, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anybroker_conformance.history.calls import Content, History

ENDLESS = float("inf")


class Event(msgspec.Struct, frozen=True):
    """A call as far as it concerns one message."""

    call: Call
    item: Item
    position: int
    """Of the message in the call."""

    @property
    def began(self) -> float:
        """Seconds, of the machine's clock."""
        return self.call.began

    @property
    def ended(self) -> float:
        """Seconds, of the machine's clock; endless where nobody saw the end."""
        return ENDLESS if self.call.ended is None else self.call.ended

    @property
    def possible(self) -> bool:
        """Whether it may have had an effect: it did, or nobody knows."""
        if self.call.outcome == "unknown":
            return True
        return self.call.outcome == "ok" and self.item.answer is not False

    @property
    def certain(self) -> bool:
        """Whether it had an effect, as the broker says."""
        return self.call.outcome == "ok" and self.item.answer is not False

    def before(self, other: Event) -> bool:
        """Whether it had ended when ``other`` began."""
        return self.ended <= other.began


class Life(msgspec.Struct, frozen=True):
    """What happened to one message."""

    id: str
    sends: list[Event]
    deliveries: list[Event]
    settles: list[Event]
    """Acks and updates."""
    extends: list[Event]
    removals: list[Event]
    """By ``remove``."""
    given_up: list[Call]
    """Closings of the clients that held it, and purges of the queues that it was in: they may end a lease, or it."""

    @property
    def versions(self) -> list[tuple[Event, Content]]:
        """Every content that it may have, and the call that brought it."""
        sent = [(event, event.item.content) for event in self.sends if _may_be_stored(event)]
        updates = [(event, event.item.new) for event in self.settles if event.item.new is not None and event.possible]
        return sent + updates

    def holder_of(self, event: Event) -> Event | None:
        """The delivery under whose token a settle or an extend was made."""
        found = [one for one in self.deliveries if one.item.token == event.item.token and one.began <= event.began]
        return found[-1] if found else None

    def under(self, delivery: Event) -> list[Event]:
        """The settles and extends made under the token of a delivery."""
        return [event for event in (*self.settles, *self.extends) if event.item.token == delivery.item.token]

    def held_until(self, delivery: Event, *, before: float = ENDLESS) -> float:
        """The moment until which a lease certainly holds unless it is given up, by the clock that judges leases.

        Extends that began ``before`` this moment of the machine's clock count.
        """
        until = delivery.call.began_at + (delivery.call.lease or 0.0)
        for event in self.extends:
            if event.item.token != delivery.item.token or not event.possible or event.began >= before:
                continue
            extended = event.call.began_at + (event.call.lease or 0.0)
            # an extend may shorten a lease: of one whose end nobody saw, the worse is assumed
            until = extended if event.certain else min(until, extended)
        return until


def _may_be_stored(event: Event) -> bool:
    return event.possible or event.item.id in event.call.stored


def lives(history: History) -> dict[str, Life]:
    """The lives of all messages, by id."""
    found: dict[str, Life] = {}
    held: dict[str, set[str]] = defaultdict(set)
    """By client."""
    placed: dict[str, set[str]] = defaultdict(set)
    """By queue."""
    for call in history.calls:
        for position, item in enumerate(call.items):
            life = found.setdefault(item.id, Life(item.id, [], [], [], [], [], []))
            _BOOKS[call.verb](life).append(Event(call, item, position))
            if call.verb == "acquire":
                held[call.client].add(item.id)
            placed[(item.new or item.content).queue].add(item.id)
    for call in history.calls:
        if call.verb == "close":
            _give_up(call, held[call.client], found)
        elif call.verb == "purge":
            _give_up(call, placed[call.queues[0]], found)
    return found


_BOOKS: dict[str, Callable[[Life], list[Event]]] = {
    "enqueue": lambda life: life.sends,
    "acquire": lambda life: life.deliveries,
    "ack": lambda life: life.settles,
    "update": lambda life: life.settles,
    "extend": lambda life: life.extends,
    "remove": lambda life: life.removals,
}


def _give_up(call: Call, ids: Iterable[str], found: dict[str, Life]) -> None:
    for id_ in ids:
        found[id_].given_up.append(call)
