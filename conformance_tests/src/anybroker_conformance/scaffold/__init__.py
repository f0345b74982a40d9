"""``anybroker new-adapter``: a package for a broker of one's own, which the suite tests from the first minute."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_SUFFIX = ".template"
_NAME = re.compile(r"[a-z][a-z0-9]*")


def new_adapter(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The scheme of its URLs: small letters and digits.")],
    directory: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Made if need be; anybroker-broker-NAME without it.")
    ] = None,
) -> None:
    """Make a package for a new broker: it installs, registers NAME://, and runs the conformance suite in its CI.

    The broker that it contains holds nothing, so the laws fail; write its verbs, and law after law is kept.
    Overwrites nothing: a file that is there already is an error, and then none is written.

    Example: anybroker new-adapter nats && cd anybroker-broker-nats && pip install -e . && pytest --law 1
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigurationError(f"{name!r} is no scheme; take small letters and digits, such as nats or postgres2")
    root = directory or Path(f"anybroker-broker-{name}")
    values = {"name": name, "class_name": f"{name.capitalize()}Broker", "module": f"anybroker_broker_{name}"}
    contents = {
        root / Template(path).substitute(values): Template(text).substitute(values) for path, text in _skeleton()
    }
    if there := [path for path in contents if path.exists()]:
        raise ConfigurationError(f"{there[0]} is there already; nothing was written")
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            typer.echo(f"wrote {path}")
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be written: {error.strerror}") from error
    typer.echo(f"\nnow:\n  cd {root}\n  pip install -e . anybroker-conformance pytest\n  pytest --law 1")


def _skeleton() -> list[tuple[str, str]]:
    """The files of the package, as templates: path and text."""
    found: list[tuple[str, str]] = []

    def look(directory: Traversable, path: str) -> None:
        for entry in sorted(directory.iterdir(), key=lambda one: one.name):
            if entry.is_dir():
                look(entry, f"{path}{entry.name}/")
            elif entry.name.endswith(_SUFFIX):
                found.append((f"{path}{entry.name.removesuffix(_SUFFIX)}", entry.read_text(encoding="utf-8")))

    look(files(__name__).joinpath("skeleton"), "")
    return [(path.replace("dot_", ".").replace("NAME", "${name}"), text) for path, text in found]
