"""Options that several commands share, and the app that they lead to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from anybroker.app import App
from anybroker.errors import ConfigurationError
from anybroker.loading import parse_duration
from anybroker.target import find_app

APP_VARIABLE = "ANYBROKER_APP"


def read_seconds(text: str) -> float:
    """A duration such as 30, 30s, 5m, 2h or 7d. Raises ``typer.BadParameter``."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: write {error}") from None


def read_moment(text: str) -> datetime:
    """A moment in ISO 8601, in local time unless it names a zone. Raises ``typer.BadParameter``."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r}: write a moment such as 2030-01-31T08:00 or 2030-01-31T08:00Z") from None


AppTarget = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:APP", help="The app in tasks.py is tasks:app; else $ANYBROKER_APP."),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="A broker, instead of an app; by default as the settings say."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def opened(target: str | None, url: str | None) -> Iterator[App]:
    """The app that ``--app`` or else $ANYBROKER_APP names; with ``--url``, or without all three, one without tasks.

    Closes it in the end. Raises ``ConfigurationError``.
    """
    if target is not None and url is not None:
        raise ConfigurationError("give --app or --url, not both")
    if url is None:
        target = target or os.environ.get(APP_VARIABLE)
    app = find_app(target) if target else App(url)
    try:
        yield app
    finally:
        app.close()
