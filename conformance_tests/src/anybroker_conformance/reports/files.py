"""The report as a file, in the form that the file's name asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from anybroker_conformance.reports.junit import to_junit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker_conformance.reports.report import Report


def to_json(reports: Sequence[Report]) -> str:
    """One object, or a list of them where several adapters were tested."""
    content = reports[0] if len(reports) == 1 else list(reports)
    return msgspec.json.format(msgspec.json.encode(content)).decode() + "\n"


def to_html(reports: Sequence[Report]) -> str:
    """One page without anything from elsewhere."""
    from anybroker_conformance.reports.html import page

    return page(reports)


WRITERS: dict[str, Callable[[Sequence[Report]], str]] = {".json": to_json, ".html": to_html, ".xml": to_junit}
"""By the end of a file's name."""
