"""What a URL may say, which keys and expirations items get. No server is needed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_backend
from anybroker_backend_memcache import items
from anybroker_backend_memcache.urls import read_url


@pytest.mark.parametrize(
    "url",
    ["memcache://h", "memcache://h1:1,h2:2,[::1]:3?prefix=a:&tls=yes", "memcache+unix:///run/memcached.sock"],
)
def test_urls_that_are_right_connect_to_nothing_yet(url: str) -> None:
    load_backend(url).close()


def test_the_port_has_a_default() -> None:
    assert read_url("memcache://a,b:1").servers == (("a", 11211), ("b", 1))
    assert read_url("memcache+unix:///run/m.sock").servers == ("/run/m.sock",)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memcache://", "write memcache://host1:11211"),
        ("memcache://h/0", "without a path"),
        ("memcache://h,h", "names a server twice"),
        ("memcache://user:secret@h", "without user and password"),
        ("memcache+unix://h/x", "names no socket"),
        ("memcache+unix://", "names no socket"),
        ("memcache://h?prefixx=a", "did you mean 'prefix'?"),
        ("memcache://h?prefix=a%20b", "prefix"),
        ("memcache://h?tls_ca=/none", "needs tls=yes"),
        ("memcache://h?tls=yes&tls_ca=/none", "No such file"),
        ("memcache+unix:///run/m.sock?tls=yes", "is not encrypted"),
        ("memcache://h?timeout=soon", "seconds, or a duration"),
        ("memcache://h?timeout=0", "'timeout' must be more than nothing"),
        ("memcache://h?connect_timeout=0", "'connect_timeout' must be more than nothing"),
        ("memcache://h?group_ttl=0", "'group_ttl' must be more than nothing"),
    ],
)
def test_urls_that_are_wrong(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_backend(url)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_server_that_is_down_is_said_at_once() -> None:
    backend = load_backend("memcache://127.0.0.1:1")
    with pytest.raises(BrokerUnavailable, match="refused") as raised:
        backend.fetch(["x"])
    assert isinstance(raised.value.__cause__, OSError)
    backend.close()


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_every_name_has_a_valid_key_of_its_own(names: list[str]) -> None:
    keys = [items.key("p:", "result", name) for name in names]
    assert keys[0] != keys[1]
    for key in keys:
        assert len(key) <= items.MAX_KEY
        assert all(33 <= ord(char) <= 126 for char in key)


def test_kinds_do_not_share_keys() -> None:
    for name in ("x", "é" * 100, "lock:x"):
        assert len({items.key("p:", kind, name) for kind in ("result", "group", "lock")}) == 3


@pytest.mark.parametrize("name", ["\ud800", "a" * 300 + "\udfff"])
def test_what_is_no_unicode_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        items.key("p:", "result", name)


@pytest.mark.parametrize("ttl", [0.1, 1, 59.9, 29 * 86400])
def test_what_expires_soon_has_two_seconds_more(ttl: float) -> None:
    assert ttl + 2 <= items.expiry(ttl) <= ttl + 3


@pytest.mark.parametrize("ttl", [30 * 86400, 31 * 86400, 10 * 365 * 86400])
def test_what_expires_late_is_given_as_a_moment(ttl: float) -> None:
    assert ttl <= items.expiry(ttl) - time.time() <= ttl + 3


def test_what_lives_longer_than_moments_can_be_told_lives_for_ever() -> None:
    assert items.expiry(None) == items.expiry(200 * 365 * 86400) == items.expiry(float("inf")) == 0
