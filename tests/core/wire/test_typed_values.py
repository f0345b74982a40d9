"""Typed arguments and results: what is sent is what the task gets, and what it returns is what ``get`` gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anybroker import App

if TYPE_CHECKING:
    from anybroker.codec import Format

EAST = timezone(timedelta(hours=5, minutes=30))


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Size(StrEnum):
    SMALL = "small"


class Flags(IntFlag):
    A = 1
    B = 2


@dataclass
class Item:
    name: str
    price: Decimal
    tags: set[str] = field(default_factory=set)
    parent: Item | None = None


class Order(msgspec.Struct, frozen=True, rename="camel"):
    order_id: UUID
    items: list[Item]
    placed_at: datetime | None = None


class Address(TypedDict, total=False):
    street: str
    since: date


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Circle(msgspec.Struct, frozen=True, tag="circle"):
    radius: float


class Square(msgspec.Struct, frozen=True, tag="square"):
    side: float


class Account(pydantic.BaseModel):
    name: str
    opened: datetime
    balance: Decimal = Decimal(0)
    secret: bytes = b""
    limit: int = pydantic.Field(default=3, alias="creditLimit")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    at: datetime
    ids: set[UUID]


UTC_NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ITEM = Item("pen", Decimal("1.50"), {"blue"}, Item("box", Decimal(2)))
ORDER = Order(UUID(int=7), [ITEM, Item("ink", Decimal("0.1"))], UTC_NOON)
ACCOUNT = Account(name="Ada", opened=UTC_NOON, balance=Decimal("1.10"), creditLimit=9)

CASES: list[tuple[Any, Any]] = [
    (None, None),
    (bool, True),
    (int, 0),
    (int, -(2**63)),
    (int, 2**64 - 1),
    (float, 0.1),
    (float, 1e300),
    (str, "Grüße 👋 \x00 \u2028"),
    (str, ""),
    (bytes, bytes(range(256))),
    (bytes, b""),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=EAST)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001  naive on purpose
    (date, date(2026, 1, 2)),
    (time, time(3, 4, 5, 6)),
    (time, time(3, 4, tzinfo=EAST)),
    (timedelta, timedelta(days=-3, seconds=1, microseconds=2)),
    (timedelta, timedelta.max),
    (Decimal, Decimal("1.10")),
    (Decimal, Decimal("1E+1000")),
    (UUID, UUID(int=5)),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Size, Size.SMALL),
    (Flags, Flags.A | Flags.B),
    (Literal["a", 1], 1),
    (list[int], [1, 2]),
    (Sequence[Sequence[int]], [[1], []]),
    (set[int], {3, 1}),
    (frozenset[Colour], frozenset({Colour.RED})),
    (tuple[int, str, bytes], (1, "a", b"\xff")),
    (tuple[datetime, ...], (UTC_NOON,)),
    (dict[str, list[Decimal]], {"a": [Decimal(1)], "": []}),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[UUID, Colour], {UUID(int=5): Colour.RED}),
    (dict[date, set[int]], {date(2026, 1, 2): {1}}),
    (dict[bytes, int], {b"\xff": 1}),
    (Mapping[str, Any], {"a": [1, None, {"b": 1.5}]}),
    (Item, ITEM),
    (Order, ORDER),
    (Address, {"street": "x", "since": date(2026, 1, 2)}),
    (Address, {}),
    (Point, Point(1)),
    (Circle | Square, Square(2.0)),
    (list[Circle | Square], [Circle(1.0), Square(2.0)]),
    (Account, ACCOUNT),
    (list[Account | None], [ACCOUNT, None]),
    (dict[str, Account], {"a": ACCOUNT}),
    (Strict, Strict(at=UTC_NOON, ids={UUID(int=1)})),
    (int | str | None, "x"),
    (datetime | None, None),
    (datetime | None, UTC_NOON),
    (Order | None, ORDER),
]


def there_and_back(kind: Any, value: Any, format_: Format, *, how: str = "positional") -> Any:
    """The value as the task got it, and as ``get`` gave it back."""
    app = App("memory://", codec=format_)
    got: list[Any] = []

    def positional(x: Any) -> Any:
        got.append(x)
        return x

    def named(*, x: Any) -> Any:
        return positional(x)

    def rest(*x: Any) -> Any:
        return positional(x[0])

    def named_rest(**x: Any) -> Any:
        return positional(x["key"])

    function: Any = {"positional": positional, "named": named, "rest": rest, "named rest": named_rest}[how]
    function.__annotations__ = {"x": kind, "return": kind}
    task: Any = app.task(name="task")(function)
    with app.testing() as t:
        handle = {
            "positional": lambda: task.send(value),
            "named": lambda: task.send(x=value),
            "rest": lambda: task.send(value),
            "named rest": lambda: task.send(key=value),
        }[how]()
        t.run()
        returned = handle.get(timeout=0)
    return got[0], returned


@pytest.mark.parametrize("format_", ["json", "msgpack"])
@pytest.mark.parametrize(("kind", "value"), CASES, ids=lambda case: f"{case}"[:30])
def test_every_type_comes_back_as_it_was(kind: Any, value: Any, format_: Format) -> None:
    for arrived in there_and_back(kind, value, format_):
        assert arrived == value
        assert type(arrived) is type(value)


@pytest.mark.parametrize("format_", ["json", "msgpack"])
@pytest.mark.parametrize("how", ["named", "rest", "named rest"])
@pytest.mark.parametrize(("kind", "value"), CASES, ids=lambda case: f"{case}"[:30])
def test_in_every_kind_of_parameter(kind: Any, value: Any, format_: Format, how: str) -> None:
    arrived, _ = there_and_back(kind, value, format_, how=how)
    assert arrived == value
    assert type(arrived) is type(value)


def test_integers_of_any_size_in_json() -> None:
    assert there_and_back(int, 2**200, "json") == (2**200, 2**200)


def test_nan_and_infinity_in_messagepack() -> None:
    assert there_and_back(float, math.inf, "msgpack") == (math.inf, math.inf)
    assert all(math.isnan(value) for value in there_and_back(float, math.nan, "msgpack"))


def test_a_moment_keeps_its_offset_in_json_and_its_instant_in_messagepack() -> None:
    moment = datetime(2026, 1, 2, 3, tzinfo=EAST)
    assert there_and_back(datetime, moment, "json")[0].utcoffset() == timedelta(hours=5, minutes=30)
    assert there_and_back(datetime, moment, "msgpack")[0].utcoffset() == timedelta(0)


def test_an_int_for_a_float_and_a_sequence_for_a_list_are_converted() -> None:
    assert type(there_and_back(float, 1, "json")[0]) is float
    assert there_and_back(list[int], (1, 2), "json")[0] == [1, 2]


def test_text_for_a_moment_is_parsed() -> None:
    assert there_and_back(datetime, "2026-01-02T12:00:00Z", "json")[0] == UTC_NOON


@dataclass
class Everything:
    number: int
    ratio: float
    text: str
    data: bytes
    at: datetime
    day: date
    span: timedelta
    amount: Decimal
    id: UUID
    colours: set[Colour]
    by_number: dict[int, tuple[bytes, float]]
    maybe: Everything | None


MINUTES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def everything(maybe: st.SearchStrategy[Everything | None]) -> st.SearchStrategy[Everything]:
    return st.builds(
        Everything,
        number=st.integers(-(2**63), 2**64 - 1),
        ratio=FLOATS,
        text=st.text(),
        data=st.binary(),
        at=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=MINUTES),  # noqa: DTZ001
        day=st.dates(),
        span=st.timedeltas(),
        amount=st.decimals(allow_nan=False),
        id=st.uuids(),
        colours=st.sets(st.sampled_from(Colour)),
        by_number=st.dictionaries(st.integers(-(2**63), 2**63), st.tuples(st.binary(), FLOATS), max_size=3),
        maybe=maybe,
    )


@pytest.mark.parametrize("format_", ["json", "msgpack"])
def test_any_value_comes_back_equal(format_: Format) -> None:
    app = App("memory://", codec=format_)

    @app.task
    def echo(value: Everything) -> Everything:
        return value

    @given(everything(st.none() | everything(st.none())))
    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def check(value: Everything) -> None:
        with app.testing() as t:
            handle = echo.send(value)
            t.run()
            assert handle.get(timeout=0) == value

    check()
