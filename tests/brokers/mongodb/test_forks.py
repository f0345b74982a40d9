"""The child of a fork, where several threads may be the first to use what it has inherited."""

from __future__ import annotations

import os
import threading
from contextlib import closing

from anybroker.broker import Message
from anybroker_broker_mongodb import MongoBroker, clients
from anybroker_conformance.faults.fork import in_child
from tests.brokers.mongodb.scripted import ScriptedMongo


def test_the_child_has_begun_anew_before_its_threads_begin() -> None:
    """Else two of them begin at once, and one goes on with what the other one has thrown away."""
    with ScriptedMongo() as server, closing(MongoBroker.from_url(server.url)) as broker:
        broker.acquire(["q"], limit=1, wait=0, lease=1)
        connection = broker._connection
        inherited = connection.session()

        def state() -> list[bool]:
            fresh = clients._here.process == os.getpid() and not clients._here.clients
            return [fresh, connection._session is None, connection._users == {os.getpid()}]

        assert in_child(state) == [True, True, True]
        assert connection.session() is inherited


def test_a_lock_that_was_held_while_another_thread_forked_stops_nobody() -> None:
    with ScriptedMongo() as server, closing(MongoBroker.from_url(server.url)) as broker:
        broker.acquire(["q"], limit=1, wait=0, lease=1)

        def use() -> int:
            threads = [
                threading.Thread(target=broker.enqueue, args=([Message(str(number), "q", b"")],)) for number in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            users = clients._here.users[broker._target.url]
            broker.close()
            return users + len(clients._here.clients)

        with broker._connection._lock, clients._here.lock:
            assert in_child(use) == 1


def test_what_was_closed_before_the_fork_stays_closed() -> None:
    with ScriptedMongo() as server:
        broker = MongoBroker.from_url(server.url)
        broker.close()
        assert in_child(lambda: clients._here.users) == {}
