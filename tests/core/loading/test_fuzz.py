"""No text makes URL loading raise anything but ConfigurationError, and no error shows a password."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anybroker.errors import ConfigurationError
from anybroker.loading import Address, load_backend, load_broker, parse_url, read_options, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.loading.conftest import Install

pytestmark = pytest.mark.slow


PIECES = st.sampled_from(
    [
        "redis",
        "sqs",
        "://",
        ":",
        "/",
        "@",
        "?",
        "&",
        "=",
        "#",
        ",",
        "[",
        "]",
        "%",
        "%ff",
        "%00",
        "::1",
        "6379",
        "x",
        " ",
        "+",
    ]
)
ANY_TEXT = st.text(st.characters())  # lone surrogates included
URLS = st.one_of(
    ANY_TEXT,
    st.lists(PIECES | st.text(max_size=3), max_size=15).map("".join),
    st.lists(PIECES | ANY_TEXT, max_size=15).map(lambda parts: "redis://" + "".join(parts)),
)
PASSWORDS = st.text(min_size=1, max_size=40)
FEW_AND_MANY = pytest.mark.parametrize("cases", [100, pytest.param(2500, marks=[pytest.mark.slow, pytest.mark.soak])])


class Colour(Enum):
    RED = "red"


class Options(msgspec.Struct, frozen=True):
    text: str = ""
    flag: bool = False
    count: int = 0
    ratio: float | None = None
    keep: timedelta = timedelta(0)
    colour: Colour = Colour.RED
    names: tuple[str, ...] = ()


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@FEW_AND_MANY
def test_any_text_is_an_address_or_a_configuration_error(cases: int) -> None:
    @settings(max_examples=cases, deadline=None)
    @given(URLS)
    def check(url: str) -> None:
        try:
            address = parse_url(url)
        except ConfigurationError as exc:
            assert len(str(exc).splitlines()) == 1  # noqa: PT017 (both outcomes are right)
            assert str(exc).isprintable()  # noqa: PT017
        else:
            assert url.lower().startswith(f"{address.scheme}://")
            assert str(address).isprintable()

    check()


@FEW_AND_MANY
def test_any_options_are_read_or_a_configuration_error(cases: int) -> None:
    names = st.sampled_from(Options.__struct_fields__) | st.text(min_size=1, max_size=8)
    values = st.one_of(
        st.text(max_size=20), st.from_regex(r"-?[0-9]{1,400}(\.[0-9]+)?[a-z]?", fullmatch=True), st.floats().map(str)
    )

    @settings(max_examples=cases, deadline=None)
    @given(st.dictionaries(names, values, max_size=3))
    def check(query: dict[str, str]) -> None:
        url = "redis://h?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in query.items())
        address = parse_url(url)
        assert address.query == query
        try:
            options = read_options(address, Options)
        except ConfigurationError as exc:
            assert len(str(exc).splitlines()) == 1  # noqa: PT017 (both outcomes are right)
        else:
            assert options.text == query.get("text", "")

    check()


@pytest.mark.parametrize("place", ["redis://u:{}@h/0", "redis://u:{}@h:6379,g?x=1", "redis://h?password={}&db=0"])
def test_an_address_looks_the_same_whatever_the_password(place: str) -> None:
    def show(password: str) -> tuple[str, str, Address]:
        address = parse_url(place.format(quote(password, safe="")))
        return str(address), repr(address), address

    @settings(max_examples=100, deadline=None)
    @given(PASSWORDS)
    def check(password: str) -> None:
        text, representation, address = show(password)
        assert password in {address.password, *address.query.values()}
        assert (text, representation) == show("another")[:2]

    check()


@pytest.mark.parametrize(
    "mistake",
    [
        "reddis://u:{}@h/0",
        "kafka://u:{}@h/0",
        "memcache://u:{}@h",
        "redis://u:{}@h:port",
        "redis://u:{}@::1",
        "redis://u:{}@a,,b",
        "redis://u:{}@h?x=%ff",
        "redis://u:{}@h?x=1&x=2",
        "redis://u:{}@h?x",
        "u:{}@h:6379",
        "reddis://h?auth_token={}",
    ],
)
def test_an_error_reads_the_same_whatever_the_password(mistake: str) -> None:
    shown = error_of(lambda: load_broker(mistake.format("another")))

    @settings(max_examples=50, deadline=None)
    @given(PASSWORDS)
    def check(password: str) -> None:
        url = mistake.format(quote(password, safe=""))
        assert error_of(lambda: load_broker(url)) == shown

    check()


def test_what_a_careless_adapter_says_is_cleaned(install: Install) -> None:
    code = "class Adapter:\n    @classmethod\n    def from_url(cls, url):\n        raise RuntimeError(f'bad: {url}')\n"
    install("acme-queue", "acme_careless", code, backends="acme = acme_careless:Adapter")

    @settings(max_examples=100, deadline=None)
    @given(st.text(min_size=8))
    def check(password: str) -> None:
        text = error_of(lambda: load_backend(f"acme://u:{quote(password, safe='')}@h"))
        assert password not in text
        assert quote(password, safe="") not in text

    check()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1))
def test_redact_finds_passwords_that_should_have_been_encoded(password: str) -> None:
    assert redact(f"lost redis://u:{password}@h/0 again") == "lost redis://u:***@h/0 again"
