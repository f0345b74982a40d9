"""What redis-py raises, and what becomes of it. No server is needed."""

from __future__ import annotations

import pytest
from redis import exceptions

from anybroker.broker import Message
from anybroker.capabilities import Durability
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import load_backend, load_broker
from anybroker_broker_redis.errors import translated

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
    found = translated(error, "redis://h")
    assert type(found) is BrokerUnavailable
    assert str(error)[:20] in str(found)


@pytest.mark.parametrize("error", FOR_GOOD, ids=str)
def test_what_does_not(error: Exception) -> None:
    assert type(translated(error, "redis://h")) is ConfigurationError


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
