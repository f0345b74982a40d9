"""The settings of an application, and where they come from: arguments, the environment, a file, defaults."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec

from anybroker.errors import ConfigurationError
from anybroker.loading import known_schemes, nearest, parse_duration, parse_url, read_value, redact, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PREFIX = "ANYBROKER_"
_OFF = frozenset({"", "none"})

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
Suffix = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an application can be told from outside. ``repr`` shows no password and no signing secret."""

    url: str = "sqlite:///anybroker.db"
    """The broker."""
    results_url: str | None = None
    """The result backend. None: the broker's URL, where its service can hold results. "" or "none": no results."""
    results_ttl: timedelta | None = timedelta(days=1)
    """How long results are kept. None, written "forever" in files and the environment: until they are forgotten."""
    default_queue: Name = "default"
    """The queue of tasks that name none; 1 to 80 characters."""
    dead_queue_suffix: Suffix = ".dead"
    """What a queue's name is followed by in the name of its dead-letter queue; 1 to 40 characters."""
    codec: Literal["json", "msgpack"] = "json"
    """How tasks are encoded. Both are always decoded."""
    signing_keys: dict[str, str] = msgspec.field(default_factory=dict)
    """Key id -> secret. Tasks are signed with the first and accepted with any; without keys nothing is signed."""
    lease: timedelta = timedelta(seconds=30)
    """How long a worker holds a message without a heartbeat, and so how long the tasks of a killed one rest."""
    max_deliveries: AtLeastOne = 5
    """After so many deliveries that ended in a worker's death a message is dead-lettered."""
    grace: timedelta = timedelta(seconds=30)
    """How long a worker that was told to stop lets running tasks finish."""
    concurrency: AtLeastOne = 16
    """How many tasks a worker process runs at once."""
    processes: NotNegative = 0
    """How many child processes run tasks; 0: the worker's own process does."""
    queues: tuple[str, ...] | str = ""
    """What a worker consumes: names in order of preference, or "mail:3,default:1" with weights. Empty: the
    default queue."""

    def __repr__(self) -> str:
        """Show the fields, secrets masked."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """List the fields, secrets masked, for tools that print structures."""
        masked = {
            "url": redact(self.url),
            "results_url": None if self.results_url is None else redact(self.results_url),
            "signing_keys": dict.fromkeys(self.signing_keys, "***"),
        }
        return [(name, masked.get(name, getattr(self, name))) for name in self.__struct_fields__]

    @property
    def backend_url(self) -> str | None:
        """The URL of the result backend that holds after all defaults; None: results are off.

        Raises ``ConfigurationError`` when it depends on a broker URL that is malformed.
        """
        if self.results_url is not None:
            return None if self.results_url.lower() in _OFF else self.results_url
        return self.url if parse_url(self.url).scheme in known_schemes("backend") else None


_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def load_settings(
    directory: Path | None = None, environ: Mapping[str, str] | None = None, **explicit: object
) -> Settings:
    """Gather the settings from all their sources.

    Where a setting has several values, the first of these holds:

    1. ``explicit`` arguments; one that is None counts as not given;
    2. the environment: ``ANYBROKER_URL``, ``ANYBROKER_RESULTS_URL``, and likewise ``ANYBROKER_`` and the name of any
       other field; signing keys as ``id:secret,id2:secret2``; an empty variable counts as not set, except that an
       empty ``ANYBROKER_RESULTS_URL`` turns results off;
    3. one file: ``anybroker.toml``, ``[tool.anybroker]`` in ``pyproject.toml``, ``anybroker.yaml`` or
       ``anybroker.yml``, in this order, the first that is found in ``directory`` (the current one) or, going
       upwards, in the nearest directory that has one; further files are not read;
    4. the defaults of :class:`Settings`.

    Durations are seconds, or texts such as 30s, 5m, 2h and 7d. Raises ``ConfigurationError``, and nothing else, for
    an unknown name, a value of the wrong type, and a file that cannot be read.
    """
    values = _from_file(directory if directory is not None else Path.cwd())
    values |= _from_environment(os.environ if environ is None else environ)
    values |= _checked({name: value for name, value in explicit.items() if value is not None}, "argument", "of the app")
    return Settings(**values)


def _checked(found: Mapping[Any, object], kind: str, where: str) -> dict[str, Any]:
    """Convert typed values, as files and arguments have them."""
    values = {}
    for name, value in found.items():
        if name not in _TYPES:
            raise ConfigurationError(unknown_name(kind, str(name), where, _TYPES))
        try:
            values[name] = _convert(name, value)
        except ValueError as exc:
            raise ConfigurationError(f"the {kind} '{name}' {where} does not fit; expected {exc}") from None
    return values


def _convert(name: str, value: object) -> object:
    """Convert a value to the type of its field; raises ``ValueError`` saying what would have been right."""
    if timedelta in (_TYPES[name], *get_args(_TYPES[name])):
        return _duration(name, value)
    if name == "signing_keys" and isinstance(value, str):
        value = _signing_keys(value)
    try:
        return msgspec.convert(value, _TYPES[name])
    except msgspec.ValidationError as exc:
        if name == "codec":
            raise ValueError("json or msgpack") from None
        raise ValueError(str(exc).removeprefix("Expected ").partition(" - at")[0]) from None


def _duration(name: str, value: object) -> timedelta | None:
    if name == "results_ttl" and value == "forever":
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        value = parse_duration(value)
    if not isinstance(value, timedelta):
        raise ValueError("a duration")  # noqa: TRY004 (whoever calls adds which one, and where)
    if value < timedelta(0) or (not value and name != "grace"):
        raise ValueError("a longer duration")
    return value


def _signing_keys(text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for pair in text.split(","):
        key_id, _, secret = pair.strip().partition(":")
        if not key_id or not secret or key_id in keys:
            raise ValueError("id:secret,id2:secret2 with an id for each secret, and each id once")
        keys[key_id] = secret
    return keys


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    variables = {f"{_PREFIX}{name.upper()}": name for name in _TYPES}
    for variable in environ:
        if variable.startswith(_PREFIX) and variable not in variables:
            _refuse_misspelling(variable)
    values = {}
    for variable, name in variables.items():
        text = environ.get(variable)
        if text or (text == "" and name == "results_url"):
            try:
                values[name] = _convert(name, _untyped(name, text))
            except ValueError as exc:
                raise ConfigurationError(f"the variable {variable} does not fit; expected {exc}") from None
    return values


def _untyped(name: str, text: str) -> object:
    """Read a text as the number that the field wants, if it wants one."""
    return read_value(text, _TYPES[name]) if _TYPES[name] in (AtLeastOne, NotNegative) else text


def _refuse_misspelling(variable: str) -> None:
    """Others may use our prefix too; only what is nearly a name of ours is taken for a mistake."""
    name = variable.removeprefix(_PREFIX)
    near = nearest(name, [known.upper() for known in _TYPES], similarity=0.85)
    if near is not None:
        raise ConfigurationError(f"unknown variable {redact(variable)}; did you mean {_PREFIX}{near}?")


def _from_file(directory: Path) -> dict[str, Any]:
    absolute = Path(os.path.abspath(directory))  # noqa: PTH100 (resolve() raises on a loop of links)
    for folder in (absolute, *absolute.parents):
        for name, read in _READERS.items():
            path = folder / name
            if os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises where a folder may not be searched)
                found = read(path)
                if found is not None:
                    return _checked(found, "key", f"in {path}")
    return {}


def _read_toml(path: Path) -> dict[Any, object]:
    import tomllib  # only where there is such a file

    text = _read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path} is not valid TOML: {redact(str(exc))}") from None
    except (RecursionError, ValueError):  # thousands of brackets or digits
        raise ConfigurationError(
            f"{path} is not valid TOML: it is nested too deep or has an impossible number"
        ) from None


def _read_pyproject(path: Path) -> dict[Any, object] | None:
    """Read ``[tool.anybroker]``; None where there is no such table, so that the search goes on."""
    tool = _read_toml(path).get("tool")
    table = tool.get("anybroker") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"'tool.anybroker' in {path} is not a table; write [tool.anybroker]")
    return table


def _read_yaml(path: Path) -> dict[Any, object]:
    try:
        import yaml  # no dependency of ours
    except ImportError:
        raise ConfigurationError(f"reading {path} needs PyYAML; run: pip install pyyaml") from None
    text = _read_text(path)
    try:
        content = yaml.safe_load(text)
    except Exception as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        # Its text may quote the file, and with it a secret.
        raise ConfigurationError(f"{path} is not valid YAML{line}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no settings; write one 'name: value' a line")
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise ConfigurationError(f"{path} is not UTF-8 in line {line}") from None
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc


_READERS: dict[str, Callable[[Path], dict[Any, object] | None]] = {
    "anybroker.toml": _read_toml,
    "pyproject.toml": _read_pyproject,
    "anybroker.yaml": _read_yaml,
    "anybroker.yml": _read_yaml,
}
"""In the order in which they are looked for in one directory."""
