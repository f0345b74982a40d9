"""A report as one page that needs nothing from elsewhere: no script, no font, no picture."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from anybroker_conformance.reports.drawing import draw
from anybroker_conformance.reports.terminal import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_conformance.reports.report import Failure, LawResult, Report, Status

_SIGNS = {"proven": "✓", "broken": "✗", "untested": "?", "not testable": "✗"}
_SAID: dict[Status, str] = {
    "proven": "proven",
    "proven weaker": "proven, weaker",
    "refused": "refused",
    "untested": "untested",
    "broken": "broken",
}


def page(reports: Sequence[Report]) -> str:
    """All reports of a run."""
    style = files("anybroker_conformance.reports").joinpath("page.css").read_text(encoding="utf-8")
    title = ", ".join(f"{report.title}: {report.verdict}" for report in reports)
    contents = ""
    if len(reports) > 1:
        links = "".join(
            f'<a href="#{_anchor(report)}">{_chip(report.verdict)} {escape(report.title)}</a>' for report in reports
        )
        contents = f"<nav>{links}</nav>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{contents}{''.join(map(_report, reports))}\n</body>\n</html>\n"
    )


def _anchor(report: Report) -> str:
    return escape(f"{report.kind}-{report.suite}", quote=True)


def _report(report: Report) -> str:
    parts = [_head(report)]
    if report.broken:
        parts.append(f"<section><h2>What is broken</h2>{''.join(map(_broken, report.broken))}</section>")
    if report.laws:
        rows = "".join(_law(report, law) for law in report.laws)
        head = "<tr><th>Law<th>Status<th>Declared<th>Tests<th>Time</tr>"
        parts.append(f"<section><h2>Laws</h2><div class=wide><table class=laws>{head}{rows}</table></div></section>")
    if report.untested:
        parts.append(_untested(report))
    if report.figures:
        parts.append(_figures(report))
    return f'<article id="{_anchor(report)}">{"".join(parts)}{_foot(report)}</article>\n'


def _head(report: Report) -> str:
    kept = sum(law.status in {"proven", "proven weaker", "refused"} for law in report.laws)
    tiles = [
        (f"{kept}<small> of {len(report.laws)}</small>", "laws kept"),
        (f"{sum(law.tests for law in report.laws):,}", "tests run"),
        (f"{len(report.untested):,}", "tests not possible here"),
        (seconds(report.duration_seconds), "from first to last"),
    ]
    shown = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    shown = f"<div class=tiles>{shown}</div>" if report.laws else ""
    where = "" if report.url is None else f"<p class=url>{escape(report.url)}</p>"
    return (
        f'<header class="{report.verdict.replace(" ", "-")}"><div class=sign>{_SIGNS[report.verdict]}</div>'
        f"<div><p class=kind>{escape(report.kind)} conformance</p><h1>{escape(report.title)}</h1>"
        f"<p class=sentence>{escape(report.sentence())}.</p>{where}</div></header>{shown}"
    )


def _broken(law: LawResult) -> str:
    declared = f"<p class=declared>Declared: {escape(law.declared)}</p>" if law.declared else ""
    failures = "".join(map(_failure, law.failures))
    return (
        f'<div class=brokenlaw id="law-{law.law}"><h3><span class=number>{law.law}</span> {escape(law.name)}</h3>'
        f"<p class=text>{escape(law.text)}.</p>{declared}{failures}</div>"
    )


def _failure(failure: Failure) -> str:
    parts = [f"<p class=said>{escape(failure.text)}</p>"]
    if failure.traceback:
        parts.append(f"<pre>{escape(chr(10).join(failure.traceback))}</pre>")
    if failure.moments:
        parts.append(f"<figure class=wide>{draw(failure.moments)}</figure>")
    if failure.timeline:
        numbered = failure.timeline
        if len(numbered) == len(failure.moments):
            numbered = [f"{number:3}  {line}" for number, line in enumerate(numbered, 1)]
        words = f"What happened to <code>{escape(failure.about or '')}</code>, call by call"
        parts.append(f"<details open><summary>{words}</summary><pre>{escape(chr(10).join(numbered))}</pre></details>")
    parts.append(f"<p class=replay>To replay: <code>{escape(failure.replay)}</code></p>")
    return f"<div class=failure><h4>{escape(_readable(failure.test))}</h4>{''.join(parts)}</div>"


def _readable(test: str) -> str:
    """Shorten ``test_law05_fenced__after_redelivery[ack]`` to ``after redelivery [ack]``."""
    name, bracket, parameters = test.partition("[")
    return name.partition("__")[2].replace("_", " ") + (f" [{parameters}" if bracket else "")


def _law(report: Report, law: LawResult) -> str:
    longest = max((one.seconds for one in report.laws), default=0.0) or 1.0
    share = 100 * law.seconds / longest
    reason = f"<p class=reason>{escape(law.reason)}</p>" if law.reason else ""
    name = escape(law.name)
    if law.status == "broken":
        name = f'<a href="#law-{law.law}">{name}</a>'
    bar = f'<span class=bar><i style="width:{share:.0f}%"></i></span>'
    return (
        f"<tr><td><b><span class=number>{law.law}</span> {name}</b><p>{escape(law.text)}</p>{reason}"
        f"<td>{_chip(law.status)}<td class=declared>{escape(law.declared or '')}"
        f"<td class=amount>{law.tests}<td class=amount>{seconds(law.seconds)}{bar}</tr>"
    )


def _chip(status: str) -> str:
    said = _SAID.get(status, status)  # type: ignore[call-overload]
    return f'<span class="chip {status.replace(" ", "-")}">{said}</span>'


def _untested(report: Report) -> str:
    reasons: dict[tuple[int, str, str], list[str]] = {}
    for one in report.untested:
        reasons.setdefault((one.law, one.name, one.reason), []).append(_readable(one.test))
    items = "".join(
        f"<li><b><span class=number>{law}</span> {escape(name)}</b>: {escape(reason)}"
        f"<p class=reason>{escape(', '.join(tests))}</p>"
        for (law, name, reason), tests in reasons.items()
    )
    return f"<section><h2>Not tested here</h2><ul class=untested>{items}</ul></section>"


def _figures(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}<td class=amount>{seconds(one.p50)}<td class=amount>{seconds(one.p99)}"
        f"<td class=amount>{one.n:,}</tr>"
        for name, one in report.figures.items()
    )
    head = "<tr><th>Measured<th>Median<th>99th percentile<th>Number</tr>"
    return f"<section><h2>Figures</h2><table class=figures>{head}{rows}</table></section>"


def _foot(report: Report) -> str:
    versions = ", ".join(f"{escape(name)} {escape(value)}" for name, value in report.versions.items())
    return f"<footer>{escape(report.suite)} · seed {report.seed} · {versions}</footer>"
