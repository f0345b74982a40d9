"""What happens to a Redis server in its life, and that nothing is lost by it."""

from __future__ import annotations

import secrets
import socket
import threading
import time
import traceback
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py

from anybroker import App
from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.capabilities import Durability
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker_backend_redis import RedisBackend
from anybroker_broker_redis import RedisBroker
from anybroker_broker_redis.scripts import script
from anybroker_conformance.faults.server import ServerProcess
from anybroker_conformance.services.redis import SERVER
from tests.brokers.redis.route import Route
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anybroker.broker import Delivery
    from anybroker_conformance.services import Running
    from tests.brokers.redis.conftest import Guarded

pytestmark = [pytest.mark.services, pytest.mark.slow]

NUMBER = 1200


@pytest.fixture
def admin(redis: Running) -> Iterator[Any]:
    """An administrator's client of an empty server."""
    with redis_py.Redis(port=redis.ports["redis"]) as client:
        client.flushall()
        yield client


@pytest.fixture
def broker(redis: Running, admin: Any) -> Iterator[RedisBroker]:  # noqa: ARG001  the server is empty
    broker = RedisBroker(redis.url)
    yield broker
    with suppress(BrokerUnavailable):
        broker.close()


def messages(number: int = NUMBER, queue: str = "q", **fields: Any) -> list[Message]:
    return [Message(f"{queue}{n}", queue, b"body", **fields) for n in range(number)]


def drain(broker: RedisBroker, *queues: str) -> list[str]:
    """The ids of what is acknowledged until nothing is left."""
    found: list[str] = []
    while taken := broker.acquire(queues or ["q"], limit=400, wait=0.2, lease=30):
        assert all(broker.ack(taken))
        found += [one.message.id for one in taken]
    return found


def drain_all(broker: RedisBroker, ids: set[str], *queues: str) -> None:
    """Wait until all these have been found, and nothing else."""
    found: set[str] = set()

    def complete() -> bool:
        found.update(drain(broker, *queues))
        return len(found) >= len(ids)

    until(complete, why=lambda: f"{sorted(ids - found)} did not come")
    assert found == ids


def patiently(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call answers as soon as it does not raise ``BrokerUnavailable``."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return call(*args, **kwargs)
        except BrokerUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_scripts_are_loaded_again(broker: RedisBroker, admin: Any) -> None:
    """In the order of the messages, also when they are many and the server forgets its scripts meanwhile."""
    sent = messages()
    stop = threading.Event()

    def forget() -> None:
        while not stop.is_set():
            admin.script_flush()

    thread = threading.Thread(target=forget)
    thread.start()
    try:
        broker.enqueue(sent)
        held = broker.acquire(["q"], limit=10, wait=1, lease=30)
        assert broker.extend(held, lease=30) == [True] * 10
        assert broker.update([(one, one.message) for one in held]) == [True] * 10
        assert drain(broker) == [one.id for one in sent]
    finally:
        stop.set()
        thread.join()


def test_connections_are_killed(broker: RedisBroker, admin: Any) -> None:
    """A call on its way raises, all others find out by themselves; leases live on."""
    broker.enqueue(messages(3))
    held = broker.acquire(["q"], limit=1, wait=0, lease=30)
    for _ in range(20):
        admin.client_kill_filter(_type="normal", skipme=True)
        assert broker.stats("q").total == 3
    waiting: list[Sequence[Delivery]] = []
    thread = threading.Thread(target=lambda: waiting.append(patiently(broker.acquire, ["w"], limit=1, wait=9, lease=9)))
    thread.start()
    until(lambda: admin.info("clients")["blocked_clients"])
    admin.client_kill_filter(_type="normal", skipme=True)
    patiently(broker.enqueue, messages(1, "w"))
    thread.join(15)
    assert [one.message.id for one in waiting[0]] == ["w0"]
    assert broker.ack(held) == [True]


def test_connections_may_be_lost_any_number_of_times(url: str) -> None:
    """At every kind of URL."""
    with closing(RedisBroker(url)) as broker:
        broker.enqueue(messages(1, "lost"))
        for _ in range(110):
            number = broker._link.send("CLIENT", "ID")
            broker._link.send("CLIENT", "KILL", "ID", number, "SKIPME", "no")
            assert patiently(broker.stats, "lost").total == 1
        assert broker.purge("lost") == 1


def test_the_memory_is_used_up(broker: RedisBroker, admin: Any) -> None:
    """New messages are refused, with the reason; work goes on, and makes room."""
    broker.enqueue(messages())
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable, match="maxmemory") as caught:
            broker.enqueue(messages(700, "late"))
        assert caught.value.stored == frozenset()
        held = broker.acquire(["q"], limit=2, wait=0, lease=30)
        assert broker.extend(held, lease=30) == [True, True]
        assert broker.update([(held[0], held[0].message)]) == [True]
        assert broker.ack(held[1:]) == [True]
    finally:
        admin.config_set("maxmemory", 0)
    assert len(drain(broker, "q", "late")) == NUMBER - 1


def test_a_server_that_may_not_be_written_to(broker: RedisBroker, admin: Any) -> None:
    """A replica, or a master that was replaced."""
    broker.enqueue(messages(2))
    held = broker.acquire(["q"], limit=1, wait=0, lease=30)
    admin.replicaof("127.0.0.1", 1)
    try:
        for call in (
            lambda: broker.enqueue(messages(1, "late")),
            lambda: broker.ack(held),
            lambda: broker.acquire(["q"], limit=1, wait=0.2, lease=30),
        ):
            with pytest.raises(BrokerUnavailable):
                call()
    finally:
        admin.replicaof("NO", "ONE")
    assert broker.ack(held) == [True]
    assert drain(broker, "q", "late") == ["q1"]


def test_a_server_that_is_busy_with_a_script(broker: RedisBroker, admin: Any, redis: Running) -> None:
    admin.config_set("lua-time-limit", 50)
    port = redis.ports["redis"]

    def loop() -> None:
        with redis_py.Redis(port=port) as other, suppress(redis_py.RedisError):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        with pytest.raises(BrokerUnavailable, match="BUSY"):
            send_until_it_raises(broker)
    finally:
        admin.script_kill()
        thread.join()
    patiently(broker.enqueue, messages(1))
    assert drain(broker) == ["q0"]


def send_until_it_raises(broker: RedisBroker) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        broker.enqueue(messages(1))


def test_a_server_that_stands_still(redis: Running, admin: Any) -> None:  # noqa: ARG001  the server is empty
    """Calls give up after ``timeout``; what they asked for may have happened, and is not lost."""
    impatient = RedisBroker(f"{redis.url}?timeout=2s")
    impatient.enqueue(messages(2))
    redis.pause()
    try:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            impatient.acquire(["q"], limit=1, wait=0, lease=0.5)
        assert time.monotonic() - started < 20
    finally:
        redis.resume()
    deadline = time.monotonic() + 60
    found: set[str] = set()
    while len(found) < 2:
        found |= set(patiently(drain, impatient))
        assert time.monotonic() < deadline
    impatient.close()


def test_who_waits_for_a_server_that_stands_still(redis: Running, broker: RedisBroker) -> None:
    """Gives up ``timeout`` after the end of the wait, and not twice that."""
    broker.enqueue(messages(1))
    with closing(RedisBroker(f"{redis.url}?timeout=3s")) as impatient:
        assert len(take_one(impatient, "q")) == 1
        assert impatient.acquire(["q"], limit=1, wait=0.01, lease=30) == []  # so that the next one begins to wait
        redis.pause()
        try:
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                impatient.acquire(["q"], limit=1, wait=0.5, lease=30)
            assert 3 < time.monotonic() - started < 6
        finally:
            redis.resume()


def test_what_takes_longer_to_send_than_an_answer(redis: Running, broker: RedisBroker, admin: Any) -> None:
    """Is sent as long as the server takes it: a million messages in one call, or a large one on a slow line."""
    body = bytes(64_000_000)  # much more than what is buffered on the way
    with closing(Route(redis.ports["redis"], slowly=0.006)) as route:
        url = f"redis://127.0.0.1:{route.port}/0?timeout=5s&max_body={len(body)}"
        with closing(RedisBroker(url)) as slow:
            started = time.monotonic()
            slow.enqueue([Message("large", "q", body)])
            assert time.monotonic() - started > 5
    assert admin.hstrlen("{anybroker}:messages", "large") > len(body)
    assert broker.remove("q", ["large"]) == [True]


def test_many_messages_for_a_server_that_stands_still(redis: Running, admin: Any) -> None:  # noqa: ARG001  it is empty
    """It is not asked for what it promises once for each of them."""
    with closing(App(f"{redis.url}?timeout=1s", results_url="none")) as app:
        calls = [app.signature("task", [number], {}) for number in range(20)]
        redis.pause()
        try:
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                app.send_many(calls)
            assert time.monotonic() - started < 10
        finally:
            redis.resume()


def take_one(broker: RedisBroker, *queues: str) -> list[str]:
    """The id of what comes first."""
    return [one.message.id for one in broker.acquire(queues, limit=1, wait=30, lease=60)]


def test_connections_that_are_lost_without_a_word_cost_one_call(redis: Running, broker: RedisBroker) -> None:
    """As in a failover when the host is gone, or behind a firewall that forgets: not one call for each of them."""
    route = Route(redis.ports["redis"])
    with closing(route), closing(RedisBroker(f"redis://127.0.0.1:{route.port}/0?timeout=1s")) as routed:
        waiting = [threading.Thread(target=take_one, args=[routed, "q"]) for _ in range(5)]
        for thread in waiting:
            thread.start()
        until(lambda: len(route.made) >= 2 * len(waiting))
        broker.enqueue(messages(5))
        for thread in waiting:
            thread.join(30)
        route.lose()
        with pytest.raises(BrokerUnavailable):
            routed.stats("q")
        assert routed.stats("q").leased == 5


def test_a_wake_up_is_passed_on_by_one_who_has_enough(
    redis: Running, broker: RedisBroker, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is woken by one of its queues and finds enough in another one leaves the first to those who wait for it."""
    monkeypatch.setattr("anybroker_broker_redis.broker.LOOK_AGAIN", 60.0)
    found: dict[RedisBroker, list[str]] = {}

    def take(waiting: RedisBroker, *queues: str) -> None:
        found[waiting] = take_one(waiting, *queues)

    def blocked() -> int:
        return int(admin.info("clients")["blocked_clients"])

    with closing(RedisBroker(redis.url)) as both, closing(RedisBroker(redis.url)) as low:
        threads = [
            threading.Thread(target=take, args=[both, "high", "low"]),
            threading.Thread(target=take, args=[low, "low"]),
        ]
        threads[0].start()
        until(lambda: blocked() == 1)
        threads[1].start()
        until(lambda: blocked() == 2)
        sent = time.monotonic()
        broker.enqueue([*messages(1, "low"), *messages(1, "high")])
        for thread in threads:
            thread.join(40)
        assert found == {both: ["high0"], low: ["low0"]}
        assert time.monotonic() - sent < 20


def test_what_another_program_wrote_wrongly_keeps_nothing_back(broker: RedisBroker, admin: Any) -> None:
    """It is refused, or delivered as it is: to a worker it is no task, and becomes a dead letter."""
    plain = [key.decode() for key in broker._keys.of_ready("q")]
    for name in ("enqueue_one", "enqueue_ready"):
        with pytest.raises(redis_py.ResponseError, match="begins with a line break"):
            admin.eval(script(name, behind=()).source, 4, *plain, "q", "forgotten", '{"v":1}')
    assert not admin.exists(*plain)
    whole = [key.decode() for key in broker._keys.of("q")]
    for id_, payload in {b"a": '{"eta":1.5}\n{}', b"b": '{"priority":0.5}\n{}', b"\xff": "\n{}"}.items():
        assert admin.eval(script("enqueue").source, len(whole), *whole, "q", id_, payload) == 1
    broker.enqueue(messages(1))
    assert len(broker.peek("q")) == 4
    held = broker.acquire(["q"], limit=10, wait=0, lease=30)
    assert sorted(one.message.id for one in held) == ["a", "b", "q0", "\ufffd"]
    assert broker.ack(held) == [True] * 4
    assert broker.stats("q").total == 0


def test_what_another_program_has_cut_short_or_removed(broker: RedisBroker, admin: Any) -> None:
    """The first is delivered as it is; the second is not there, and is not held either; the others are there."""
    broker.enqueue(messages(3))
    admin.hset("{anybroker}:messages", "q0", "short")
    admin.hdel("{anybroker}:messages", "q1")
    expected = [Message("q0", "q", b"short"), Message("q2", "q", b"body")]
    assert broker.peek("q") == expected
    assert [one.message for one in broker.acquire(["q"], limit=10, wait=0, lease=30)] == expected
    assert broker.stats("q").leased == 2


OF_A_QUEUE = ("ready", "delayed", "blocked", "lines", "wake")
SOON = timedelta(seconds=0.1)


@pytest.mark.parametrize("name", OF_A_QUEUE)
def test_a_key_of_another_type_is_in_the_way_of_new_messages(broker: RedisBroker, admin: Any, name: str) -> None:
    """What was refused can be sent again when the key is gone: no id is known that is in no queue."""
    admin.hset(f"{{anybroker}}:{name}:q", "of", "others")
    sent = (
        messages(1, "q"),
        [Message("one", "q", b""), Message("two", "q", b"")],
        [Message(id_, "q", b"", ordering_key="k") for id_ in ("k0", "k1", "k2")],
        [Message("soon", "q", b"", eta=datetime.now(UTC) + SOON), Message("urgent", "q", b"", priority=1)],
    )
    refused = 0
    for some in sent:
        try:
            broker.enqueue(some)
        except ConfigurationError:
            refused += 1
    assert refused
    admin.delete(f"{{anybroker}}:{name}:q")
    for some in sent:
        broker.enqueue(some)
    drain_all(broker, {one.id for some in sent for one in some}, "q")


@pytest.mark.parametrize("name", OF_A_QUEUE)
def test_a_key_of_another_type_is_in_the_way_of_a_new_version(broker: RedisBroker, admin: Any, name: str) -> None:
    """It is refused, and the old one is still there."""
    broker.enqueue([*messages(2), *messages(2, "k", ordering_key="k")])
    held = broker.acquire(["q", "k"], limit=10, wait=0, lease=0.5)
    admin.hset(f"{{anybroker}}:{name}:other", "of", "others")
    for one in held:
        eta = datetime.now(UTC) + SOON if one.message.id == "q0" else None
        new = Message(one.message.id, "other", b"", eta=eta, ordering_key=one.message.ordering_key)
        with pytest.raises(ConfigurationError, match="WRONGTYPE"):
            broker.update([(one, new)])
    drain_all(broker, {"q0", "q1", "k0", "k1"}, "q", "k")


def test_to_remove_one_message_moves_no_other(broker: RedisBroker, admin: Any) -> None:
    """A million may have fallen due since somebody looked, and others wait for the server meanwhile."""
    broker.enqueue(messages(20))
    expired = broker.acquire(["q"], limit=2, wait=0, lease=0.01)
    broker.enqueue(messages(NUMBER, "later", eta=datetime.now(UTC) + timedelta(seconds=2)))
    until(lambda: broker.stats("later").ready == NUMBER and broker.stats("q").leased == 0)
    assert broker.remove("later", ["later0", "later1"]) == [True, True]
    assert admin.zcard("{anybroker}:delayed:later") == NUMBER - 2
    assert broker.remove("q", [one.message.id for one in expired]) == [True, True]
    assert len(drain(broker, "q", "later")) == NUMBER + 20 - 4


def test_a_lease_that_the_server_forgot(redis: Running, broker: RedisBroker, admin: Any) -> None:
    """As a failover or a restart may: then its token is nobody else's, and settling with it changes nothing."""
    broker.enqueue(messages(3))
    before = {key: admin.dump(key) for key in admin.scan_iter()}
    lost = broker.acquire(["q"], limit=3, wait=0, lease=60)
    admin.flushall()
    for key, value in before.items():
        admin.restore(key, 0, value)
    with closing(RedisBroker(redis.url)) as other:
        held = other.acquire(["q"], limit=3, wait=0, lease=60)
        assert [one.message for one in held] == [one.message for one in lost]
        assert broker.extend(lost, lease=0) == [False] * 3
        assert broker.update([(lost[0], lost[0].message)]) == [False]
        assert broker.ack(lost) == [False] * 3
        assert other.ack(held) == [True] * 3


def test_too_few_replicas(redis: Running, admin: Any) -> None:  # noqa: ARG001  the server is empty
    """What no replica has is not reported as stored."""
    broker = RedisBroker(f"{redis.url}?replicas=1&timeout=1s")
    with pytest.raises(BrokerUnavailable, match="0 of 1 replicas") as caught:
        broker.enqueue(messages(1))
    assert caught.value.stored == frozenset()
    [held] = broker.acquire(["q"], limit=1, wait=0, lease=30)  # a lease that is forgotten is delivered twice, at worst
    assert broker.extend([held], lease=30) == [True]
    with pytest.raises(BrokerUnavailable, match="0 of 1 replicas"):
        broker.update([(held, held.message)])
    taken = broker.acquire(["q"], limit=1, wait=0, lease=30)
    with pytest.raises(BrokerUnavailable, match="0 of 1 replicas"):
        broker.ack(taken)
    broker.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda backend: backend.store([Result("r", State.SUCCEEDED, 1)], ttl=60),
        lambda backend: backend.forget(["r"]),
        lambda backend: backend.join("g", "m", size=1),
        lambda backend: backend.seal("g"),
        lambda backend: backend.claim("c", ttl=60),
        lambda backend: backend.release("held", "token"),
    ],
    ids=["store", "forget", "join", "seal", "claim", "release"],
)
def test_too_few_replicas_of_a_result(redis: Running, admin: Any, call: Any) -> None:
    """Nothing is reported that a failover may undo."""
    admin.mset({"{anybroker}:result:r": "started 1\n", "{anybroker}:claim:held": "token"})
    with (
        closing(RedisBackend(f"{redis.url}?replicas=1&timeout=1s")) as backend,
        pytest.raises(BrokerUnavailable, match="0 of 1 replicas"),
    ):
        call(backend)


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols(redis: Running, admin: Any, protocol: int) -> None:  # noqa: ARG001  the server is empty
    use(RedisBroker(f"{redis.url}?protocol={protocol}"), RedisBackend(f"{redis.url}?protocol={protocol}"))


def test_encrypted_with_a_client_certificate(guarded: Guarded) -> None:
    use(RedisBroker(guarded.tls_url), RedisBackend(guarded.tls_url))
    with pytest.raises(BrokerUnavailable):
        RedisBroker(f"rediss://localhost:{guarded.port}").queues()  # trusts the certificates of the system alone


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_certificate_that_is_not_there(guarded: Guarded, name: str) -> None:
    """Is told as what it is, and not as a server that is away: nobody waits for that one to return."""
    url = guarded.tls_url.replace(f"tls_{name}={guarded.folder}", f"tls_{name}={guarded.folder}/nowhere")
    for call in (lambda: RedisBroker(url).queues(), lambda: RedisBackend(url).fetch(["1"])):
        with pytest.raises(ConfigurationError, match="No such file"):
            call()


def test_by_a_unix_socket(guarded: Guarded) -> None:
    use(RedisBroker(guarded.socket_url), RedisBackend(guarded.socket_url))


def use(broker: RedisBroker, backend: RedisBackend) -> None:
    """Every verb."""
    assert broker.capabilities.durability is backend.capabilities.durability
    broker.enqueue([*messages(3), *messages(2, "other", priority=3, ordering_key="k")])
    held = broker.acquire(["q", "other"], limit=10, wait=1, lease=30)
    assert [one.message.id for one in held] == ["q0", "q1", "q2", "other0"]
    assert broker.extend(held, lease=30) == [True] * 4
    assert broker.update([(held[0], held[0].message)]) == [True]
    assert broker.ack(held[1:]) == [True] * 3
    assert (broker.queues(), broker.stats("q").ready) == (["other", "q"], 1)
    assert [one.id for one in broker.peek("other")] == ["other1"]
    assert (broker.remove("q", ["q0"]), broker.purge("other")) == ([True], 1)
    threading.Timer(0.2, broker.enqueue, [messages(1)]).start()
    [late] = broker.acquire(["q"], limit=2, wait=10, lease=30)
    assert broker.ack([late]) == [True]
    broker.close()
    result = Result("r", State.SUCCEEDED, 1, bytes(100_000))
    threading.Timer(0.2, backend.store, [[result]], {"ttl": 5}).start()
    assert backend.wait(["r"], timeout=10) == backend.fetch(["r"]) == [result]
    backend.forget(["r"])
    group = secrets.token_hex(4)
    assert (backend.join(group, "m", size=1), backend.join(group, "m", size=2)) == (True, False)
    backend.seal(group)
    assert backend.join(group, "m", size=1) is False
    token = backend.claim("c", ttl=5)
    assert token is not None
    assert (backend.claim("c", ttl=5), backend.release("c", token)) == (None, True)
    backend.close()


def test_a_user_that_may_do_little(redis: Running, admin: Any) -> None:
    """The keys and channels of the prefix are enough; what the server keeps must be said, for it may not be asked."""
    port = redis.ports["redis"]
    admin.acl_setuser("shop", enabled=True, passwords=["+s3cret"], categories=["+@all", "-@dangerous"])
    rules = ("~{shop}*", "resetchannels", "&{shop}*", "+client|setname")
    admin.execute_command("ACL", "SETUSER", "shop", *rules)
    url = f"redis://shop:s3cret@127.0.0.1:{port}/0?prefix=shop"
    assert RedisBroker(url).capabilities.durability is Durability.PROCESS
    use(RedisBroker(f"{url}&durability=server"), RedisBackend(f"{url}&durability=server"))
    for wrong in (url.replace("prefix=shop", "prefix=other"), url.replace("s3cret", "wr0ng")):
        with pytest.raises(ConfigurationError) as caught:
            RedisBroker(wrong).enqueue(messages(1))
        assert not any(secret in str(caught.value) for secret in ("s3cret", "wr0ng"))


@pytest.mark.parametrize("command", ["HELLO", "AUTH"])
def test_a_server_that_does_not_know_the_command_with_the_password(tmp_path: Path, command: str) -> None:
    """It repeats the command, which is not shown: neither by the error nor by what it came from."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    options = ("--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), "--requirepass", "hunter2secret")
    server = ServerProcess(
        [str(SERVER.path()), "--port", str(port), *options, "--rename-command", command, ""], port=port
    )
    server.start()
    url = f"redis://:hunter2secret@127.0.0.1:{port}/0"
    try:
        for call in (
            lambda: RedisBroker(f"{url}?protocol={'3' if command == 'HELLO' else '2'}").queues(),
            lambda: RedisBackend(url).wait(["1"], timeout=1),
        ):
            with pytest.raises(ConfigurationError, match=f"{command}|Authentication required") as caught:
                call()
            assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    finally:
        server.stop()


def test_prefixes_share_a_server_and_nothing_else(redis: Running, broker: RedisBroker) -> None:
    other = RedisBroker(f"{redis.url}?prefix=other")
    broker.enqueue(messages(1))
    assert (other.queues(), other.acquire(["q"], limit=1, wait=0, lease=1)) == ([], [])
    other.enqueue(messages(1))
    assert drain(broker) == ["q0"]
    assert other.stats("q").ready == 1
    other.close()


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "expected"),
    [
        ("yes", "always", Durability.POWER_CUT),
        ("yes", "everysec", Durability.PROCESS),
        ("yes", "no", Durability.SERVER),
        ("no", "always", Durability.PROCESS),
    ],
)
def test_the_durability_is_that_of_the_server(
    redis: Running, admin: Any, appendonly: str, appendfsync: str, expected: Durability
) -> None:
    before = admin.config_get("append*")
    try:
        admin.config_set("appendfsync", appendfsync)
        admin.config_set("appendonly", appendonly)
        assert RedisBroker(redis.url).capabilities.durability is expected
        assert RedisBackend(f"{redis.url}?protocol=3").capabilities.durability is expected
    finally:
        admin.config_set("appendonly", before["appendonly"])
        admin.config_set("appendfsync", before["appendfsync"])


@pytest.mark.parametrize(
    ("maxmemory", "policy", "kept"),
    [
        ("1gb", "allkeys-lru", False),
        ("1gb", "volatile-ttl", False),
        ("1gb", "noeviction", True),
        ("0", "allkeys-lru", True),
    ],
)
def test_a_server_that_throws_away_what_it_has_is_told_of(
    redis: Running, admin: Any, caplog: pytest.LogCaptureFixture, maxmemory: str, policy: str, kept: bool
) -> None:
    admin.config_set("maxmemory-policy", policy)
    admin.config_set("maxmemory", maxmemory)
    try:
        for adapter in (RedisBroker(redis.url), RedisBackend(f"{redis.url}?protocol=3")):
            caplog.clear()
            assert adapter.capabilities.durability is (Durability.SERVER if kept else Durability.PROCESS)
            assert caplog.messages == ([] if kept else [caplog.messages[0]])
            assert kept or policy in caplog.messages[0]
    finally:
        admin.config_set("maxmemory", "0")
        admin.config_set("maxmemory-policy", "noeviction")


def test_no_wait_is_so_short_that_an_old_server_takes_it_for_ever(broker: RedisBroker, admin: Any) -> None:
    with admin.monitor() as seen:
        for _ in range(50):  # of which some have a little time left when they begin to wait
            assert broker.acquire(["q"], limit=1, wait=0.001, lease=30) == []
        assert broker.queues() == []
        words = (one["command"].split() for one in seen.listen())
        commands = list(takewhile(lambda command: command[0] != "HKEYS", words))
    waits = [float(seconds) for name, *_, seconds in commands if name == "BLPOP"]
    assert waits
    assert min(waits) >= 0.002


def test_nothing_is_left_behind(redis: Running, broker: RedisBroker, admin: Any) -> None:
    """Of emptied queues, whatever was done to their messages, and of messages that were there already."""
    other = RedisBroker(redis.url)
    for queue in ("a", "b", "c"):
        broker.enqueue([*messages(40, queue), *messages(3, f"{queue}k", ordering_key="k", priority=-1)])
        held = broker.acquire([queue], limit=40, wait=0, lease=0.05)
        again = other.acquire([queue], limit=40, wait=10, lease=30)
        assert not any(broker.ack(held))
        assert all(other.update([(again[0], Message(again[0].message.id, "moved", b""))]))
        assert all(other.ack(again[1:]))
    assert len(drain(other, "ak", "bk", "ck", "moved")) == 12
    broker.enqueue(messages(2, "a"))
    known = [Message("a0", "b", b""), Message("a1", "b", b"")]
    for known_already in (known[:1], known, [Message("a0", "b", b"", priority=1)]):
        broker.enqueue(known_already)
        assert broker.queues() == ["a"]
    assert drain(other, "a") == ["a0", "a1"]
    assert admin.keys() == []
    assert broker.queues() == []
    other.close()
