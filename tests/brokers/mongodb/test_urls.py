"""What a URL may say, and that what is wrong with it is said without its password. No server is needed."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from anybroker.capabilities import Durability, Guarantee
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_backend, load_broker
from anybroker_backend_mongodb import MongoBackend
from anybroker_broker_mongodb import MongoBroker
from anybroker_broker_mongodb.urls import BrokerOptions, read_url
from tests.brokers.mongodb.scripted import ALONE, MEMBER, ScriptedMongo, refusal


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://localhost",
        "mongodb://localhost/tasks",
        "mongodb://u:p%40ss@h1:27017,h2:27018,h3/tasks?replicaSet=rs0&authSource=admin&w=majority",
        "mongodb://localhost/?tls=true&tlsAllowInvalidCertificates=true",
        "mongodb://localhost/tasks?prefix=mail.&max_body=1000&wake=poll",
        "mongodb+srv://u:p@cluster.example.com/tasks?retryWrites=true",
    ],
)
def test_urls_that_are_right_connect_to_nothing_yet(url: str) -> None:
    load_broker(url).close()
    load_backend(url).close()


def test_our_options_are_not_shown_to_pymongo() -> None:
    target = read_url("mongodb://h/tasks?prefix=a.&appName=x&wake=poll", BrokerOptions)
    assert target.url == "mongodb://h/tasks?appName=x"
    assert (target.database, target.options.prefix) == ("tasks", "a.")


def test_the_database_has_a_default() -> None:
    assert read_url("mongodb://h", BrokerOptions).database == "anybroker"
    assert read_url("mongodb://h?w=2", BrokerOptions).url == "mongodb://h/?w=2"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mongodb://", "names no host"),
        ("mongodb://h/a b", "names no database"),
        ("mongodb://h/a/b", "names no database"),
        ("mongodb://h/?prefixx=a", "did you mean 'prefix'?"),
        ("mongodb://h/?replicaSett=a", "did you mean 'replicaset'?"),
        ("mongodb://h/?wake=never", "expected one of auto, stream, poll"),
        ("mongodb://h/?max_body=99999999", "max_body"),
        ("mongodb://h/?prefix=%24a", "prefix"),
        ("mongodb://h/?w=0", "lost unnoticed"),
        ("mongodb://h/?maxPoolSize=many", "maxpoolsize"),
        ("mongodb://u:secret@h/?readPreference=secret", "***"),
        ("mongodb://h/?group_ttl=0", "group_ttl"),
    ],
)
def test_urls_that_are_wrong(url: str, said: str) -> None:
    for load in (load_broker, load_backend):
        with pytest.raises(ConfigurationError) as raised:
            load(url)
        assert said in str(raised.value)
        assert "secret@" not in str(raised.value)


@pytest.mark.parametrize(
    ("query", "is_final"),
    [
        ("", True),
        ("&w=majority", True),
        ("&w=majority&journal=true", True),
        ("&w=majority&journal=false", False),
        ("&w=1", False),
        ("&w=2", False),
        ("&w=nearby", False),
    ],
)
@pytest.mark.parametrize("hello", [ALONE, MEMBER], ids=["alone", "member"])
def test_the_write_concern_decides_what_is_declared(query: str, is_final: bool, hello: dict[str, Any]) -> None:
    """With less than a majority, the next primary may not have what was confirmed, and a journal does not help."""
    with ScriptedMongo(hello=hello) as server:
        assert declared(f"{server.url}{query}") == (is_final, is_final)


@pytest.mark.parametrize(("hello", "is_final"), [(ALONE, True), (MEMBER, False)], ids=["alone", "member"])
def test_a_journal_is_enough_for_a_server_alone(hello: dict[str, Any], is_final: bool) -> None:
    """Where there is nobody to become primary in its place; as long as it has not answered, nobody knows."""
    with ScriptedMongo(hello=hello) as server:
        assert declared(f"{server.url}&w=1&journal=true") == (False, is_final)


def declared(url: str) -> tuple[bool, bool]:
    """Whether writes are declared to be final, before a server has answered and afterwards."""
    found = []
    with closing(MongoBroker.from_url(url)) as broker, closing(MongoBackend.from_url(url)) as backend:
        for _ in range(2):
            ours, theirs = broker.capabilities, backend.capabilities
            guarantees = {ours.exclusive, ours.fencing, ours.final, ours.update}
            durabilities = {ours.durability, theirs.durability}
            assert theirs.exact_join == theirs.exact_claim == (guarantees == {Guarantee.EXACT})
            assert durabilities == {Durability.POWER_CUT if theirs.exact_join else Durability.PROCESS}
            found.append(theirs.exact_join)
            assert broker.acquire(["q"], limit=1, wait=0, lease=1) == []
            assert backend.fetch(["x"]) == [None]
    before, after = found
    return before, after


def test_a_name_that_is_not_resolved_may_be_resolved_later() -> None:
    """Be it an outage of the name service or a name that nobody knows, which pymongo does not tell apart."""
    with closing(load_broker("mongodb+srv://user:secret@db.anybroker.invalid/?connectTimeoutMS=500")) as broker:
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="could not be resolved") as raised:
                broker.acquire(["q"], limit=1, wait=0, lease=1)
            assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (8, "an unknown error", BrokerUnavailable),
        (8000, "bad auth : Authentication failed.", ConfigurationError),
        (8000, "user is not allowed to do action [find] on [tasks.messages]", BrokerUnavailable),
        (13, "not authorized on tasks", ConfigurationError),
    ],
)
def test_what_a_repetition_may_mend(code: int, text: str, error: type[Exception]) -> None:
    """Code 8000 is what Atlas says of everything, also of an overload."""
    with (
        ScriptedMongo(lambda name, _: refusal(code, text) if name == "aggregate" else None) as server,
        closing(load_broker(server.url)) as broker,
        pytest.raises(error, match=re.escape(text)),
    ):
        broker.acquire(["q"], limit=1, wait=0, lease=1)


def test_a_server_that_is_down_is_said_soon_and_without_the_password() -> None:
    broker = load_broker("mongodb://user:secret@127.0.0.1:1/tasks?serverSelectionTimeoutMS=300")
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as raised:
        broker.acquire(["q"], limit=1, wait=0, lease=1)
    broker.close()
    assert time.monotonic() - began < 10
    assert "secret" not in f"{raised.value!r} {raised.value.__cause__!r} {broker!r}"
    assert raised.value.__cause__ is not None


def test_threads_that_begin_while_no_server_answers_do_not_wait_for_one_another() -> None:
    """Else the last of those that a program begins with is answered after all others have given up, one by one."""
    number = 16
    with (
        closing(load_broker("mongodb://127.0.0.1:1/tasks?serverSelectionTimeoutMS=500")) as broker,
        ThreadPoolExecutor(number) as pool,
    ):
        began = time.monotonic()
        calls = [pool.submit(broker.acquire, ["q"], limit=1, wait=0, lease=1) for _ in range(number)]
        assert {type(call.exception()) for call in calls} == {BrokerUnavailable}
        assert time.monotonic() - began < number * 0.5 / 2


def test_tools_that_print_structures_show_no_password() -> None:
    """As those do that print a traceback with its variables."""
    target = read_url("mongodb://user:secret@h/tasks?authMechanismProperties=AWS_SESSION_TOKEN:secret", BrokerOptions)
    assert "secret" not in f"{target!r} {[*target.__rich_repr__()]}"
