"""A wrong call fails where it is made, and says which parameter; a wrong declaration fails where it stands."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

import pydantic
import pytest

from anybroker import App, ArgumentsError, ConfigurationError

if TYPE_CHECKING:
    from anybroker.codec import Format


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Size(StrEnum):
    SMALL = "small"


class Mixed(Enum):
    A = (1, 2)


class Foreign:
    pass


@dataclass
class Item:
    name: str
    count: int = 1


class Address(TypedDict):
    street: str


class Account(pydantic.BaseModel):
    name: str


@pytest.fixture(params=["json", "msgpack"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    format_: Format = request.param
    app = App("memory://", codec=format_)
    with app.testing():
        yield app


@pytest.fixture
def order(app: App) -> Any:
    @app.task
    def order(
        item: Item,
        count: int = 1,
        /,
        size: str = "s",
        *notes: bytes,
        at: datetime | None = None,
        **more: int,
    ) -> str:
        return f"{item} {count} {size} {notes!r} {at} {more}"

    return order


def ways(task: Any, *args: Any, **kwargs: Any) -> list[Callable[[], Any]]:
    """Every way of making one call."""
    return [
        lambda: task.send(*args, **kwargs),
        lambda: task.s(*args, **kwargs),
        lambda: task._app.send_many([task.s(*args, **kwargs)]),
        lambda: task.options(delay=1).send(*args, **kwargs),
        lambda: task._app.send_by_name(task.name, args, kwargs),
    ]


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "missing": ((), {}, "'item'"),
    "of another type": (("x",), {}, "`item`"),
    "in a dataclass": (({"name": "x", "count": "y"},), {}, "count.*`item`"),
    "field missing": (({"count": 1},), {}, "name.*item"),
    "text for a number": ((Item("x"), "1"), {}, "`count`"),
    "bool for a number": ((Item("x"), True), {}, "`count`"),
    "float for an integer": ((Item("x"), 1.0), {}, "`count`"),
    "number for text": ((Item("x"), 1, 5), {}, "`size`"),
    "bytes for text": ((Item("x"), 1, b"abcd"), {}, "size"),
    "id for text": ((Item("x"), 1, UUID(int=1)), {}, "size"),
    "text for bytes": ((Item("x"), 1, "s", "abcd"), {}, "notes"),
    "number for a moment": ((Item("x"),), {"at": 5}, "`at`"),
    "no moment": ((Item("x"),), {"at": "tomorrow"}, "`at`"),
    "text in **more": ((Item("x"),), {"other": "x"}, "`(other|more)`"),
    "cannot travel": ((Item("x"),), {"other": Foreign()}, "other"),
    "surrogate": ((Item("x"), 1, "\ud800"), {}, "size"),
    "by name and by place": ((Item("x"), 1, "s"), {"size": "m"}, "'size'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_named(order: Any, wrong: str) -> None:
    args, kwargs, named = WRONG[wrong]
    for call in ways(order, *args, **kwargs):
        with pytest.raises(ArgumentsError, match=named) as caught:
            call()
        assert order.name in str(caught.value)
        assert isinstance(caught.value, TypeError)


def test_a_wrong_call_sends_nothing_of_the_batch(app: App, order: Any) -> None:
    with pytest.raises(ArgumentsError):
        app.send_many([order.s(Item("x")), order.s("wrong")])
    assert app.inspect().queues() == []


def test_surplus_arguments_are_refused(app: App) -> None:
    @app.task(name="add")
    def add(a: int, b: int = 2) -> int:
        return a + b

    for args, kwargs, named in [((1, 2, 3), {}, "too many positional"), ((1,), {"c": 1}, "'c'"), ((), {"b": 1}, "'a'")]:
        for call in ways(add, *args, **kwargs):
            with pytest.raises(ArgumentsError, match=rf"add\(\).*{named}"):
                call()


def test_a_worker_of_an_older_version_tells_what_does_not_fit(app: App) -> None:
    """Its sender has a parameter more."""

    @app.task(name="add")
    def add(a: int) -> int:
        return a

    with app.testing() as t:
        newer = App("memory://", broker=t.broker, codec=app.settings.codec)
        newer.send_by_name("add", [1, 2])
        newer.send_by_name("add", [1], {"b": 2})
        t.run()
        reasons = [letter.error.message for letter in t.dead() if letter.error]
        assert reasons == ["add(): too many positional arguments", "add(): got an unexpected keyword argument 'b'"]


def test_parameters_of_every_kind(app: App, order: Any) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with app.testing() as t:
        full = order.send(Item("x", 3), 2, "l", b"\xff", b"", at=at, more=1, item=5, count=6)
        short = order.send({"name": "x"})
        t.run()
        assert full.get() == f"{Item('x', 3)} 2 l (b'\\xff', b'') {at} { {'more': 1, 'item': 5, 'count': 6} }"
        assert short.get() == f"{Item('x')} 1 s () None {{}}"


def test_defaults_are_those_of_the_worker(app: App) -> None:
    @app.task(name="add")
    def add(a: int, b: int = 2, *, c: int = 3) -> int:
        return a + b + c

    assert bytes(add.s(1).args) in (b"[1]", b"\x91\x01")
    assert bytes(add.s(1).kwargs) in (b"{}", b"\x80")


def test_plain_values_need_no_annotation(app: App) -> None:
    @app.task(name="echo")
    def echo(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return x

    plain = [None, True, 1, 2**63, -1.5, 2.0, "é", [], [1, ["x"]], {"a": {"b": None}}]
    with app.testing() as t:
        handles = [echo.send(value) for value in plain]
        t.run()
        assert [handle.get() for handle in handles] == plain


@pytest.mark.parametrize("annotation", [Any, list[Any]])
def test_what_is_nested_too_deep_is_refused(app: App, annotation: Any) -> None:
    def echo(x: Any) -> None:
        pass

    echo.__annotations__["x"] = annotation
    nested: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 3 // 4):
        nested = [nested]
    task = app.task(name="echo")(echo)
    with pytest.raises(ArgumentsError, match="echo"):
        task.send(nested)


CHANGED = [
    (1, 2),
    [(1, 2)],
    {1, 2},
    {"a": {1}},
    Colour.RED,
    Level.HIGH,
    Size.SMALL,
    [Level.HIGH],
    UUID(int=1),
    Item("x"),
    bytearray(b"x"),
    math.nan,
]


@pytest.mark.parametrize("value", CHANGED, ids=repr)
@pytest.mark.parametrize("annotation", [None, Any, "container"])
def test_what_would_change_its_type_in_silence_is_refused(app: App, value: Any, annotation: Any) -> None:
    def echo(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return x

    if annotation:
        echo.__annotations__["x"] = dict[str, Any] if annotation == "container" else annotation
    task: Any = app.task(name="echo")(echo)
    for call in ways(task, {"key": value} if annotation == "container" else value):
        with pytest.raises(ArgumentsError, match=r"echo\(\).*\bx\b"):
            call()


@pytest.mark.parametrize("value", [b"x", datetime(2026, 1, 2, tzinfo=UTC), {1: 2}], ids=repr)
def test_json_refuses_what_only_messagepack_can_say_without_types(value: Any) -> None:
    app = App("memory://")

    @app.task(name="echo")
    def echo(x: Any, y: list[Any]) -> None:
        pass

    for name, args in {"x": (value, []), "y": (1, [value])}.items():
        with app.testing(), pytest.raises(ArgumentsError, match=rf"\b{name}\b"):
            echo.send(*args)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_numbers_that_it_has_not(value: float) -> None:
    app = App("memory://")

    @app.task(name="half")
    def half(x: float) -> float:
        return x / 2

    @app.task(name="halves")
    def halves(x: list[float | None]) -> None:
        pass

    with app.testing():
        for call in (lambda: half.send(value), lambda: halves.send([1.0, None, value]), lambda: halves.send(x=[value])):
            with pytest.raises(ArgumentsError, match=r"\bx\b"):
                call()
        with pytest.raises(ArgumentsError, match="JSON has no"):
            app.send_by_name("elsewhere", [{"x": value}])
        halves.send([1.0, None])


def test_what_cannot_be_written_at_all_is_refused_also_for_a_task_that_lives_elsewhere() -> None:
    app = App("memory://", codec="msgpack")
    endless: list[object] = []
    endless.append(endless)
    with app.testing():
        for value in (2**64, endless):
            with pytest.raises(ArgumentsError, match="elsewhere"):
                app.send_by_name("elsewhere", [value])


def test_messagepack_refuses_integers_beyond_64_bits() -> None:
    app = App("memory://", codec="msgpack")

    @app.task(name="echo")
    def echo(x: int) -> int:
        return x

    with app.testing(), pytest.raises(ArgumentsError, match="x"):
        echo.send(2**64)


UNSUPPORTED = [
    Foreign,
    complex,
    type,
    Callable[[], int],
    threading.Lock,
    list[Foreign],
    dict[str, Foreign | None],
    Mixed,
]


@pytest.mark.parametrize("annotation", UNSUPPORTED, ids=str)
def test_a_type_that_cannot_travel_is_refused_where_it_is_declared(app: App, annotation: Any) -> None:
    def task(fine: int, x: Any) -> None:
        pass

    task.__annotations__["x"] = annotation
    with pytest.raises(ConfigurationError, match=r"'x'.*shop\.task"):
        app.task(name="shop.task")(task)
    assert "shop.task" not in app.tasks


def test_a_union_that_json_cannot_tell_apart_is_refused(app: App) -> None:
    def task(x: datetime | str) -> None:
        pass

    with pytest.raises(ConfigurationError, match="'x'"):
        app.task(task)


def test_a_type_that_is_defined_later(app: App) -> None:
    @app.task(name="later")
    def later(x: Later) -> Later:
        return x

    with app.testing() as t:
        handle = later.send(Later("a"))
        t.run()
        assert handle.get() == Later("a")
    with pytest.raises(ArgumentsError, match="x"):
        later.send("a")  # type: ignore[arg-type]


def test_a_name_that_is_never_defined(app: App) -> None:
    @app.task(name="never")
    def never(x: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    with pytest.raises(ConfigurationError, match=r"never.*'Nowhere'"):
        never.send(1)


def test_a_model_says_what_is_wrong_with_it(app: App) -> None:
    @app.task(name="open")
    def open_(account: Account) -> None:
        pass

    with pytest.raises(ArgumentsError, match=r"account|name"):
        open_.send({"name": 5})  # type: ignore[arg-type]


@dataclass
class Later:
    name: str
