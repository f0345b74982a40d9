"""The root command: what all commands have in common, and those that other packages bring."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import anybroker
from anybroker.cli import bench, dead, doctor, init, queues, send, worker
from anybroker.cli.exits import USAGE, exit_code
from anybroker.cli.output import print_error
from anybroker.errors import AnybrokerError

GROUP = "anybroker.commands"
"""Entry points of other packages: a command's name -> a ``typer.Typer``, or a function as for ``Typer.command``."""


class Commands(TyperGroup):
    """The commands of this package, and those of others as soon as they are asked for."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error that anybroker raises on purpose is one line and an exit code."""
        try:
            return super().invoke(ctx)
        except AnybrokerError as error:
            print_error(str(error))
            raise typer.Exit(exit_code(error)) from error

    def list_commands(self, ctx: Any) -> list[str]:
        """Our own, then those of others."""
        own = super().list_commands(ctx)
        return own + sorted(entry_points(group=GROUP).names - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None. One that cannot be loaded says so when it is run."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = entry_points(group=GROUP, name=cmd_name)
        return _plugin(next(iter(found))) if found else None


def _plugin(entry_point: EntryPoint) -> Any:
    """A command that another package brings."""
    try:
        loaded = entry_point.load()
        if isinstance(loaded, typer.Typer):
            command = get_command(loaded)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command(entry_point.name)(loaded)
            command = get_command(alone)
    except Exception as error:  # whatever a stranger's module raises, the other commands work
        problem = f"{type(error).__name__}: {error}"
        return _broken(entry_point, problem)
    command.name = entry_point.name
    return command


def _broken(entry_point: EntryPoint, problem: str) -> Any:
    package = entry_point.dist.name if entry_point.dist else entry_point.value

    def command() -> None:
        print_error(f"the command {entry_point.name!r} of {package} cannot be loaded: {problem}")
        raise typer.Exit(USAGE)

    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(
        entry_point.name,
        help=f"(cannot be loaded: {problem})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )(command)
    return get_command(alone)


root = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it
    if wanted:
        typer.echo(f"anybroker {anybroker.__version__}")
        raise typer.Exit


@root.callback()
def describe(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Background tasks on any broker.

    Commands find their broker by --app module:app, by --url, or in the settings: $ANYBROKER_URL, anybroker.toml,
    [tool.anybroker] in pyproject.toml.

    \b
    Exit codes:
      0  done
      1  what was asked about failed: the task raised, no such letter, the doctor found a problem
      2  the command, the configuration or an argument is wrong
      3  the broker or the result backend cannot be reached
      4  what was waited for did not come in time
    """  # noqa: D301  \b is a control character: it keeps the lines as they are


root.command()(worker.worker)
root.command()(send.send)
root.command()(send.call)
root.command()(queues.queues)
root.command()(queues.peek)
root.add_typer(dead.commands, name="dead")
root.command()(doctor.doctor)
root.command()(bench.bench)
root.command()(init.init)
