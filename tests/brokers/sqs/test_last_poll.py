"""A process that ends right after a short wait hides nothing: its last poll is waited for."""

from __future__ import annotations

import secrets
import subprocess
import sys
from contextlib import closing

import pytest

from anybroker_broker_sqs import SqsBroker
from tests.live import service

pytestmark = [pytest.mark.services, pytest.mark.slow]

PROGRAM = """
import sys
from anybroker.broker import Message
from anybroker_broker_sqs import SqsBroker
broker = SqsBroker.from_url(sys.argv[1])
assert broker.acquire(["mail"], limit=1, wait=0.2, lease=600) == []  # SQS cannot wait for less than a second
broker.enqueue([Message("1", "mail", b"")])
broker.close()
"""


@pytest.mark.parametrize("fifo", ["no", "yes"])
def test_what_the_last_poll_of_a_process_finds_is_given_back(fifo: str) -> None:
    url = service("sqs").url(prefix=f"p{secrets.token_hex(4)}-", fifo=fifo)
    subprocess.run([sys.executable, "-c", PROGRAM, url], check=True, timeout=60)
    with closing(SqsBroker.from_url(url)) as broker:
        [found] = broker.acquire(["mail"], limit=1, wait=5, lease=10)
        assert found.message.id == "1"
