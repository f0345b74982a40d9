"""What a ``mongodb://`` URL may say: options of ours, and everything that pymongo's own URLs understand."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import unquote

import msgspec
from pymongo import common, uri_parser

from anybroker.errors import ConfigurationError
from anybroker.loading import Address, parse_url, read_options, unknown_name
from anybroker_broker_mongodb.translation import translated

DATABASE = "anybroker"
"""The database where a URL names none."""
MAX_BODY = 15 * 1024 * 1024
"""Bytes. A document of MongoDB has at most 16 MiB, and the other fields are in it too."""
SCHEMES = frozenset({"mongodb", "mongodb+srv"})

MaxBody = Annotated[int, msgspec.Meta(ge=1, le=MAX_BODY)]
Prefix = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{0,60}$")]
Wake = Literal["auto", "stream", "poll"]
"""How those who wait hear of news: by a change stream, by looking again and again, or as the server allows."""

_DEFAULTS = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 5000, "socketTimeoutMS": 10_000}
"""Milliseconds after which a call gives up, unless the URL says otherwise; pymongo's own are 30 s, 20 s and never."""


class BrokerOptions(msgspec.Struct, frozen=True):
    """Options of the broker's URL, beside those of pymongo."""

    prefix: Prefix = ""
    """Begins the names of the collections, so that several applications can share a database."""
    max_body: MaxBody = MAX_BODY
    """Bytes."""
    wake: Wake = "auto"


OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


class Target(msgspec.Struct, Generic[OptionsT], frozen=True):
    """Where a URL leads, and how."""

    address: Address
    """For messages: it shows no password."""
    url: str
    """For pymongo: without our options."""
    database: str
    options: OptionsT
    client_options: dict[str, Any]
    """What pymongo is told beside its URL."""
    write_concern: dict[str, Any]
    """As pymongo takes it: ``w``, and where the URL gives them, ``j`` and ``wtimeout`` in milliseconds."""

    def __repr__(self) -> str:
        """Leave out the URL, which may hold a password."""
        return f"Target({self.address})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same, for tools that print structures."""
        return [("address", str(self.address))]


def read_url(url: str, options: type[OptionsT]) -> Target[OptionsT]:
    """Take a URL apart. Raises ``ConfigurationError``; connects to nothing and resolves no name."""
    address = parse_url(url)
    if address.scheme not in SCHEMES:
        raise ConfigurationError(f"this opens mongodb:// and mongodb+srv://, not {address.scheme}://")
    if not address.hosts or not all(host for host, _ in address.hosts):
        raise ConfigurationError(f"{address} names no host; write e.g. mongodb://localhost:27017/anybroker")
    own = {field.encode_name for field in msgspec.structs.fields(options)}
    theirs = {name.lower() for name in common.URI_OPTIONS_VALIDATOR_MAP}
    for name in address.query:
        if name not in own and name.lower() not in theirs:
            raise ConfigurationError(unknown_name("option", name, f"in {address}", own | theirs))
    given = {name: value for name, value in address.query.items() if name in own}
    before, _, query = url.partition("?")
    rest = "&".join(pair for pair in query.split("&") if unquote(pair.partition("=")[0]) not in own)
    base = before if address.path else f"{before}/"
    with translated(address):
        checked = {name.lower(): value for name, value in uri_parser.split_options(rest).items()} if rest else {}
    return Target(
        address=address,
        url=f"{base}?{rest}" if rest else base,
        database=_database(address),
        options=read_options(msgspec.structs.replace(address, query=given), options),
        client_options={name: value for name, value in _DEFAULTS.items() if not _is_given(name, checked)},
        write_concern=_write_concern(address, checked),
    )


def _database(address: Address) -> str:
    name = address.path.strip("/") or DATABASE
    if not set(name).isdisjoint('/\\. "$\0') or len(name.encode()) > 63:  # noqa: PLR2004  MongoDB's own limit
        raise ConfigurationError(f'{address} names no database; its name has at most 63 bytes, and none of /\\. "$')
    return name


def _is_given(name: str, checked: dict[str, Any]) -> bool:
    return name.lower() in checked or (name != "connectTimeoutMS" and "timeoutms" in checked)


def _write_concern(address: Address, checked: dict[str, Any]) -> dict[str, Any]:
    """The write concern: majority, unless the URL says otherwise. Raises ``ConfigurationError`` for none at all."""
    w = checked.get("w", "majority")
    if w == 0:
        raise ConfigurationError(f"option 'w' in {address} is 0; writes that nobody confirms are lost unnoticed")
    concern = {"w": w, "j": checked.get("journal"), "wtimeout": checked.get("wtimeoutms")}
    return {name: value for name, value in concern.items() if value is not None}
