"""What the commands print: tables for people, JSON for programs, progress for those who wait."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import typer

from anybroker.loading import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def print_json(value: object) -> None:
    """One line of JSON; dates and the like as text."""
    typer.echo(msgspec.json.encode(value).decode())


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as what is in them; numbers to the right, None left out."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    numeric = [all(isinstance(value, int | float | None) for value in column) for column in zip(*rows, strict=True)]
    for line in ([header.upper() for header in headers], *texts):
        cells = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric or [False] * len(widths), strict=True)
        )
        typer.echo("  ".join(cells).rstrip())


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error and what moves it on by some steps; nothing is shown where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None  # noqa: ARG005
        return
    with typer.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def print_error(message: str) -> None:
    """What went wrong, on standard error."""
    typer.echo(f"error: {printable(redact(message))}", err=True)


def print_warning(message: str) -> None:
    """What is probably meant otherwise, on standard error."""
    typer.echo(f"warning: {message}", err=True)


def shortened(text: str, width: int = 60) -> str:
    """One line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def printable(text: str) -> str:
    """The text with its control characters written out: what others have sent is not to steer this terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.1f}"
        case datetime():
            return value.isoformat(timespec="seconds")
    return printable(" ".join(str(value).split()))
