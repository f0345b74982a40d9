from __future__ import annotations

from typing import Any, cast

import pytest

from anybroker.errors import ConfigurationError
from anybroker.loading import Address, parse_url, redact


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("memory://", Address("memory")),
        ("memory://Shared", Address("memory", hosts=(("Shared", None),))),
        ("sqlite:///anybroker.db", Address("sqlite", path="/anybroker.db")),
        ("sqlite:////tmp/x.db", Address("sqlite", path="//tmp/x.db")),
        ("sqlite:///my%20file.db", Address("sqlite", path="/my file.db")),
        ("redis+unix:///run/r.sock?db=1", Address("redis+unix", path="/run/r.sock", query={"db": "1"})),
        ("REDIS://Host:6379/0", Address("redis", hosts=(("Host", 6379),), path="/0")),
        ("redis://:pw@h", Address("redis", password="pw", hosts=(("h", None),))),
        ("redis://u:@h", Address("redis", user="u", password="", hosts=(("h", None),))),
        ("redis://u@h", Address("redis", user="u", hosts=(("h", None),))),
        ("redis://:6379", Address("redis", hosts=(("", 6379),))),
        ("redis://u%40x:p%3A%2F%40@h", Address("redis", user="u@x", password="p:/@", hosts=(("h", None),))),
        ("redis://u:p@ss@h", Address("redis", user="u", password="p@ss", hosts=(("h", None),))),
        ("redis://[::1]:6379", Address("redis", hosts=(("::1", 6379),))),
        ("redis://[fe80::1%25eth0]", Address("redis", hosts=(("fe80::1%eth0", None),))),
        ("amqp://a,b:5673/v", Address("amqp", hosts=(("a", None), ("b", 5673)), path="/v")),
        ("amqp://a/%2F", Address("amqp", hosts=(("a", None),), path="//")),
        ("amqp://a/", Address("amqp", hosts=(("a", None),), path="/")),
        ("mongodb://%2Ftmp%2Fm.sock/db", Address("mongodb", hosts=(("/tmp/m.sock", None),), path="/db")),  # noqa: S108
        (
            "redis://h?a=1&b=x%26y&c=&d=1+1",
            Address("redis", hosts=(("h", None),), query=dict(zip("abcd", ["1", "x&y", "", "1+1"], strict=True))),
        ),
    ],
)
def test_takes_a_url_apart(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("localhost:6379", "redis://localhost:6379"),
        ("redis:6379", "redis://redis:6379"),
        ("rabbit:5672", "amqp://rabbit:5672"),
        ("mongo:27017/db", "mongodb://mongo:27017/db"),
        ("user:hunter2@host:6379", "redis://user:***@host:6379"),
        ("somewhere", "redis://somewhere"),
        ("memory", "memory://"),
        ("redis:/u:hunter2@host", "redis://u:***@host"),
        ("sqlite:x.db", "sqlite:///x.db"),
        ("/tmp/x.db", "sqlite:////tmp/x.db"),  # noqa: S108
        ("anybroker.db", "sqlite:///anybroker.db"),
        ("./data/tasks.sqlite3", "sqlite:///./data/tasks.sqlite3"),
    ],
)
def test_an_address_without_a_scheme_is_told_what_to_write(text: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(text)
    assert str(caught.value) == f"the URL has no scheme; write {meant}"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "not an empty text"),
        (None, "not a value of type NoneType"),
        (b"redis://h", "not a value of type bytes"),
        ("://h", "begins with a scheme"),
        ("a b://h", "begins with a scheme"),
        ("u:hunter2@h/?next=http://x", "begins with a scheme"),
        ("redis://h:port", "a port is a number"),
        ("redis://h:", "a port is a number"),
        ("redis://h:0", "a port is a number"),
        ("redis://h:65536", "a port is a number"),
        ("redis://h:٣", "a port is a number"),
        ("redis://::1", "in brackets"),
        ("redis://[::1", "in brackets"),
        ("amqp://a,,b", "one of its hosts is empty"),
        ("redis://cache..example", "between the dots of a host's name"),
        ("redis://a,.b:6379", "between the dots of a host's name"),
        (f"redis://{64 * 'x'}.example", "between the dots of a host's name"),
        ("redis://" + 64 * "ü", "between the dots of a host's name"),
        ("redis://u:hun/ter2@h", "/ as %2F"),
        ("redis://u:hun?ter2@h", "? as %3F"),
        ("redis://u:x@hun/ter2@h", "@ as %40"),
        ("redis://u:hun#ter2@h", "# as %23"),
        ("redis://u:hun ter2@h", "blanks as %20"),
        ("redis://h\n", "control character"),
        ("redis://u:hunter2\x00@h", "control character"),
        (" redis://h", "begins with a scheme"),
        ("redis://h ", "blank at its start or end"),
        ("redis://u:hunter2%ff@h", "not UTF-8"),
        ("redis://h?prefix", "name=value"),
        ("redis://h?=x", "name=value"),
        ("redis://h?password=hunter2&password=hunter2", "the option 'password' is given twice"),
    ],
)
def test_a_malformed_url_is_told_what_is_wrong(url: object, part: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(cast("Any", url))
    text = str(caught.value)
    assert part in text
    assert "\n" not in text
    assert not any(piece in text for piece in ("hunter2", "ter2@"))


def test_secrets_are_masked_wherever_an_address_is_shown() -> None:
    address = parse_url("redis://u%3A:hun%2Fter2@[::1]:6379,b/0?auth_token=hunter3&db=1")
    assert str(address) == "redis://u%3A:***@[::1]:6379,b/0?…"
    assert repr(address).endswith("path='/0', query={'auth_token': '***', 'db': '1'})")
    for shown in (repr(address), f"{address}", str(address.__rich_repr__())):
        assert not any(secret in shown for secret in ("hun/ter2", "hun%2Fter2", "hunter3"))
    assert address.password == "hun/ter2"
    assert address.secrets() == ["hun/ter2", "hunter3"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no URL: a@b", "no URL: a@b"),
        ("lost redis://h:6379/0 again", "lost redis://h:6379/0 again"),
        ("lost redis://u:hunter2@h:6379/0 again", "lost redis://u:***@h:6379/0 again"),
        ("redis://:hunter2@h", "redis://:***@h"),
        ("redis://u:hun/t@er?2@h", "redis://u:***@h"),
        ("amqp://u:p@a and amqp://u:q@b", "amqp://u:***@a and amqp://u:***@b"),
        ("x://h?db=1&password=p&y=2", "x://h?db=1&password=***&y=2"),
        ("x://h?aws_secret_access_key=p;SSL_KEY=q", "x://h?aws_secret_access_key=***"),
        ("x://h?authSource=admin&keyspace=k", "x://h?authSource=admin&keyspace=k"),
    ],
)
def test_redact_masks_what_is_secret_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_redact_takes_time_in_proportion_to_the_text() -> None:
    hostile = "a://" * 20_000 + "?" * 20_000
    assert redact(hostile) == hostile
