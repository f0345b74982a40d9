"""What redis-py raises, and what becomes of it. No server is needed."""

from __future__ import annotations

import traceback
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from redis import exceptions

from anybroker.backend import Result, State
from anybroker.broker import Delivery, Message
from anybroker.capabilities import Durability
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_backend, load_broker, parse_url
from anybroker_backend_redis import RedisBackend
from anybroker_broker_redis import RedisBroker
from anybroker_broker_redis.errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable

FOR_NOW = [
    exceptions.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."),
    exceptions.TimeoutError("Timeout reading from socket"),
    exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    exceptions.ReadOnlyError("You can't write against a read only replica."),
    exceptions.ResponseError("BUSY Redis is busy running a script."),
    exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
    exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it is unable to."),
    exceptions.ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"),
    exceptions.ResponseError("Error running script: @user_script: 12: -OOM command not allowed"),
    exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"),
    exceptions.TryAgainError("TRYAGAIN Multiple keys request during rehashing of slot"),
    exceptions.AskError("12019 127.0.0.1:7001"),
    exceptions.MovedError("12019 127.0.0.1:7002"),
    ConnectionResetError(104, "Connection reset by peer"),
]
FOR_GOOD = [
    exceptions.AuthenticationError("invalid username-password pair or user is disabled."),
    exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"),
    exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    exceptions.ResponseError("unknown command 'ZMSCORE'"),
]


@pytest.mark.parametrize("error", FOR_NOW, ids=str)
def test_what_passes(error: Exception) -> None:
    found = translated(error, parse_url("redis://h"))
    assert type(found) is BrokerUnavailable
    assert str(error)[:20] in str(found)


@pytest.mark.parametrize("error", FOR_GOOD, ids=str)
def test_what_does_not(error: Exception) -> None:
    assert type(translated(error, parse_url("redis://h"))) is ConfigurationError


@pytest.mark.parametrize(
    "command", ["`HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cr", "'AUTH' 's3cret'"]
)
def test_no_secret_in_what_it_came_from(command: str) -> None:
    """A cluster's client repeats what the nodes said; a server repeats the beginning of the arguments."""
    url = parse_url("redis+cluster://:s3cret@h")
    error = exceptions.RedisClusterException(f"not one node can be reached: unknown command {command}")
    error.__cause__ = exceptions.ResponseError(f"unknown command {command}")
    error.__cause__.__context__ = exceptions.ResponseError(f"unknown command {command}")
    said = "".join(traceback.format_exception(translated(error, url))) + "".join(traceback.format_exception(error))
    assert said.count("unknown command") == 4
    assert "s3cr" not in said


WRONG = "lone \ud800 surrogate"
HELD = Delivery(Message("1", "q", b""), b"lease", 1, datetime.now(UTC))
IN_THE_BROKER: dict[str, Callable[[RedisBroker], object]] = {
    "id": lambda broker: broker.enqueue([Message("1", "q", b""), Message(WRONG, "q", b"")]),
    "queue": lambda broker: broker.enqueue([Message("1", WRONG, b"")]),
    "ordering key": lambda broker: broker.enqueue([Message("1", "q", b"", ordering_key=WRONG)]),
    "update": lambda broker: broker.update([(HELD, Message("1", "q", b"", ordering_key=WRONG))]),
    "acquire": lambda broker: broker.acquire([WRONG], limit=1, wait=1, lease=1),
    "stats": lambda broker: broker.stats(WRONG),
    "remove": lambda broker: broker.remove("q", [WRONG]),
}
IN_THE_BACKEND: dict[str, Callable[[RedisBackend], object]] = {
    "store": lambda backend: backend.store([Result(WRONG, State.RUNNING, 1)], ttl=None),
    "fetch": lambda backend: backend.fetch(["1", WRONG]),
    "wait": lambda backend: backend.wait([WRONG], timeout=1),
    "forget": lambda backend: backend.forget([WRONG]),
    "group": lambda backend: backend.join(WRONG, "m", size=1),
    "member": lambda backend: backend.join("g", WRONG, size=1),
    "seal": lambda backend: backend.seal(WRONG),
    "claim": lambda backend: backend.claim(WRONG, ttl=1),
    "release": lambda backend: backend.release(WRONG, "t"),
    "token": lambda backend: backend.release("c", WRONG),
}


@pytest.mark.parametrize("call", IN_THE_BROKER.values(), ids=IN_THE_BROKER)
def test_a_name_that_is_no_unicode(call: Callable[[RedisBroker], object]) -> None:
    """It is refused before anything is sent, so that no server need be there."""
    with (
        closing(RedisBroker("redis://127.0.0.1:1")) as broker,
        pytest.raises(ConfigurationError, match="valid Unicode"),
    ):
        call(broker)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.parametrize("call", IN_THE_BACKEND.values(), ids=IN_THE_BACKEND)
def test_a_result_whose_name_is_no_unicode(call: Callable[[RedisBackend], object], scheme: str) -> None:
    with (
        closing(RedisBackend(f"{scheme}://127.0.0.1:1")) as backend,
        pytest.raises(ConfigurationError, match=r"valid Unicode.*ud800"),
    ):
        call(backend)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel", "redis+unix"])
def test_nobody_answers(scheme: str) -> None:
    """The error says where, keeps its cause, and shows no password."""
    url = {
        "redis+unix": "redis+unix:///nowhere/redis.sock",
        "redis+sentinel": "redis+sentinel://u:s3cret@127.0.0.1:1/0?service=m&sentinel_password=s3cret2",
    }.get(scheme, f"{scheme}://u:s3cret@127.0.0.1:1")
    broker, backend = load_broker(url), load_backend(url)
    assert broker.capabilities.durability is Durability.PROCESS
    calls = (
        lambda: broker.enqueue([Message("1", "q", b"x")]),
        lambda: broker.acquire(["q"], limit=1, wait=1, lease=1),
        lambda: backend.fetch(["1"]),
        lambda: backend.wait(["1"], timeout=1),
    )
    for call in calls:
        with pytest.raises(BrokerUnavailable) as caught:
            call()
        assert "s3cret" not in str(caught.value)
        assert scheme in str(caught.value)
        assert caught.value.__cause__ is not None
    broker.close()
    backend.close()
