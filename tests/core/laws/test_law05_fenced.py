"""Law 5: a settle or an extend with a lost lease changes nothing and says so, even if someone else holds it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker, Delivery, Message
    from tests.core.laws.conftest import FullBroker, Peer

VERBS: dict[str, Callable[[Broker, Delivery], list[bool]]] = {
    "ack": lambda broker, delivery: broker.ack([delivery]),
    "update": lambda broker, delivery: broker.update(
        [(delivery, msgspec.structs.replace(delivery.message, body=b"stale", queue="elsewhere"))]
    ),
    "extend": lambda broker, delivery: broker.extend([delivery], lease=6000),
}
each_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@each_verb
def test_law05_fenced__stale_settle_after_redelivery(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    verb: Callable[[Broker, Delivery], list[bool]],
) -> None:
    message = make(body=b"original")
    broker.enqueue([message])
    [stale] = take(lease=short)
    advance(short * 1.2)
    [fresh] = take()
    assert verb(broker, stale) == [False]
    assert broker.peek("q") == [message]
    assert broker.queues() == ["q"]
    assert broker.ack([fresh]) == [True]
    assert broker.stats("q").total == 0


@each_verb
def test_law05_fenced__after_ack(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    verb: Callable[[Broker, Delivery], list[bool]],
) -> None:
    broker.enqueue([make()])
    [delivery] = take()
    assert broker.ack([delivery]) == [True]
    assert verb(broker, delivery) == [False]
    assert broker.queues() == []


@each_verb
def test_law05_fenced__after_update(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    verb: Callable[[Broker, Delivery], list[bool]],
) -> None:
    broker.enqueue([make()])
    [delivery] = take()
    new = msgspec.structs.replace(delivery.message, body=b"new")
    assert broker.update([(delivery, new)]) == [True]
    assert verb(broker, delivery) == [False]
    assert broker.peek("q") == [new]


@each_verb
def test_law05_fenced__the_id_is_used_again(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    verb: Callable[[Broker, Delivery], list[bool]],
) -> None:
    broker.enqueue([make(id="same", body=b"first")])
    [old] = take()
    broker.ack([old])
    again = make(id="same", body=b"second")
    broker.enqueue([again])
    assert verb(broker, old) == [False]
    assert [one.message for one in take()] == [again]
    assert verb(broker, old) == [False]


@each_verb
def test_law05_fenced__an_expired_lease_gives_one_answer_that_then_holds(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    verb: Callable[[Broker, Delivery], list[bool]],
    assert_idle: Callable[..., None],
) -> None:
    message = make()
    broker.enqueue([message])
    [delivery] = take(lease=short)
    advance(short * 1.2)
    if verb(broker, delivery) == [True]:
        assert_idle("q")
    else:
        assert [one.message for one in take()] == [message]


@each_verb
def test_law05_fenced__an_expired_message_that_was_removed(
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    advance: Callable[[float], None],
    short: float,
    verb: Callable[[Broker, Delivery], list[bool]],
) -> None:
    broker.enqueue([make(id="x")])
    [delivery] = take(lease=short)
    advance(short * 1.2)
    assert broker.remove("q", ["x"]) == [True]
    assert verb(broker, delivery) == [False]
    assert broker.queues() == []


@each_verb
def test_law05_fenced__closed_in_between(
    another: Callable[[], FullBroker],
    broker: FullBroker,
    make: Callable[..., Message],
    take: Callable[..., list[Delivery]],
    verb: Callable[[Broker, Delivery], list[bool]],
) -> None:
    broker.enqueue([make()])
    leaver = another()
    [stale] = leaver.acquire(["q"], limit=1, wait=0, lease=6000)
    leaver.close()
    fresh = take()
    assert verb(broker, stale) == [False]
    assert broker.ack(fresh) == [True]


def test_law05_fenced__each_of_a_batch_has_its_own_answer(
    broker: Broker, make: Callable[..., Message], take: Callable[..., list[Delivery]]
) -> None:
    broker.enqueue([make() for _ in range(4)])
    first, second, third, fourth = take(4)
    broker.ack([second])
    assert broker.ack([first, second, first]) == [True, False, False]
    assert broker.extend([second, third], lease=60) == [False, True]
    new = [(one, one.message) for one in (second, third, third, fourth)]
    assert broker.update(new) == [False, True, False, True]


@pytest.mark.parametrize("verb", ["ack", "update", "extend"])
def test_law05_fenced__a_process_that_was_stopped_past_its_lease(
    shared: FullBroker, peer: Callable[[], Peer], make: Callable[..., Message], verb: str
) -> None:
    message = make(body=b"original")
    shared.enqueue([message])
    sleeper = peer()
    assert sleeper.call("acquire", "q", 1, 1, 0.4) == [message.id]
    sleeper.process.send_signal(signal.SIGSTOP)
    try:
        fresh = shared.acquire(["q"], limit=1, wait=10, lease=60)
        assert [one.message for one in fresh] == [message]
    finally:
        sleeper.process.send_signal(signal.SIGCONT)
    assert sleeper.call(verb, *([6000] if verb == "extend" else [])) == [False]
    assert shared.peek("q") == [message]
    assert shared.ack(fresh) == [True]
    assert shared.queues() == []
