"""The timeline of one message as a picture: a lane for each client, a mark for each call, a bar for each lease.

Time runs from left to right, but not to scale: a call takes milliseconds and a lease an hour, and both are to be seen.
"""

from __future__ import annotations

import math
import re
from html import escape
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_conformance.reports.report import Moment

_LEFT, _TOP, _RIGHT = 130, 12, 90
_BAR = 9
_MARK = 11
_STEP, _END, _SCALE, _WIDEST = 24.0, 8.0, 22.0, 130.0
_LABEL, _NAME = 58, 18
_TOKEN = re.compile(r"token (.+?)(?: ->| \(one of|$)")


class _Bar(msgspec.Struct, frozen=True):
    """A lease: from when to when, and who holds it."""

    client: str
    start: float
    end: float
    text: str
    after: int
    """The number of the call that took it."""
    until: int | None = None
    """The number of the call that ended it; None: it ran out."""
    row: int = 0


def draw(moments: Sequence[Moment]) -> str:
    """An ``<svg>`` that takes its colours from the page; nothing for no calls."""
    if not moments:
        return ""
    bars = _stacked(_bars(moments))
    begins, ends, runs_out = _axis(moments, bars)
    width = max(*ends, *runs_out.values(), 0) + _RIGHT
    tops, height = _lanes(moments, bars)
    parts = [_background(tops, width, height)]
    for bar in bars:
        end = runs_out[bar.end] if bar.until is None else ends[bar.until]
        parts.append(_bar(bar, begins[bar.after], end, tops[bar.client][0]))
    parts.append(_ticks(moments, begins, height))
    for number, one in enumerate(moments):
        parts.append(_mark(number + 1, one, begins[number], ends[number], tops[one.client][0]))
    label = f"Timeline of {len(moments)} calls by {len(tops)} clients"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg role="img" aria-label="{label}" {size}>{"".join(parts)}</svg>'


def _bars(moments: Sequence[Moment]) -> list[_Bar]:
    """The leases, each until it ran out, was extended, settled, or given up."""
    bars = []
    for number, one in enumerate(moments):
        if one.held_until is None or one.ended is None:
            continue
        end, until = one.held_until, None
        for later in range(number + 1, len(moments)):
            found = moments[later]
            if found.client == one.client and found.began < end and _ends(found, one):
                end, until = max(found.ended or found.began, one.ended), later
                break
        bars.append(_Bar(one.client, one.ended, end, f"lease until {one.held_until:.3f} s", number, until))
    return bars


def _ends(later: Moment, taken: Moment) -> bool:
    if later.verb == "close":
        return True
    return later.verb in {"ack", "update", "extend"} and "-> True" in later.what and _token(later) == _token(taken)


def _token(moment: Moment) -> str | None:
    found = _TOKEN.search(moment.what)
    return found[1] if found else None


def _stacked(bars: Sequence[_Bar]) -> list[_Bar]:
    """Bars of one lane that overlap, one below the other."""
    stacked: list[_Bar] = []
    for bar in bars:
        taken = {one.row for one in stacked if one.client == bar.client and one.end > bar.start}
        row = next(row for row in range(len(stacked) + 1) if row not in taken)
        stacked.append(msgspec.structs.replace(bar, row=row))
    return stacked


def _axis(moments: Sequence[Moment], bars: Sequence[_Bar]) -> tuple[list[float], list[float], dict[float, float]]:
    """Where on the page each call begins and ends, and where leases run out, by their time."""
    last = len(moments)
    points = [(one.began, number, False) for number, one in enumerate(moments)]
    points += [(one.ended, number, True) for number, one in enumerate(moments) if one.ended is not None]
    points += [(bar.end, last, True) for bar in bars if bar.until is None]
    begins, ends, runs_out = [0.0] * last, [0.0] * last, {}
    position, before = float(_LEFT), moments[0].began
    for time, number, is_end in sorted(points):
        position += min(_WIDEST, _SCALE * math.log10(1 + max(0.0, time - before) / 0.01))
        position += _END if is_end else _STEP
        before = time
        if number == last:
            runs_out[time] = position
        else:
            (ends if is_end else begins)[number] = position
    return begins, [end or begin for begin, end in zip(begins, ends, strict=True)], runs_out


def _lanes(moments: Sequence[Moment], bars: Sequence[_Bar]) -> tuple[dict[str, tuple[float, float]], float]:
    """The top and the height of each client's lane, and the height of all."""
    tops: dict[str, tuple[float, float]] = {}
    top = float(_TOP)
    for client in dict.fromkeys(one.client for one in moments):
        rows = max((bar.row + 1 for bar in bars if bar.client == client), default=0)
        height = 2 * _MARK + 14 + rows * (_BAR + 4)
        tops[client] = top, height
        top += height
    return tops, top + 24


def _background(tops: dict[str, tuple[float, float]], width: float, height: float) -> str:
    parts = []
    for number, (client, (top, lane)) in enumerate(tops.items()):
        shade = ' class="lane"' if number % 2 == 0 else ' class="lane odd"'
        parts.append(f'<rect x="0" y="{top:.1f}" width="{width:.1f}" height="{lane:.1f}"{shade}/>')
        short = client if len(client) <= _NAME else f"{client[: _NAME - 1]}…"
        middle = top + _MARK + 11
        name = f"{escape(short)}<title>{escape(client)}</title>"
        parts.append(f'<text x="10" y="{middle:.1f}" class="client">{name}</text>')
    parts.append(f'<line x1="{_LEFT}" x2="{width:.1f}" y1="{height - 24:.1f}" y2="{height - 24:.1f}" class="axis"/>')
    return "".join(parts)


def _bar(bar: _Bar, start: float, end: float, top: float) -> str:
    y = top + 2 * _MARK + 10 + bar.row * (_BAR + 4)
    box = f'x="{start:.1f}" y="{y:.1f}" width="{max(3.0, end - start):.1f}" height="{_BAR}" rx="3"'
    return f'<rect {box} class="lease"><title>{escape(bar.text)}</title></rect>'


def _ticks(moments: Sequence[Moment], begins: Sequence[float], height: float) -> str:
    parts, last = [], -_LABEL
    for one, x in zip(moments, begins, strict=True):
        if x - last >= _LABEL:
            last = int(x)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - 20:.1f}" class="tick"/>')
            parts.append(f'<text x="{x:.1f}" y="{height - 7:.1f}" class="time">{one.began:,.3f} s</text>')
    return "".join(parts)


def _mark(number: int, moment: Moment, start: float, end: float, top: float) -> str:
    y = top + _MARK + 6
    kind = moment.verb
    if " raised " in moment.what or moment.ended is None:
        kind += " raised"
    elif "-> False" in moment.what:
        kind += " refused"
    width = max(2.0 * _MARK, end - start + _MARK / 2)
    box = f'x="{start - _MARK:.1f}" y="{y - _MARK:.1f}" width="{width:.1f}" height="{2 * _MARK}" rx="{_MARK}"'
    label = f'<text x="{start:.1f}" y="{y + 4:.1f}" class="number">{number}</text>'
    return f'<g class="call {escape(kind)}"><title>{escape(moment.what)}</title><rect {box}/>{label}</g>'
