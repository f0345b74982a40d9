"""``anybroker init``: a project that runs."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from anybroker.errors import ConfigurationError

_SUFFIX = ".template"


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made if need be.")] = Path(),
) -> None:
    """Make a small project that runs: an app with tasks, a program that sends them, tests, settings.

    Overwrites nothing: a file that is there already is an error, and then none is written.

    Example: anybroker init shop && cd shop && anybroker worker tasks:app
    """
    skeleton = {
        source.name.removesuffix(_SUFFIX): source.read_text(encoding="utf-8")
        for source in files("anybroker.cli").joinpath("skeleton").iterdir()
        if source.name.endswith(_SUFFIX)
    }
    there = sorted(name for name in skeleton if (directory / name).exists())
    if there:
        raise ConfigurationError(f"{directory / there[0]} is there already; nothing was written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in sorted(skeleton.items()):
            with (directory / name).open("x", encoding="utf-8") as file:
                file.write(text)
            typer.echo(f"wrote {directory / name}")
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be written: {error.strerror}") from error
    typer.echo("\nnow, in that directory, in two terminals:\n  anybroker worker tasks:app\n  python send.py")
