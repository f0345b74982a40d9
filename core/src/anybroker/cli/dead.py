"""``anybroker dead``: look into the dead-letter queues, put letters back, remove them."""

import sys
from typing import Annotated, Any

import typer

from anybroker import dead_letters
from anybroker.app import App
from anybroker.cli.described import arguments, describe_letter
from anybroker.cli.exits import FAILED
from anybroker.cli.options import AppTarget, AsJson, BrokerUrl, opened
from anybroker.cli.output import print_error, print_json, print_table, printable, progress, shortened
from anybroker.errors import ConfigurationError

commands = typer.Typer(
    help="Look into the dead-letter queues, put letters back, remove them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="As when the task was sent, without the suffix.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Which letters.")]
All = Annotated[bool, typer.Option("--all", help="Every letter of the queue.")]


@commands.command("list")
def list_(
    queue: Annotated[str | None, typer.Argument(metavar="QUEUE", help="One queue; all by default.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many letters of each queue to show.")] = 100,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters: which task, why it died, when.

    Example: anybroker dead list mail --app tasks:app
    """
    with opened(app, url) as chosen:
        names = [_living(chosen, queue)] if queue else _queues_with_letters(chosen)
        rows = [
            describe_letter(chosen, letter) for name in names for letter in dead_letters.list(chosen, name, limit=limit)
        ]
    if as_json:
        print_json(rows)
        return
    headers = ("id", "queue", "task", "reason", "attempt", "died at", "error")
    print_table(headers, [_cells(row) for row in rows])


@commands.command()
def show(
    queue: QueueName,
    id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its arguments, headers and traceback.

    Example: anybroker dead show mail 0199f1c2-... --app tasks:app
    """
    with opened(app, url) as chosen:
        name = _living(chosen, queue)
        letter = dead_letters.find(chosen, name, id)
        found = None if letter is None else describe_letter(chosen, letter)
    if found is None:
        print_error(f"no dead letter {id} of queue {name}")
        raise typer.Exit(FAILED)
    if as_json:
        print_json(found)
    else:
        _print_letter(found)


@commands.command()
def retry(
    queue: QueueName,
    ids: Ids = None,
    *,
    everything: All = False,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into their queue, where their retries are counted anew.

    Exits with 1 when one of the given ids is not there, or was cut off because it was too large.

    \b
    Examples:
      anybroker dead retry mail 0199f1c2-... --app tasks:app
      anybroker dead retry mail --all --app tasks:app
    """  # noqa: D301
    wanted = _wanted(ids, everything=everything)
    with opened(app, url) as chosen:
        name = _living(chosen, queue)
        total = len(wanted) if wanted is not None else _count(chosen, name)
        with progress("retrying", total) as advance:
            went = dead_letters.retry(chosen, name, wanted, moved=advance)
    if as_json:
        print_json({"retried": went})
    else:
        typer.echo(f"{len(went)} back in {name}")
    _exit_if_missing(set(wanted or ()) - set(went), name)


@commands.command()
def purge(
    queue: QueueName,
    ids: Ids = None,
    *,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    app: AppTarget = None,
    url: BrokerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good. Asks first, on a terminal.

    Example: anybroker dead purge mail --all --yes --app tasks:app
    """
    wanted = _wanted(ids, everything=everything)
    with opened(app, url) as chosen:
        name = _living(chosen, queue)
        if not yes and stdin_is_terminal():
            which = f"{len(wanted)}" if wanted is not None else f"all {_count(chosen, name) or ''}".strip()
            typer.confirm(f"remove {which} dead letters of {name} for good?", abort=True)
        removed = dead_letters.purge(chosen, name, wanted)
    if as_json:
        print_json({"removed": removed})
    else:
        typer.echo(f"{removed} removed")
    if wanted is not None and removed < len(wanted):
        print_error(f"{len(wanted) - removed} of them are not dead letters of {name}, or are being retried")
        raise typer.Exit(FAILED)


def stdin_is_terminal() -> bool:
    """Whether somebody is there who can be asked."""
    return sys.stdin.isatty()


def _living(app: App, queue: str) -> str:
    """The queue's own name, also where that of its dead-letter queue was given."""
    return queue.removesuffix(app.settings.dead_queue_suffix) or queue


def _queues_with_letters(app: App) -> list[str]:
    suffix = app.settings.dead_queue_suffix
    names = app.inspect().queues() if app.broker.capabilities.inspect else app.overview().known_queues()
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]


def _count(app: App, queue: str) -> int:
    return app.inspect().stats(app.dead_queue(queue)).total if app.broker.capabilities.inspect else 0


def _wanted(ids: list[str] | None, *, everything: bool) -> list[str] | None:
    """The ids that are meant, None for all. Raises ``ConfigurationError`` unless it is clear."""
    if everything == bool(ids):
        raise ConfigurationError("which letters? give their ids, or --all")
    return None if everything else list(dict.fromkeys(ids or ()))


def _exit_if_missing(missing: set[str], queue: str) -> None:
    if missing:
        print_error(f"not there, or cut off: {', '.join(sorted(missing))} of queue {queue}")
        raise typer.Exit(FAILED)


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    error = row.get("error") or {"type": "", "message": ""}
    return (
        row["id"],
        row["queue"],
        row.get("task", "(undecodable)"),
        row["reason"],
        row.get("attempt"),
        row["died_at"],
        shortened(f"{error['type']}: {error['message']}".strip(": ")),
    )


def _print_letter(row: dict[str, Any]) -> None:
    error = row.pop("error", None) or {}
    if "args" in row:
        row = {"id": row.pop("id"), "task": row.pop("task"), "arguments": arguments(row), **row}
        row = {name: value for name, value in row.items() if name not in ("args", "kwargs", "v")}
    shown = [(name.replace("_", " "), value) for name, value in row.items() if value not in (None, {}, "")]
    if error:
        shown.append(("error", f"{error['type']}: {error['message']}\n{error.get('traceback', '')}"))
    for name, value in shown:
        typer.echo(f"{name + ':':<14}{printable(str(value))}")
