"""The laws on a second SQS server, moto, which has no code in common with ElasticMQ.

As Amazon's standard queues do, and ElasticMQ does not, it deletes a message by a receipt handle that has expired. It
keeps everything in memory, so that no restart is tested, and the order of a FIFO queue only until a lease runs out.
"""

from __future__ import annotations

import secrets
import socket
import sys
from contextlib import closing
from functools import cached_property
from urllib.parse import urlencode

import pytest

from anybroker.broker import Message
from anybroker_broker_sqs import SqsBroker
from anybroker_broker_sqs.leases import Lease
from anybroker_conformance import BrokerConformance
from anybroker_conformance.faults.server import ServerProcess
from tests.live import Url

pytestmark = [pytest.mark.services, pytest.mark.slow]


class Moto:
    """The server of this process, started when it is first asked for."""

    @cached_property
    def _server(self) -> ServerProcess:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = ServerProcess([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port=port)
        server.start()
        return server

    def url(self, **options: object) -> str:
        host, port = self._server.address
        return f"sqs://local:local@eu-west-1/?{urlencode({'endpoint': f'http://{host}:{port}', **options})}"


moto = Moto()


class TestSqsOnMoto(BrokerConformance):
    url = Url(moto)


def test_who_was_too_slow_deletes_nothing_though_this_server_would() -> None:
    """Amazon's would, too: the lease is judged by its time, here."""
    url = moto.url(prefix=f"s{secrets.token_hex(4)}-")
    with closing(SqsBroker.from_url(url)) as slow, closing(SqsBroker.from_url(url)) as other:
        other.enqueue([Message("1", "mail", b"")])
        [stale] = slow.acquire(["mail"], limit=1, wait=10, lease=1)
        [held] = other.acquire(["mail"], limit=1, wait=10, lease=60)
        assert held.message.id == "1"
        assert slow.ack([stale]) == [False]
        assert other.estimate("mail").leased == 1
        assert isinstance(stale.token, Lease)
        slow._here.connection.call("DeleteMessage", QueueUrl=stale.token.url, ReceiptHandle=stale.token.handle)
        assert other.estimate("mail").leased == 0
