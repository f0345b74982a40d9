"""The command line of the services: thin commands over the door."""

from __future__ import annotations

import shlex
import signal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import msgspec
import typer

from anybroker_conformance.services import door as services
from anybroker_conformance.services.catalogue import SERVICES
from anybroker_conformance.services.docker import Docker
from anybroker_conformance.services.engine import ServiceError
from anybroker_conformance.services.requirements import InstallError
from anybroker_conformance.services.running import Running
from anybroker_conformance.services.state import VARIABLE, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

command = typer.Typer(
    help=f"The real services that adapters are tested against. ${VARIABLE} names another folder for their state.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _known(names: list[str]) -> list[str]:
    for name in names:
        if name not in SERVICES:
            raise typer.BadParameter(f"there is no service {name!r}, only: {', '.join(SERVICES)}")
    return list(dict.fromkeys(names)) or list(SERVICES)


Names = Annotated[list[str] | None, typer.Argument(help=f"{', '.join(SERVICES)}. Without a name: all.")]
Target = Annotated[
    str, typer.Argument(help="A service, or one node of it: redis, redis-cluster/1, redis-sentinel/master.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Ending(StrEnum):
    """How a server is ended before it is started again."""

    TERM = "TERM"
    KILL = "KILL"


@command.command()
def up(
    names: Names = None,
    *,
    local: Annotated[bool, typer.Option("--local", help="Start processes, even where Docker works.")] = False,
    install: Annotated[bool, typer.Option("--install", help="Bring what is missing to run them as processes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start services, and wait until they can be worked with."""
    wanted = _known(names or [])
    how = "local" if local or not Docker.answers() else "docker"
    if how == "local":
        if install:
            _install(wanted)
        _require(wanted)
    entries, failures = _try(lambda: services.Door().up(wanted, how))
    _table([_described(entry) for entry in entries], as_json=as_json)
    if failures:
        _fail("\n\n".join(failures))


def _install(names: list[str]) -> None:
    _try(lambda: services.install(names))


def _require(names: list[str]) -> None:
    """Fail loudly if a service cannot be started here: no test may pass because its server was not there."""
    if not (lacking := services.missing(names)):
        return
    lines = []
    commands = []
    for name, requirements in lacking.items():
        lines.append(f"missing for {name}: {', '.join(each.label for each in requirements)}")
        commands += [each.command(name) for each in requirements]
    lines += [
        "nothing was started; install with --install, or yourself:",
        *(f"  {each}" for each in dict.fromkeys(commands)),
    ]
    _fail("\n".join(lines))


@command.command()
def down(names: Names = None) -> None:
    """End services; nothing is left of them."""
    wanted = _known(names or [])
    _try(lambda: services.Door().down(wanted))


@command.command()
def status(names: Names = None, *, as_json: AsJson = False) -> None:
    """Tell what runs."""
    wanted = _known(names or [])
    door = services.Door()
    entries = {name: entry for name, entry in door.state.entries().items() if name in wanted}
    states = _try(lambda: {name: door.states(entry) for name, entry in entries.items()})
    if as_json:
        _print_json([_described(entry) | {"nodes": states[name]} for name, entry in entries.items()])
        return
    down = [{"name": name, "state": "down"} for name in wanted if name not in entries]
    up = [
        {"name": name, "state": _summary(entry, states[name]), **_described(entry)} for name, entry in entries.items()
    ]
    _table(up + down, as_json=False)


def _summary(entry: Entry, nodes: Mapping[str, str]) -> str:
    """One word for all nodes, or those that do not run."""
    kinds = set(nodes.values())
    if not entry.version:
        return "not ready"
    return (
        kinds.pop()
        if len(kinds) == 1
        else ", ".join(f"{node} {state}" for node, state in nodes.items() if state != "running")
    )


@command.command()
def env(names: Names = None, *, as_json: AsJson = False) -> None:
    """Print the URLs of what runs, as shell commands for eval."""
    wanted = _known(names or [])
    entries = [entry for name, entry in services.Door().state.entries().items() if name in wanted and entry.version]
    if absent := set(names or []) - {entry.name for entry in entries}:
        _fail(f"not up: {', '.join(sorted(absent))}")
    variables = {key: value for entry in entries for key, value in SERVICES[entry.name].variables(entry.ports).items()}
    if as_json:
        _print_json(variables)
        return
    for key, value in variables.items():
        typer.echo(f"export {key}={shlex.quote(value)}")


@command.command()
def restart(
    target: Target,
    *,
    number: Annotated[Ending, typer.Option("--signal", help="The signal that ends the server.")] = Ending.TERM,
    as_json: AsJson = False,
) -> None:
    """End a server, start it again on the same port and data, and wait until it can be worked with."""
    service, node = _target(target)
    _try(lambda: service.restart(signal.Signals[f"SIG{number}"], node))
    if as_json:
        _print_json({"name": service.name, "node": node, "signal": number, "url": service.url})


@command.command()
def pause(target: Target) -> None:
    """Freeze a server: connections stay open, nothing is answered."""
    service, node = _target(target)
    _try(lambda: service.pause(node))


@command.command()
def resume(target: Target) -> None:
    """Let a paused server go on."""
    service, node = _target(target)
    _try(lambda: service.resume(node))


def _target(text: str) -> tuple[Running, str | None]:
    name, _, node = text.partition("/")
    _known([name])
    door = services.Door()
    entry = door.state.entries().get(name)
    if not entry:
        _fail(f"{name} is not up")
    found = Running(door, entry)
    if node and node not in found.nodes:
        raise typer.BadParameter(f"{name} has no node {node!r}, only: {', '.join(found.nodes)}")
    return found, node or None


def _described(entry: Entry) -> dict[str, Any]:
    service = SERVICES[entry.name]
    return {
        "name": entry.name,
        "version": entry.version,
        "how": entry.how,
        "url": service.url(entry.ports),
        "seconds": entry.seconds,
    }


def _table(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print one line for each row, below the names of the columns."""
    if as_json:
        _print_json(rows)
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _print_json(value: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _try(what: Callable[[], T]) -> T:
    """The result of something that may fail for reasons that are not this program's."""
    try:
        return what()
    except (ServiceError, InstallError, PermissionError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
