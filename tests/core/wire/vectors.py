"""The published schemas and test vectors of the wire format, as the tests read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[3] / "docs" / "wire-format"


def vectors(name: str) -> Any:
    """What one file of vectors holds."""
    return json.loads((FOLDER / "vectors" / f"{name}.json").read_text(encoding="utf-8"))


def body_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["body_hex"]) if "body_hex" in vector else vector["body"].encode()


def name_of(vector: dict[str, Any]) -> str:
    return f"{vector['name']}, {vector['format']}" if "format" in vector else str(vector["name"])


@cache
def schema(name: str) -> Draft202012Validator:
    """One of the published schemas, ready to validate with."""
    published = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.schema.json")}
    resources = [(file, Resource.from_contents(content)) for file, content in published.items()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(published[f"{name}.schema.json"], registry=registry)


def as_json(body: bytes) -> Any:
    """A JSON or MessagePack object as JSON would show it: moments and bytes are text."""
    if body.startswith(b"{"):
        return json.loads(body)
    return msgspec.to_builtins(msgspec.msgpack.decode(body))


class Colour(Enum):
    RED = "red"


class Level(Enum):
    HIGH = 3


@dataclass(frozen=True)
class Person:
    name: str
    born: date


class Named(TypedDict):
    name: str


class Aged(NamedTuple):
    name: str
    age: int


class Card(msgspec.Struct, frozen=True, tag=True):
    number: str


class Cash(msgspec.Struct, frozen=True, tag=True):
    amount: Decimal


def types() -> dict[str, Any]:
    """The types of ``values.json``."""
    return {
        "null": None,
        "bool": bool,
        "int": int,
        "float": float,
        "str": str,
        "bytes": bytes,
        "datetime": datetime,
        "date": date,
        "time": time,
        "timedelta": timedelta,
        "decimal": Decimal,
        "uuid": UUID,
        "enum of texts": Colour,
        "enum of integers": Level,
        "list of int": list[int],
        "set of int": set[int],
        "tuple of int and str": tuple[int, str],
        "map of str to int": dict[str, int],
        "map of int to str": dict[int, str],
        "map of uuid to int": dict[UUID, int],
        "map of date to int": dict[date, int],
        "dataclass": Person,
        "typed dict": Named,
        "named tuple": Aged,
        "tagged union": Card | Cash,
        "optional datetime": datetime | None,
        "literal": Literal["small", "large"],
    }
