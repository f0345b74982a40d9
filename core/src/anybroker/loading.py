"""From a URL to an adapter: addresses, typed options, entry points, and mistakes that say what to do.

An adapter package declares entry points in the groups ``anybroker.brokers`` and ``anybroker.backends``. The name of
an entry point is a URL scheme, its value a class with ``from_url(url)``. The built-in ``memory`` and ``sqlite`` come
through the same door. Everything that is wrong with a URL is a :class:`~anybroker.errors.ConfigurationError` of one
line, without credentials.
"""

from __future__ import annotations

import math
import re
import sys
from datetime import timedelta
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin
from urllib.parse import quote, unquote

import msgspec

from anybroker.errors import AnybrokerError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection
    from importlib.metadata import EntryPoint, EntryPoints

    from anybroker.backend import ResultBackend
    from anybroker.broker import Broker

Role = Literal["broker", "backend"]
OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)

_GROUPS: dict[Role, str] = {"broker": "anybroker.brokers", "backend": "anybroker.backends"}
_NOUNS: dict[Role, str] = {"broker": "broker", "backend": "result backend"}
_OTHER: dict[Role, Role] = {"broker": "backend", "backend": "broker"}

_BOTH: frozenset[Role] = frozenset({"broker", "backend"})
_FIRST_PARTY: dict[str, tuple[str | None, frozenset[Role]]] = {
    "memory": (None, _BOTH),
    "sqlite": (None, _BOTH),
    **dict.fromkeys(("redis", "rediss", "redis+unix", "unix", "redis+sentinel", "redis+cluster"), ("redis", _BOTH)),
    **dict.fromkeys(("amqp", "amqps"), ("amqp", _BOTH)),
    **dict.fromkeys(("mongodb", "mongodb+srv"), ("mongodb", _BOTH)),
    "sqs": ("sqs", frozenset({"broker"})),
    "pubsub": ("pubsub", frozenset({"broker"})),
    **dict.fromkeys(("memcache", "memcache+unix"), ("memcache", frozenset({"backend"}))),
}
"""Scheme -> the extra of ``anybroker`` that brings it (None: built in), and what it can be."""

_FOREIGN = {
    **dict.fromkeys(("rabbitmq", "rabbit"), "RabbitMQ is amqp://"),
    "mongo": "MongoDB is mongodb://",
    "gcpubsub": "Google Pub/Sub is pubsub://",
    **dict.fromkeys(("sqs+https", "sqs+http"), "Amazon SQS is sqs://"),
    **dict.fromkeys(("file", "sqlite3"), "a file is sqlite:///path/to/file.db"),
    **dict.fromkeys(
        ("http", "https"),
        "give the address of the broker itself, e.g. amqp://host:5672/ or sqs:// rather than that of a web page",
    ),
    **dict.fromkeys(
        ("postgres", "postgresql", "mysql", "mariadb", "kafka", "nats"),
        "there is no adapter for it; use e.g. redis://, amqp:// or sqlite:///anybroker.db",
    ),
}
"""What people write for services that go by another scheme here, or that are not supported."""

_PORTS = {"6379": "redis", "5672": "amqp", "5671": "amqps", "27017": "mongodb", "11211": "memcache"}

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]*)(?P<port>:.*)?", re.DOTALL)
_PLAIN_NAME = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63})*\.?", re.ASCII)
_SECRET_NAME = r"[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|credentials?|key)"  # noqa: S105
_USERINFO = re.compile(r"://[^:@]*:")
_SECRET_OPTION = re.compile(rf"([?&;]{_SECRET_NAME}=)[^&\s]*", re.IGNORECASE)
_IS_SECRET = re.compile(_SECRET_NAME, re.IGNORECASE)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w|)")
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


class Address(msgspec.Struct, frozen=True):
    """The parts of a URL, percent-decoded once, here. Passwords show as ``***`` in ``str`` and ``repr``."""

    scheme: str
    """In lower case."""
    user: str | None = None
    password: str | None = None
    """None: not given; "": given and empty."""
    hosts: tuple[tuple[str, int | None], ...] = ()
    """Names as written, IPv6 without its brackets, each with its port or None. Empty for ``sqlite:///x``."""
    path: str = ""
    """With every leading slash: ``sqlite:////tmp/x`` has ``//tmp/x``, ``amqp://h/%2F`` has ``//``."""
    query: dict[str, str] = msgspec.field(default_factory=dict)
    """The options; a ``+`` stays a plus."""

    def __str__(self) -> str:
        """Write the URL as it may be shown: no password, and no options, whose names may be misspelt."""
        userinfo = ""
        if self.user is not None or self.password is not None:
            userinfo = quote(self.user or "", safe="") + (":***@" if self.password is not None else "@")
        hosts = ",".join(
            (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}") for host, port in self.hosts
        )
        return _one_line(f"{self.scheme}://{userinfo}{hosts}{self.path}{'?…' if self.query else ''}", limit=300)

    def __repr__(self) -> str:
        """Show the fields, secrets masked."""
        return f"Address({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """List the fields, secrets masked, for tools that print structures."""
        query = {name: "***" if is_secret(name) else value for name, value in self.query.items()}
        masked = {"password": None if self.password is None else "***", "query": query}
        return [(name, masked.get(name, getattr(self, name))) for name in self.__struct_fields__]

    def secrets(self) -> list[str]:
        """List the values that must never be shown, the longest first."""
        options = [value for name, value in self.query.items() if is_secret(name)]
        return sorted({value for value in (self.password, *options) if value}, key=len, reverse=True)


def is_secret(name: str) -> bool:
    """Whether an option of this name holds a secret: ``password``, ``auth_token``, ``secret_key``..."""
    return _IS_SECRET.fullmatch(name) is not None


def redact(text: str) -> str:
    """Replace the passwords of all URLs in ``text`` by ``***``, also those in options with secret names.

    A URL ends at a blank. Passwords with characters that ought to be percent-encoded are found too.
    """
    return _SECRET_OPTION.sub(r"\1***", re.sub(r"\S+", _without_userinfo, text))


def _without_userinfo(word: re.Match[str]) -> str:
    text = word[0]
    start, end = _USERINFO.search(text), text.rfind("@")
    return f"{text[: start.end()]}***{text[end:]}" if start and start.end() <= end else text


def parse_url(url: str) -> Address:
    """Take a broker's or result backend's URL apart.

    ``scheme://[user[:password]@]host[:port][,host[:port]...][/path][?option=value&...]``, where reserved characters
    in a user, password, path or option are percent-encoded. Raises ``ConfigurationError``, and nothing else.
    """
    given: object = url  # annotations bind nobody at run time
    if not isinstance(given, str) or not given:
        found = "an empty text" if given == "" else f"a value of type {type(given).__name__}"
        raise ConfigurationError(f"a URL such as redis://localhost:6379 is expected, not {found}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise _without_scheme(url)
    if not _SCHEME.fullmatch(scheme.lower()):
        raise ConfigurationError("a URL begins with a scheme of letters and digits, e.g. redis://localhost:6379")
    if any(not char.isprintable() for char in url) or url != url.strip():
        raise _malformed(url, "it contains a line break or control character, or a blank at its start or end")
    before_query, _, query = rest.partition("?")
    authority, slash, path = before_query.partition("/")
    userinfo, _, hosts = authority.rpartition("@")
    if "#" in rest or " " in authority:
        raise _malformed(url, "write # as %23 and blanks as %20")
    if ":" in authority and "@" in rest[len(authority) :]:
        raise _malformed(url, "in passwords write / as %2F and ? as %3F; elsewhere write @ as %40")
    user, colon, password = userinfo.partition(":")
    addresses = tuple(_host(host, url) for host in hosts.split(",")) if hosts else ()
    if len(addresses) > 1 and not all(host for host, _ in addresses):
        raise _malformed(url, "one of its hosts is empty")
    return Address(
        scheme=scheme.lower(),
        user=_decoded(user, url) or None,
        password=_decoded(password, url) if colon else None,
        hosts=addresses,
        path=_decoded(slash + path, url),
        query=_query(query, url),
    )


def _host(text: str, url: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise _malformed(url, "IPv6 addresses are written in brackets, e.g. redis://[::1]:6379")
    host, port = _decoded(match["host"].strip("[]"), url), match["port"]
    if host and "[" not in text and not is_host_name(host):
        raise _malformed(url, "between the dots of a host's name are 1 to 63 letters, digits and hyphens")
    if port is None:
        return host, None
    digits = port[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536):  # noqa: PLR2004
        raise _malformed(
            url, "a port is a number from 1 to 65535; IPv6 addresses are written in brackets, and / in passwords as %2F"
        )
    return host, int(digits)


def is_host_name(host: str) -> bool:
    """Whether Python can look for a host of this name; it raises ``UnicodeError`` otherwise, and not before it does."""
    if _PLAIN_NAME.fullmatch(host):
        return True
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _query(text: str, url: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for pair in filter(None, text.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise _malformed(url, "options are written name=value, with & between them")
        name = _decoded(name, url)
        if name in query:
            raise _malformed(url, f"the option '{_one_line(name, limit=60)}' is given twice")
        query[name] = _decoded(value, url)
    return query


def _decoded(text: str, url: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _malformed(url, "its percent-encoding is not UTF-8") from None


def _without_scheme(url: str) -> ConfigurationError:
    prefix, _, rest = url.partition(":")
    host, _, port = url.partition("/")[0].rpartition("@")[2].partition(":")
    if prefix in _FIRST_PARTY and not rest[:1].isdigit():
        meant = f"{prefix}:///{rest}" if prefix == "sqlite" and rest else f"{prefix}://{rest.lstrip('/')}"
    elif url.startswith(("/", ".")) or url.endswith((".db", ".sqlite", ".sqlite3")):
        meant = f"sqlite:///{url}"
    else:
        meant = f"{_PORTS.get(port, host if host in _FIRST_PARTY else 'redis')}://{url}"
    return ConfigurationError(f"the URL has no scheme; write {_shown(meant)}")


def _malformed(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"malformed URL {_shown(url)}: {why}")


def _shown(url: str) -> str:
    """Write a whole URL, however malformed, as it may be shown."""
    before_query, mark, _ = redact(re.sub(r"\s", "%20", url)).partition("?")
    return _one_line(before_query + ("?…" if mark else ""), limit=300)


def _one_line(text: str, *, limit: int | None = None) -> str:
    line = " ".join(text.split())
    line = line if limit is None or len(line) <= limit else f"{line[:limit]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


# Options


def read_options(address: Address, options: type[OptionsT]) -> OptionsT:
    """Read the options of a URL into an instance of ``options``, a struct with one field per option.

    Fields may be ``str``, ``bool`` (yes/no, true/false, on/off, 1/0), ``int``, ``float``, ``timedelta`` (seconds, or
    30s, 5m, 2h, 7d), an ``Enum`` (by value) or a ``Literal``, each also ``| None`` and with ``msgspec.Meta`` bounds.
    Raises ``ConfigurationError`` for an unknown option, naming the nearest known one, and for an unfit value.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(options)}
    values: dict[str, Any] = {}
    for name, text in address.query.items():
        if name not in fields:
            raise ConfigurationError(unknown_name("option", name, f"in {address}", fields))
        try:
            values[fields[name].name] = read_value(text, fields[name].type)
        except ValueError as exc:
            shown = "***" if is_secret(name) else f"'{_one_line(text, limit=60)}'"
            raise ConfigurationError(f"option '{name}' in {address} is {shown}; expected {exc}") from None
    missing = [name for name, field in fields.items() if field.required and field.name not in values]
    if missing:
        raise ConfigurationError(f"{address} needs the option '{missing[0]}'")
    try:
        return options(**values)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"{address}: {_scrubbed(exc, address)}") from exc


def read_value(text: str, wanted: Any) -> Any:
    """Convert a text to the type ``wanted``; raises ``ValueError`` saying what would have been right."""
    plain = _without_none(wanted)
    if plain is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError("yes or no")
        return _BOOLEANS[text.lower()]
    if plain is timedelta:
        return parse_duration(text)
    if choices := _choices(plain):
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return choices[text]
    try:
        value = msgspec.convert(text, plain, strict=False)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc).removeprefix("Expected ").partition(", got")[0]) from None
    except UnicodeEncodeError:
        raise ValueError("a text in UTF-8") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def parse_duration(value: str | float) -> timedelta:
    """Read ``30``, ``30s``, ``1.5h``, ``500ms``, ``5m``, ``7d`` or ``2w``; a bare number is seconds.

    Raises ``ValueError`` saying what would have been right.
    """
    try:
        if not isinstance(value, str):
            return timedelta(seconds=value)
        if match := _DURATION.fullmatch(value.strip().lower()):
            return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except (OverflowError, ValueError):
        pass  # longer than a timedelta can be, or not a number
    raise ValueError("seconds, or a duration such as 30s, 5m, 2h or 7d")


def _choices(plain: Any) -> dict[str, Any]:
    if get_origin(plain) is Literal:
        return {str(value): value for value in get_args(plain)}
    if isinstance(plain, type) and issubclass(plain, Enum):
        return {str(member.value): member for member in plain}
    return {}


def _without_none(wanted: Any) -> Any:
    if get_origin(wanted) in {Union, UnionType}:
        members = tuple(member for member in get_args(wanted) if member is not NoneType)
        return members[0] if len(members) == 1 else Union[members]  # noqa: UP007
    return wanted


def unknown_name(kind: str, name: str, where: str, known: Collection[str]) -> str:
    """Say that ``name`` is unknown, which one it was probably meant to be, and which there are."""
    near = nearest(name, known)
    guess = f" did you mean '{near}'?" if near else ""
    listed = ", ".join(sorted(known)) or "none"
    return f"unknown {kind} '{_one_line(redact(name), limit=60)}' {where};{guess} known: {listed}"


def nearest(name: str, known: Collection[str], *, similarity: float = 0.6) -> str | None:
    """Find the known name that ``name`` was probably meant to be; ``similarity`` is between 0 and 1 (equal)."""
    from difflib import get_close_matches  # only a mistake needs it

    return next(iter(get_close_matches(name, known, n=1, cutoff=similarity)), None)


# Adapters


def load_broker(url: str) -> Broker:
    """Make the broker that a URL names, not connected yet. Raises ``ConfigurationError``."""
    return cast("Broker", _load(url, "broker"))


def load_backend(url: str) -> ResultBackend:
    """Make the result backend that a URL names, not connected yet. Raises ``ConfigurationError``."""
    return cast("ResultBackend", _load(url, "backend"))


def known_schemes(role: Role) -> list[str]:
    """List the URL schemes that can have this role, sorted: those installed and the first-party ones."""
    first_party = {scheme for scheme, (_, roles) in _FIRST_PARTY.items() if role in roles}
    return sorted(first_party | _entry_points(role).names)


def _load(url: str, role: Role) -> object:
    address = parse_url(url)
    entry_point = _find(address.scheme, role)
    if entry_point is None:
        raise _not_found(address, role)
    try:
        return entry_point.load().from_url(url)
    except AnybrokerError as exc:
        exc.args = (_scrubbed(exc, address), *exc.args[1:])
        raise
    except ImportError as exc:
        remedy = _remedy(address.scheme, entry_point)
        raise ConfigurationError(f"{address.scheme}:// cannot be used: {_scrubbed(exc, address)}; {remedy}") from exc
    except Exception as exc:
        problem = f"{type(exc).__name__}: {_scrubbed(exc, address)}"
        raise ConfigurationError(f"{address} cannot be used: {problem}") from exc


def _find(scheme: str, role: Role) -> EntryPoint | None:
    found = {entry_point.value: entry_point for entry_point in _entry_points(role).select(name=scheme)}
    if len(found) > 1:
        values = " and ".join(sorted(found))
        raise ConfigurationError(f"{scheme}:// is offered by several packages, {values}; uninstall all but one")
    return next(iter(found.values()), None)


def _entry_points(role: Role) -> EntryPoints:
    return _entry_points_of(_GROUPS[role], tuple(sys.path))


@cache
def _entry_points_of(group: str, path: tuple[str, ...]) -> EntryPoints:  # noqa: ARG001  what is found depends on it
    from importlib.metadata import entry_points  # slow; importing anybroker must not wait for it

    return entry_points(group=group)


def _not_found(address: Address, role: Role) -> ConfigurationError:
    scheme = address.scheme
    extra, roles = _FIRST_PARTY.get(scheme, (None, frozenset[Role]()))
    if role in roles:
        return ConfigurationError(f"{scheme}:// is not installed; run: {_pip_install(extra)}")
    if roles or _find(scheme, _OTHER[role]) is not None:
        service = extra or scheme
        return ConfigurationError(
            f"{service} is a {_NOUNS[_OTHER[role]]} only: no {_NOUNS[role]} for {service}; use e.g. redis://"
        )
    if scheme in _FOREIGN:
        return ConfigurationError(f"unknown scheme '{scheme}' in {address}: {_FOREIGN[scheme]}")
    return ConfigurationError(
        unknown_name("scheme", f"{scheme}://", f"in {address}", [f"{known}://" for known in known_schemes(role)])
    )


def _remedy(scheme: str, entry_point: EntryPoint) -> str:
    """Say what brings an adapter together with its driver: our extra, or the package of a stranger."""
    package = entry_point.dist.name if entry_point.dist else "anybroker"
    if package == "anybroker":
        return "this installation of Python or anybroker is incomplete"
    extra, _ = _FIRST_PARTY.get(scheme, (None, None))
    return f"run: {_pip_install(extra)}" if package.startswith("anybroker-") else f'run: pip install "{package}"'


def _pip_install(extra: str | None) -> str:
    return f'pip install "anybroker[{extra}]"' if extra else "pip install anybroker"


def _scrubbed(exc: Exception, address: Address) -> str:
    """Format the text of an exception that an adapter raised, in one line and without the secrets of its URL."""
    text = str(exc)
    for secret in address.secrets():
        for form in {secret, quote(secret, safe="")}:
            text = re.sub(re.escape(form) + "(?!://)", "***", text)  # a password may be "redis", the scheme may show
    return _one_line(redact(text))
