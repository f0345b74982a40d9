"""``anybroker queues`` and ``anybroker peek``: what waits."""

from typing import Annotated, Any

import typer

from anybroker.app import App
from anybroker.cli.described import arguments, describe_message
from anybroker.cli.options import AppTarget, AsJson, BrokerUrl, opened
from anybroker.cli.output import print_json, print_table, shortened


def queues(
    names: Annotated[list[str] | None, typer.Argument(metavar="[QUEUE]...", help="Only these.")] = None,
    *,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show how many messages each queue holds, and for how many seconds the oldest has been ready.

    Services that cannot be looked into give estimates, and leave out what they do not tell.

    Example: anybroker queues --url sqlite:///anybroker.db
    """
    with opened(app, url) as chosen:
        rows = [_row(chosen, name) for name in names or _names(chosen)]
    if as_json:
        print_json(rows)
    else:
        headers = ("queue", "ready", "leased", "delayed", "oldest", "dead")
        print_table(headers, [tuple(row.values()) for row in rows])


def peek(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="Its name; that of a dead-letter queue works too.")],
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many messages to show.")] = 20,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show the first messages of a queue, in the order of delivery, without taking them.

    Example: anybroker peek mail --limit 5 --app tasks:app
    """
    with opened(app, url) as chosen:
        rows = [describe_message(chosen, message) for message in chosen.inspect().peek(queue, limit=limit)]
    if as_json:
        print_json(rows)
    else:
        print_table(("id", "task", "arguments", "attempt", "eta", "headers"), [_cells(row) for row in rows])


def _names(app: App) -> list[str]:
    """The queues that hold messages, living or dead; or all of them, of a service that cannot be looked into."""
    suffix = app.settings.dead_queue_suffix
    names = app.inspect().queues() if app.broker.capabilities.inspect else app.overview().known_queues()
    counted = {app.dead_queue(name) for name in names}  # whose own names may be shortened ones
    return sorted({name.removesuffix(suffix) or name for name in names if name not in counted})


def _row(app: App, name: str) -> dict[str, Any]:
    dead = app.dead_queue(name)
    if not app.broker.capabilities.inspect:
        told = app.overview().estimate
        about = told(name)
        counts = {"ready": about.ready, "leased": about.leased, "delayed": about.delayed, "oldest": None}
        return {"queue": name, **counts, "dead": told(dead).ready}
    stats = app.inspect().stats(name)
    return {
        "queue": name,
        "ready": stats.ready,
        "leased": stats.leased,
        "delayed": stats.delayed,
        "oldest": stats.oldest,
        "dead": app.inspect().stats(dead).total,
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    if "problem" in row:
        return row["id"], "(undecodable)", shortened(row["problem"]), None, row["eta"], None
    headers = ", ".join(f"{name}={value}" for name, value in row["headers"].items())
    return row["id"], row["task"], shortened(arguments(row)), row["attempt"], row["eta"], shortened(headers)
