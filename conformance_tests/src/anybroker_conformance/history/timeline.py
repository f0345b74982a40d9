"""A history in words: what happened to one message, a line for each call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from anybroker_conformance.history.calls import Call, Content, History, Item


class Moment(msgspec.Struct, frozen=True):
    """One call in the life of a message."""

    began: float
    """Seconds since the first call of the timeline, by the clock that judges leases."""
    ended: float | None
    client: str
    what: str
    """``ack -> False``"""
    verb: str
    held_until: float | None = None
    """When the lease that an acquire or an extend got runs out; seconds as ``began``."""


def moments(history: History, message_id: str) -> list[Moment]:
    """What happened to one message, in the order in which it began."""
    calls = history.of(message_id)
    start = calls[0].began_at if calls else 0.0
    return [_moment(call, message_id, start) for call in calls]


def timeline(history: History, message_id: str) -> list[str]:
    """What happened to one message, a line for each call."""
    return lines(moments(history, message_id))


def lines(found: list[Moment]) -> list[str]:
    """One line for each moment, in columns."""
    width = max((len(one.client) for one in found), default=0)
    return [f"{one.began:9.3f} s  {one.client:<{width}}  {one.what}" for one in found]


def _moment(call: Call, message_id: str, start: float) -> Moment:
    items = [item for item in call.items if item.id == message_id]
    said = _said(call, items)
    leased = call.lease if call.verb in {"acquire", "extend"} and said_yes(call, items) else None
    return Moment(
        began=call.began_at - start,
        ended=None if call.ended_at is None else call.ended_at - start,
        client=call.client,
        what=said if call.error is None else f"{said} raised {call.error:.120}",
        verb=call.verb,
        held_until=None if leased is None else call.began_at - start + leased,
    )


def said_yes(call: Call, items: list[Item]) -> bool:
    """Whether the broker said that it did what it was asked for."""
    return call.outcome == "ok" and all(item.answer is not False for item in items)


def _said(call: Call, items: list[Item]) -> str:
    batch = f", {len(items)} times" if len(items) > 1 and call.verb in {"enqueue", "acquire"} else ""
    batch += f" (one of {len(call.items)})" if len(call.items) > len(items) else ""
    end = " (never returned)" if call.ended is None else ""
    first = items[0] if items else None
    if first is None:
        return f"{call.verb}{end}"
    match call.verb:
        case "enqueue":
            return f"enqueue {_content(first.content)}{batch}{end}"
        case "acquire":
            count = "" if first.delivery_count is None else f", delivery {first.delivery_count}"
            return f"acquire for {call.lease:g} s -> {_content(first.content)}{count}, token {first.token}{batch}"
        case "update":
            new = "" if first.new is None else f" to {_content(first.new)}"
            return f"update{new}, token {first.token} -> {_answers(items)}{batch}{end}"
        case "extend":
            return f"extend by {call.lease:g} s, token {first.token} -> {_answers(items)}{batch}{end}"
        case _:
            token = "" if first.token is None else f", token {first.token}"
            return f"{call.verb}{token} -> {_answers(items)}{batch}{end}"


def _answers(items: list[Item]) -> str:
    return ", ".join("no answer" if item.answer is None else str(item.answer) for item in items)


def _content(content: Content) -> str:
    parts = [f"{content.size:,} bytes #{content.digest[:6]} in {content.queue!r}"]
    if content.priority:
        parts.append(f"priority {content.priority}")
    if content.ordering_key is not None:
        parts.append(f"key {content.ordering_key!r}")
    if content.eta is not None:
        parts.append("with an eta")
    return ", ".join(parts)
