from __future__ import annotations

import math
from datetime import timedelta
from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest

from anybroker.errors import ConfigurationError
from anybroker.loading import parse_duration, parse_url, read_options


class Mode(Enum):
    FAST = "fast"
    SAFE = "safe"


class Options(msgspec.Struct, frozen=True):
    prefix: str = "anybroker"
    tls: bool = False
    pool: Annotated[int, msgspec.Meta(ge=1)] = 10
    timeout: float = 5.0
    keep: timedelta = timedelta(hours=1)
    expire: timedelta | None = None
    mode: Mode = Mode.SAFE
    level: Literal[1, 2] = 1
    user: str | None = None
    password: str = ""


class Strict(msgspec.Struct, frozen=True, rename="kebab"):
    project_id: str

    def __post_init__(self) -> None:
        if self.project_id == "none":
            raise ValueError("there is no such project")


def read(query: str) -> Options:
    return read_options(parse_url(f"redis://u:hunter2@h/0?{query}"), Options)


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("", "prefix", "anybroker"),
        ("prefix=a%20b", "prefix", "a b"),
        *[(f"tls={word}", "tls", True) for word in ("yes", "true", "on", "1", "TRUE")],
        *[(f"tls={word}", "tls", False) for word in ("no", "false", "off", "0", "No")],
        ("pool=3", "pool", 3),
        ("timeout=2.5", "timeout", 2.5),
        ("timeout=2", "timeout", 2.0),
        ("keep=7d", "keep", timedelta(days=7)),
        ("expire=90", "expire", timedelta(seconds=90)),
        ("mode=fast", "mode", Mode.FAST),
        ("level=2", "level", 2),
        ("user=null", "user", "null"),
    ],
)
def test_an_option_arrives_with_its_type(query: str, field: str, value: object) -> None:
    found = getattr(read(query), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("query", "value", "expected"),
    [
        ("tls=maybe", "'maybe'", "yes or no"),
        ("pool=many", "'many'", "`int`"),
        ("pool=0", "'0'", "`int` >= 1"),
        ("timeout=soon", "'soon'", "`float`"),
        ("timeout=nan", "'nan'", "a finite number"),
        ("timeout=inf", "'inf'", "a finite number"),
        ("keep=5x", "'5x'", "seconds, or a duration such as 30s, 5m, 2h or 7d"),
        ("keep=-1", "'-1'", "seconds, or a duration such as 30s, 5m, 2h or 7d"),
        (f"keep={'9' * 99}d", f"'{'9' * 60}…'", "seconds, or a duration such as 30s, 5m, 2h or 7d"),
        ("mode=slow", "'slow'", "one of fast, safe"),
        ("level=3", "'3'", "one of 1, 2"),
    ],
)
def test_an_unfit_value_is_named_with_what_is_expected(query: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(query)
    name = query.partition("=")[0]
    assert str(caught.value).startswith(f"option '{name}' in redis://u:***@h/0?… is ")
    assert str(caught.value).endswith(f"is {value}; expected {expected}")


def test_an_unknown_option_names_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("prefx=x")
    assert str(caught.value) == (
        "unknown option 'prefx' in redis://u:***@h/0?…; did you mean 'prefix'? "
        "known: expire, keep, level, mode, password, pool, prefix, timeout, tls, user"
    )


def test_a_far_off_option_gets_no_guess() -> None:
    with pytest.raises(ConfigurationError, match=r"; known: none$"):
        read_options(parse_url("memory://?zzz=1"), msgspec.defstruct("NoOptions", []))


def test_a_misspelt_password_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("pasword=hunter3")
    assert "did you mean 'password'?" in str(caught.value)
    assert "hunter3" not in str(caught.value)


def test_an_option_goes_by_its_published_name() -> None:
    assert read_options(parse_url("x://?project-id=p"), Strict) == Strict("p")
    with pytest.raises(ConfigurationError, match=r"unknown option 'project_id'.*did you mean 'project-id'"):
        read_options(parse_url("x://?project_id=p"), Strict)


def test_a_required_option_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match=r"^x:// needs the option 'project-id'$"):
        read_options(parse_url("x://"), Strict)


def test_what_the_options_themselves_refuse_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="there is no such project") as caught:
        read_options(parse_url("x://?project-id=none"), Strict)
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_value_of_a_secret_option_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"option 'password' in x://\?… is \*\*\*") as caught:
        read_options(parse_url("x://?password=hunter2"), msgspec.defstruct("Pin", [("password", int)]))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("5 m", 300),
        ("7D", 604800),
        ("2w", 1209600),
        (0.5, 0.5),
    ],
)
def test_durations(value: str | float, seconds: float) -> None:
    assert parse_duration(value) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "s", "-5s", "1h30m", "nan", "٣s", "1e3"])
def test_a_text_that_is_no_duration_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="a duration such as 30s"):
        parse_duration(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, 10**400], ids=["nan", "inf", "1e300", "10**400"])
def test_a_number_that_is_no_duration_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="a duration such as 30s"):
        parse_duration(value)
