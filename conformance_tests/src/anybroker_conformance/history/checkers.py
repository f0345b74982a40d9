"""Judges a history: pure functions, one for each thing that must never be seen, whatever raced with what.

Each looks only at what is certain: two calls that overlapped may have taken effect in either order, and a call whose
end nobody saw may have taken effect or not. What remains is a violation whichever way that went.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from anybroker.capabilities import Guarantee, Lease, Ordering
from anybroker_conformance.history.calls import Content
from anybroker_conformance.history.lives import Event, Life, lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from anybroker.capabilities import Capabilities
    from anybroker_conformance.history.calls import Call, History

TOLERANCE = 0.005
"""Seconds by which two clocks that are read one after the other may differ."""
FORGETS = 1.0
"""Seconds before its death of which a server may have forgotten acks, where ``final`` is best effort."""


class Violation(msgspec.Struct, frozen=True):
    """Something that must never be seen."""

    law: str
    """The name of the law: ``final``."""
    message_id: str
    text: str


def check(history: History, capabilities: Capabilities, *, drained: bool = True) -> list[Violation]:
    """All violations in a history.

    ``drained``: in the end everything was acquired and settled until nothing was left, so what is missing is lost.
    """
    found: list[Violation] = []
    known = lives(history)
    cut = frozenset(call.client for call in history.calls if call.outcome == "unknown")
    for life in known.values():
        found += nothing_invented(life)
        found += ack_is_final(life, capabilities, history.deaths)
        found += update_is_whole(life, capabilities)
        found += tokens_fence(life, capabilities)
        found += leases_hold(life, capabilities, cut)
        found += leases_are_disjoint(life, capabilities)
        found += deliveries_are_counted(life, capabilities)
        found += eta_is_kept(life)
        if drained:
            found += nothing_lost(life)
    found += order_is_kept(known.values(), capabilities)
    return found


def nothing_lost(life: Life) -> Iterator[Violation]:
    """What was stored has been removed by somebody, for a history that ends with everything drained."""
    stored = [event for event in life.sends if event.certain or life.id in event.call.stored]
    gone = [event for event in life.settles if event.item.new is None and event.possible]
    gone += [event for event in life.removals if event.possible]
    purged = [call for call in life.given_up if call.verb == "purge"]
    if not stored or gone or purged:
        return
    updates = [event for event in life.settles if event.item.new is not None and event.possible]
    if updates:
        yield Violation("update", life.id, "lost: updated, and never seen in the end")
    elif life.deliveries:
        yield Violation("expiry", life.id, "lost: delivered, never settled, and never delivered again")
    else:
        yield Violation("durable", life.id, "lost: enqueued, and never delivered")


def nothing_invented(life: Life) -> Iterator[Violation]:
    """What is delivered is a version that somebody brought, from a queue that was asked for."""
    for delivery in life.deliveries:
        content = delivery.item.content
        brought = [version for event, version in life.versions if event.began < delivery.ended]
        if content.queue not in delivery.call.queues:
            text = f"acquire of {list(delivery.call.queues)} delivered a message of queue {content.queue!r}"
            yield Violation("isolation", life.id, text)
        elif not brought:
            yield Violation("durable", life.id, "delivered, although nobody had enqueued it")
        elif content not in brought:
            yield Violation("exact", life.id, f"came back changed: {_difference(content, brought)}")


def _difference(content: Content, brought: list[Content]) -> str:
    """In what a content differs from the version that is most like it."""
    by_version = [
        [field for field in _FIELDS if getattr(version, field) != getattr(content, field)] for version in brought
    ]
    nearest = min(range(len(brought)), key=lambda index: len(by_version[index]))
    return ", ".join(
        f"{field} {getattr(brought[nearest], field)!r} -> {getattr(content, field)!r}" for field in by_version[nearest]
    )


_FIELDS = Content.__struct_fields__


def ack_is_final(life: Life, capabilities: Capabilities, deaths: Sequence[float] = ()) -> Iterator[Violation]:
    """After an ack that answered True, the message is not delivered again, unless it was enqueued again.

    Where updates are best effort, one whose end nobody saw may have left two of it.
    """
    forgotten = forgettable(deaths, capabilities)
    split = sum(one.item.new is not None and one.call.outcome == "unknown" for one in life.settles)
    left_over = 0 if capabilities.update is Guarantee.EXACT else split
    copies = sum(event.possible for event in life.sends) + left_over
    acks = [one for one in life.settles if one.item.new is None and one.certain and one.item.answer]
    for delivery in life.deliveries:
        if 0 < copies <= sum(ack.before(delivery) and not forgotten(ack.call, delivery.ended) for ack in acks):
            yield Violation("final", life.id, "delivered again after its ack had answered True")
            return


def forgettable(deaths: Sequence[float], capabilities: Capabilities) -> Callable[[Call, float], bool]:
    """Whether a server that died may have forgotten a settle, before a moment; as declared."""
    if capabilities.final is Guarantee.EXACT:
        return lambda _, __: False
    return lambda call, before: any(
        call.ended is not None and call.began < death < before and death - call.ended <= FORGETS for death in deaths
    )


def update_is_whole(life: Life, capabilities: Capabilities) -> Iterator[Violation]:
    """After an update that answered True the old version is gone; one that answered False has changed nothing."""
    if len(life.sends) > 1:  # versions of several copies cannot be told apart
        return
    for update in life.settles:
        new, old = update.item.new, update.item.content
        if new is None or new == old:
            continue
        brought_by = [event for event, version in life.versions if version == old]
        again = any(not event.before(update) for event in brought_by)
        for delivery in life.deliveries:
            if not update.before(delivery):
                continue
            if update.certain and delivery.item.content == old and not again:
                yield Violation("update", life.id, "the old version was delivered after update had answered True")
                return
        if update.call.outcome == "ok" and update.item.answer is False:
            yield from _refused_update(life, update, new)
        elif update.call.outcome == "unknown" and capabilities.update is Guarantee.EXACT and not again:
            yield from _both_versions(life, old, new)


def _refused_update(life: Life, update: Event, new: Content) -> Iterator[Violation]:
    brought = [version for _, version in life.versions]
    if new not in brought and any(one.item.content == new for one in life.deliveries if update.began < one.ended):
        yield Violation("fenced", life.id, "the new version was delivered although update had answered False")


def _both_versions(life: Life, old: Content, new: Content) -> Iterator[Violation]:
    seen = [one for one in life.deliveries if one.item.content == new]
    if seen and any(seen[0].before(one) for one in life.deliveries if one.item.content == old):
        yield Violation("update", life.id, "the old version was delivered after the new one: both existed")


def tokens_fence(life: Life, capabilities: Capabilities) -> Iterator[Violation]:
    """A settle or an extend with a lost lease answers False."""
    if capabilities.fencing is not Guarantee.EXACT:
        return
    single = sum(event.possible for event in life.sends) == 1 or capabilities.idempotent_enqueue
    for event in (*life.settles, *life.extends):
        if not (event.certain and event.item.answer):
            continue
        earlier = [
            other
            for other in life.settles
            if other.item.token == event.item.token and other.item.answer and other.certain and _strictly(other, event)
        ]
        if earlier:
            text = f"{event.call.verb} answered True after {earlier[0].call.verb} with the same lease had"
            yield Violation("fenced", life.id, text)
            continue
        held = life.holder_of(event)
        if held is None or not single:
            continue
        if any(held.before(one) and one.before(event) and one is not held for one in life.deliveries):
            text = f"{event.call.verb} answered True although the message had been delivered to somebody else since"
            yield Violation("fenced", life.id, text)


def _strictly(first: Event, second: Event) -> bool:
    """Whether one came before the other, also as entries of one call."""
    if first.call is second.call:
        return first.position < second.position
    return first.before(second)


REFUSED = {"ack": "final", "update": "update", "extend": "exclusive"}
"""The law that a verb breaks by refusing what it must do."""


def leases_hold(life: Life, capabilities: Capabilities, cut: frozenset[str]) -> Iterator[Violation]:
    """A settle or an extend with a valid lease answers True.

    A lease of a connection is lost with it, and is nobody else's to settle. ``cut``: the clients whose connection may
    have been lost, for they have heard that the service was away.
    """
    for event in (*life.settles, *life.extends):
        if event.item.answer is not False or event.call.outcome != "ok":
            continue
        held = life.holder_of(event)
        if held is None:
            continue
        others = [one for one in life.under(held) if one is not event]
        settled = any(one.call.verb != "extend" and one.possible and one.began < event.ended for one in others)
        given_up = any(call.began < event.ended for call in life.given_up)
        timed_out = (
            capabilities.lease is Lease.TIMED
            and (event.call.ended_at or 0.0) >= life.held_until(held, before=event.ended) - TOLERANCE
        )
        removed = any(one.possible and one.began < event.ended for one in life.removals)
        disconnected = capabilities.lease is Lease.CONNECTION and (
            held.call.client in cut or held.call.client != event.call.client
        )
        if not (settled or given_up or timed_out or removed or disconnected):
            text = f"{event.call.verb} answered False although its lease was valid"
            yield Violation(REFUSED[event.call.verb], life.id, text)


def leases_are_disjoint(life: Life, capabilities: Capabilities) -> Iterator[Violation]:
    """Nobody gets a message while somebody holds it: every further delivery has a cause."""
    if capabilities.exclusive is not Guarantee.EXACT or capabilities.lease is not Lease.TIMED:
        return
    copies = sum(event.possible for event in life.sends)
    if copies > 1 and (not capabilities.idempotent_enqueue or life.settles):
        return
    for first, second in pairwise(sorted(life.deliveries, key=lambda one: one.ended)):
        if not _given_up(life, first, second) and (second.call.ended_at or 0.0) < (
            life.held_until(first, before=second.ended) - TOLERANCE
        ):
            left = life.held_until(first) - (second.call.ended_at or 0.0)
            text = f"delivered to {second.call.client} while {first.call.client} held it for {left:.3f} s more"
            yield Violation("exclusive", life.id, text)


def _given_up(life: Life, first: Event, second: Event) -> bool:
    """Whether the first of two deliveries may have been given up before the second."""
    settled = any(one.call.verb != "extend" and one.possible and one.began < second.ended for one in life.under(first))
    closed = any(call.began < second.ended and call.client == first.call.client for call in life.given_up)
    return settled or closed


def deliveries_are_counted(life: Life, capabilities: Capabilities) -> Iterator[Violation]:
    """The delivery count is 1 for the first delivery of a version, and one higher each time."""
    if len(life.sends) > 1:
        return
    seen: dict[Content, int] = defaultdict(int)
    for delivery in sorted(life.deliveries, key=lambda one: one.ended):
        counted = delivery.item.delivery_count
        if not capabilities.delivery_count:
            if counted is not None:
                yield Violation("honest", life.id, f"delivery_count is {counted} although it is declared unknown")
            continue
        seen[delivery.item.content] += 1
        if counted is None or counted < 1:
            yield Violation("expiry", life.id, f"delivery_count is {counted}")


def eta_is_kept(life: Life) -> Iterator[Violation]:
    """Nothing is delivered before its eta."""
    for delivery in life.deliveries:
        eta, at = delivery.item.content.eta, delivery.call.ended_at
        if eta is not None and at is not None and at < eta - TOLERANCE:
            yield Violation("eta", life.id, f"delivered {eta - at:.3f} s before its eta")


def order_is_kept(known: Iterable[Life], capabilities: Capabilities) -> list[Violation]:
    """Order as declared, of messages that were sent one after the other and delivered for the first time."""
    if capabilities.ordering is Ordering.NONE and capabilities.priorities is None:
        return []
    queues: dict[tuple[str, str | None], list[Life]] = defaultdict(list)
    for life in known:
        simple = len(life.sends) == 1 and life.sends[0].certain and life.deliveries and not life.removals
        if simple and life.sends[0].item.content.eta is None:
            content = life.sends[0].item.content
            queues[content.queue, content.ordering_key].append(life)
    found: list[Violation] = []
    for (_, key), of_queue in queues.items():
        if key is not None:
            found += _one_at_a_time(of_queue)
        else:
            found += _in_order(of_queue, capabilities)
    return found


def _in_order(of_queue: list[Life], capabilities: Capabilities) -> Iterator[Violation]:
    """The higher priority first and, where FIFO is declared, the one that was sent first."""
    fifo = capabilities.ordering.fifo
    earliest: dict[int, Life] = {}  # by priority: of those that were delivered later, the one that was sent first
    for life in sorted(of_queue, key=lambda life: _first(life).ended, reverse=True):
        priority = life.sends[0].item.content.priority
        for higher, other in earliest.items():
            sooner = higher > priority or (fifo and higher == priority and _strictly(other.sends[0], life.sends[0]))
            if sooner and _strictly(_first(life), _first(other)) and other.sends[0].before(_first(life)):
                why = "of higher priority" if higher > priority else "sent before it"
                yield Violation("order", other.id, f"{life.id} was delivered before this one, which was {why}")
                return
        rival = earliest.get(priority)
        if rival is None or _place(life) < _place(rival):
            earliest[priority] = life


def _place(life: Life) -> tuple[float, int]:
    return life.sends[0].ended, life.sends[0].position


def _one_at_a_time(of_key: list[Life]) -> Iterator[Violation]:
    """Of one ordering key, only the oldest is deliverable until it is settled for good."""
    for older in of_key:
        over = [event for event in older.settles if event.possible]
        for younger in of_key:
            if not _strictly(older.sends[0], younger.sends[0]):
                continue
            delivered = _first(younger)
            if not any(event.began < delivered.ended for event in over):
                yield Violation(
                    "order", younger.id, f"delivered before {older.id}, older with the same key, was settled"
                )
                return


def _first(life: Life) -> Event:
    return min(life.deliveries, key=lambda one: one.ended)
