"""What pulls bring that nobody waits for any more: handed round by busy workers, and no delivery to any of them."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, closing

import pytest

from anybroker.broker import Message
from anybroker_broker_pubsub import PubSubBroker
from tests.brokers.pubsub.server import pubsub
from tests.waiting import until

pytestmark = [pytest.mark.services, pytest.mark.slow]

BUSY = 7
"""Workers; more than a message may be delivered to before it is dead (``max_deliveries``)."""


@pytest.mark.parametrize("exactly_once", ["no", "yes"])
def test_a_message_that_busy_workers_find_is_not_counted_as_delivered_to_them(exactly_once: str) -> None:
    url = f"{pubsub.running.url}&prefix=u{secrets.token_hex(4)}-&wait=60s&exactly_once={exactly_once}"
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(PubSubBroker.from_url(url))) for _ in range(BUSY)]
        for worker in workers:
            _wait_in_vain(worker, "other", "mail")
        workers[0].enqueue([Message(str(number), "other", b"") for number in range(BUSY)])
        for worker in workers:
            assert len(worker.acquire(["other", "mail"], limit=1, wait=60, lease=600)) == 1
        workers[0].enqueue([Message("round", "mail", b"body")])
        until(lambda: not any("mail" in _pulls(worker) for worker in workers))
        [round_] = workers[0].acquire(["mail"], limit=1, wait=60, lease=600)
        assert (round_.message.id, round_.message.body) == ("round", b"body")
        assert round_.delivery_count == 1
        assert workers[0].ack([round_]) == [True]


def test_what_was_delivered_before_is_counted_on() -> None:
    """A message that has killed its worker, and is then handed round, is not forgotten to be one."""
    url = f"{pubsub.running.url}&prefix=u{secrets.token_hex(4)}-&wait=60s"
    with closing(PubSubBroker.from_url(url)) as first, closing(PubSubBroker.from_url(url)) as second:
        first.enqueue([Message("1", "mail", b"")])
        [held] = first.acquire(["mail"], limit=1, wait=60, lease=600)
        _wait_in_vain(second, "mail", "other")
        first.enqueue([Message("2", "other", b"")])
        assert len(second.acquire(["mail", "other"], limit=1, wait=60, lease=600)) == 1
        assert _pulls(second) == ["mail"]
        first.close()
        until(lambda: _pulls(second) == [])
        [again] = second.acquire(["mail"], limit=1, wait=60, lease=600)
        assert (again.message.id, again.delivery_count) == (held.message.id, 2)


def _wait_in_vain(broker: PubSubBroker, *queues: str) -> None:
    """Until a pull of each is on its way."""

    def waited() -> bool:
        assert broker.acquire(queues, limit=1, wait=1, lease=60) == []
        return _pulls(broker) == sorted(queues)

    until(waited)


def _pulls(broker: PubSubBroker) -> list[str]:
    """The queues of which a pull is on its way, or has brought what nobody has come for yet."""
    return sorted(queue for queue, _ in broker._here()._pulls._left)
