"""What polls find that nobody waits for any more: handed round by busy workers, and no delivery to any of them."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from anybroker.broker import Message
from anybroker_broker_sqs import SqsBroker
from anybroker_broker_sqs.broker import ROUNDS
from tests.live import service
from tests.waiting import until

if TYPE_CHECKING:
    from anybroker.broker import Delivery

pytestmark = [pytest.mark.services, pytest.mark.slow]

BUSY = 7
"""Workers; more than a message may be delivered to before it is dead (``max_deliveries``)."""


@pytest.mark.parametrize("fifo", ["no", "yes"])
def test_a_message_that_busy_workers_find_is_not_counted_as_delivered_to_them(fifo: str) -> None:
    url = service("sqs").url(prefix=f"u{secrets.token_hex(4)}-", fifo=fifo)
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(SqsBroker.from_url(url))) for _ in range(BUSY)]
        workers[0].enqueue([Message("0", "other", b""), Message("0", "mail", b"")])
        for queue in ("other", "mail"):
            [first] = workers[0].acquire([queue], limit=1, wait=20, lease=60)
            assert workers[0].ack([first]) == [True]
        with ThreadPoolExecutor(BUSY) as threads:
            calls = [
                threads.submit(worker.acquire, ["other", "mail"], limit=1, wait=20, lease=600) for worker in workers
            ]
            until(lambda: all(worker._here.polls.covers(queue) for worker in workers for queue in ("other", "mail")))
            workers[0].enqueue([Message(str(number), "other", b"") for number in range(BUSY)])
            assert all(len(call.result()) == 1 for call in calls)
        workers[0].enqueue([Message("round", "mail", b"", ordering_key="k" if fifo == "yes" else None)])
        until(lambda: not any(worker._here.polls.covers("mail") for worker in workers))
        found: list[Delivery] = []
        for worker in workers:
            found += worker.acquire(["mail"], limit=1, wait=0.0 if found else 0.2, lease=600)
        [round_] = found
        assert round_.message.id == "round"
        assert round_.delivery_count is not None
        assert round_.delivery_count <= (ROUNDS + 1 if fifo == "yes" else 1)
        assert workers[0].ack([round_]) == [True]
