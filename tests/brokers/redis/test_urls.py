"""What a Redis URL may say, and what is said of one that cannot work. No server is needed."""

from __future__ import annotations

import pytest

from anybroker.errors import ConfigurationError
from anybroker.loading import load_backend, load_broker
from anybroker_broker_redis.options import database, read_url

GOOD = [
    "redis://localhost",
    "redis://localhost:6379/3",
    "redis://user:s3cret@localhost/0?prefix=shop",
    "redis://:s3cret@[::1]:6379",
    "rediss://localhost?tls_ca=/etc/ca.pem&tls_cert=/etc/c.pem&tls_key=/etc/k.pem",
    "rediss://localhost?tls_verify=no",
    "redis+unix:///var/run/redis.sock?db=2",
    "unix:///var/run/redis.sock",
    "redis+sentinel://h1:26379,h2,h3/1?service=mymaster&sentinel_password=s3cret",
    "redis+cluster://h1:7000,h2:7001?tls=yes",
    "redis://localhost?timeout=2s&replicas=1&protocol=3&max_body=1000&group_ttl=1h&durability=power%20cut",
]
BAD = {
    "redis://": "which server?",
    "redis:///0": "which server?",
    "redis://h1,h2": "redis+sentinel:// or redis+cluster://",
    "redis://localhost/mydb": "number of a database",
    "redis://localhost/1?db=2": "give the database once",
    "redis://localhost?service=mymaster": "belongs to sentinels",
    "redis+sentinel://localhost": "'service'",
    "redis+cluster://localhost/1": "no database but 0",
    "redis+unix://localhost/x.sock": "three slashes",
    "redis+unix:///": "which socket?",
    "redis+unix:///x.sock?tls=yes": "not encrypted",
    "redis://localhost?tls_ca=x": "no TLS",
    "rediss://localhost?tls_cert=x": "go together",
    "redis://localhost?prefx=x": "did you mean 'prefix'?",
    "redis://localhost?prefix={x}": "braces",
    "redis://localhost?prefix=": "prefix",
    "redis://localhost?timeout=0": "more than nothing",
    "redis://localhost?protocol=4": "protocol",
    "redis://localhost?replicas=-1": "replicas",
    "redis://user@localhost": "a user and no password",
}


@pytest.mark.parametrize("url", GOOD)
def test_nothing_is_connected_and_nothing_secret_is_shown(url: str) -> None:
    for load in (load_broker, load_backend):
        adapter = load(url)
        assert "s3cret" not in repr(adapter)
        adapter.close()
    assert not any("s3cret" in f"{part!s} {part!r} {part.__rich_repr__()}" for part in read_url(url))


@pytest.mark.parametrize("url", BAD)
def test_a_mistake_says_what_to_write(url: str) -> None:
    for load in (load_broker, load_backend):
        with pytest.raises(ConfigurationError) as caught:
            load(url)
        assert BAD[url] in str(caught.value)


@pytest.mark.parametrize(
    ("url", "number"),
    [("redis://h", 0), ("redis://h/", 0), ("redis://h/7", 7), ("redis://h?db=3", 3), ("unix:///a/1?db=4", 4)],
)
def test_the_database(url: str, number: int) -> None:
    assert database(*read_url(url)) == number
