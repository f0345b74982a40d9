"""A report in the terminal: a line for each law, what is untested and why, figures, and the verdict."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from anybroker_conformance.reports.report import Report

_COLORS = {"proven": "green", "proven weaker": "green", "refused": "green", "untested": "yellow", "broken": "red"}
_MARKS = {"proven": "✓", "proven weaker": "✓", "refused": "✓", "untested": "-", "broken": "✗"}
_DECLARED = 56


def summarize(report: Report, out: pytest.TerminalReporter) -> None:
    """Print the summary of one adapter."""
    if report.problem is not None:  # it stands above, as the one failure
        out.write_line(f"{report.suite}: the {report.kind} cannot be tested.", red=True, bold=True)
        return
    title = f"{report.suite}: {report.title}"
    out.section(title if report.url is None else f"{title} ({report.url})", sep="-")
    if report.laws:
        out.write_line(f"  {'law':<16} {'status':<14} {'declared':<{_DECLARED}} {'tests':>5} {'seconds':>8}", bold=True)
    for law in report.laws:
        declared = textwrap.shorten(law.declared or "", _DECLARED, placeholder=" …")
        out.write(f"{_MARKS[law.status]} {law.law:>2} {law.name:<13} ")
        out.write(f"{law.status:<14} ", **{_COLORS[law.status]: True})
        out.write(f"{declared:<{_DECLARED}} {law.tests:>5} {law.seconds:>8.2f}\n")
    _write_untested(report, out)
    if report.figures:
        out.write_line("figures:", bold=True)
    for name, figure in report.figures.items():
        out.write_line(f"  {name}: p50 {seconds(figure.p50)}, p99 {seconds(figure.p99)} (n = {figure.n:,})")
    color = {"proven": "green", "untested": "yellow"}.get(report.verdict, "red")
    out.write_line(f"{report.suite}: {report.sentence()}. Seed {report.seed}.", **{color: True, "bold": True})


def _write_untested(report: Report, out: pytest.TerminalReporter) -> None:
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in report.untested:
        reasons.setdefault((f"{one.law} {one.name}", one.reason), []).append(one.test)
    listed = {one.law for one in report.untested}
    for law in report.laws:
        if law.status == "untested" and law.law not in listed and law.reason:
            reasons[f"{law.law} {law.name}", law.reason] = []
    if reasons:
        out.write_line("untested:", bold=True)
    for (law_name, reason), tests in reasons.items():
        number = f" ({len(tests)} tests)" if len(tests) > 1 else ""
        out.write_line(f"  {law_name:<13} {reason}{number}", yellow=True)


def seconds(value: float) -> str:
    """A duration with a unit that fits it."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"
