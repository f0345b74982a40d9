"""The page of all adapters and laws, made from reports: ``python -m anybroker_conformance.reports.matrix *.json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from anybroker_conformance.reports.report import Report
from anybroker_conformance.reports.terminal import seconds
from anybroker_conformance.selection import LAWS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anybroker_conformance.reports.report import Status

KNOWN: dict[Kind, tuple[str, ...]] = {
    "broker": (
        "memory", "sqlite", "redis", "redis+cluster", "redis+sentinel", "amqp", "mongodb", "sqs", "pubsub",
    ),
    "backend": ("memory", "sqlite", "redis", "redis+cluster", "redis+sentinel", "amqp", "mongodb", "memcache"),
}  # fmt: skip
"""The adapters of this project: one that is missing among the reports is named."""

_CELLS: dict[Status, str] = {
    "proven": "✓",
    "proven weaker": "✓ weaker",
    "refused": "refused",
    "untested": "untested",
    "broken": "**broken**",
}
_TITLES: dict[Kind, str] = {"broker": "Brokers", "backend": "Result backends"}
_HEAD = """\
# What is proven of which adapter

Made by `make matrix` from the reports of the [conformance suite](conformance.md); not edited by hand.

✓: the law is proven. ✓ weaker: it is proven in the weaker form that the adapter declares. refused: the ability is not
declared, and its use is proven to be refused. untested: it could not be tested where the report was made. A dash: the
adapter did not report.
"""
_SILENT = "did not report"


class MatrixError(Exception):
    """A file is no report."""


def read(files: Iterable[Path]) -> list[Report]:
    """The reports of files that hold one, or a list. Raises :class:`MatrixError`."""
    reports: list[Report] = []
    for file in files:
        try:
            found = msgspec.json.decode(file.read_bytes(), type=Report | list[Report])
        except (OSError, msgspec.MsgspecError) as error:
            raise MatrixError(f"{file} is no report of the conformance suite: {error}") from error
        reports += found if isinstance(found, list) else [found]
    return reports


def matrix(reports: Sequence[Report]) -> str:
    """The page, the same for the same reports in any order."""
    return _HEAD + "".join(_part(kind, reports) for kind in LAWS)


def _part(kind: Kind, reports: Sequence[Report]) -> str:
    columns = _columns(kind, [report for report in reports if report.kind == kind])
    lines = ["", f"## {_TITLES[kind]}", ""]
    lines += _table(["Law", *(name for name, _ in columns)], _law_rows(kind, columns))
    lines.append("")
    said = ["Adapter", "Server", "Report"]
    lines += _table(said, [[name, _server(report), _said(report)] for name, report in columns])
    if measured := _figure_rows(columns):
        lines += ["", "Measured while the laws were proven, on whatever machine that was:", ""]
        lines += _table(["Adapter", "Figure", "Median", "99th percentile", "Number"], measured)
    return "\n".join(lines) + "\n"


def _columns(kind: Kind, reports: Sequence[Report]) -> list[tuple[str, Report | None]]:
    """The name of each column and its report: those that are known first, whether they reported or not."""
    order = [*KNOWN[kind], *sorted({report.adapter for report in reports} - set(KNOWN[kind]))]
    columns: list[tuple[str, Report | None]] = []
    for adapter in order:
        found = sorted((one for one in reports if one.adapter == adapter), key=_key)
        if not found:
            columns.append((adapter, None))
        columns += [(_name(report, found), report) for report in found]
    return columns


def _name(report: Report, found: Sequence[Report]) -> str:
    """The adapter, and what tells this report from the others of it: the server, else the suite."""
    if len(found) == 1:
        return report.adapter
    alone = [one.server for one in found].count(report.server) == 1
    return f"{report.adapter} ({report.server if alone and report.server else report.suite.removeprefix('Test')})"


def _key(report: Report) -> tuple[str, str, int]:
    return report.server or "", report.suite, report.seed


def _law_rows(kind: Kind, columns: Sequence[tuple[str, Report | None]]) -> list[list[str]]:
    return [[f"{law.number} {law.name}", *(_cell(report, law.number) for _, report in columns)] for law in LAWS[kind]]


def _cell(report: Report | None, number: int) -> str:
    if report is None or not report.complete:
        return "-"
    return next((_CELLS[law.status] for law in report.laws if law.law == number), "-")


def _server(report: Report | None) -> str:
    if report is None:
        return ""
    return report.server or f"anybroker {report.versions.get('anybroker', '')}"


def _said(report: Report | None) -> str:
    if report is None:
        return _SILENT
    if report.problem is None and not report.complete:
        return f"{_SILENT} on all laws, only on a part of them"
    return report.sentence()


def _figure_rows(columns: Sequence[tuple[str, Report | None]]) -> list[list[str]]:
    return [
        [name, figure, seconds(found.p50), seconds(found.p99), f"{found.n:,}"]
        for name, report in columns
        if report is not None
        for figure, found in sorted(report.figures.items())
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in line)} |" for line in lines]


def main(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Reports, in JSON.")] = None,
    *,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("docs/matrix.md"),
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail if the page is stale.")] = False,
) -> None:
    """Write the matrix of all adapters from their reports.

    \b
    Exit codes:
      0  done, or nothing to do
      1  with --check: the page is not what the reports say
      2  a file is no report
    """  # noqa: D301  \b is a control character: it keeps the lines as they are
    try:
        page = matrix(read(files or []))
    except MatrixError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if check:
        if not output.exists() or output.read_text(encoding="utf-8") != page:
            typer.echo(f"error: {output} is not what the reports say; run make matrix", err=True)
            raise typer.Exit(1)
        return
    output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
