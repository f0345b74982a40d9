"""Law 14: memory, connections, queues, keys and threads do not grow with the number of messages processed."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.capabilities import Guarantee, Lease
from anybroker.errors import ConfigurationError
from anybroker_conformance.broker.network import Network, attempt, works_again
from anybroker_conformance.faults.proxy import TO_CLIENT
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker
    from anybroker_conformance.subject import Subject

BATCH = 20
WARM_UP = 100
"""Batches after which caches and pools have their size."""
BATCHES = 300
SECONDS = 6.0
"""For which batches are worked off at most."""
LARGE = 200 * 1024
"""Bytes of a large body."""
PER_MESSAGE = 40
"""Bytes that may stay of each message: less than what its id alone would take."""
SLACK = 150_000
"""Bytes by which the memory of a process varies."""
FEW = 4
"""Threads and files that may come and go by themselves."""


class Work:
    """Works off batches of messages, each with names of its own where the broker takes them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._broker: Broker = subject.broker.recorded  # what is written down would grow
        self._number = 0
        self._keyed = subject.capabilities.ordering.keyed
        self._queue = subject.queue()

    def once(self) -> None:
        """Enqueue, extend, update and acknowledge a batch."""
        self._number += 1
        body = os.urandom(1000)
        messages = [
            self._subject.message(self._queue, body, ordering_key=f"key {self._number} {n}" if self._keyed else None)
            for n in range(BATCH)
        ]
        self._broker.enqueue(messages)
        waiting = {message.id for message in messages}
        deadline = time.monotonic() + 20
        while waiting:
            if time.monotonic() > deadline:
                raise LawBroken(f"{len(waiting)} of {BATCH} messages of a batch were not delivered within 20 s")
            wait = 0.0 if self._subject.clock else 0.2
            taken = self._broker.acquire([self._queue], limit=BATCH, wait=wait, lease=self._subject.long)
            self._broker.extend(taken, lease=self._subject.long)
            again = [one for one in taken if one.message.eta is None and one.message.id.endswith("0")]
            past = self._subject.now() - timedelta(days=1)
            self._broker.update([(one, msgspec.structs.replace(one.message, eta=past)) for one in again])
            done = [one for one in taken if one not in again]
            self._broker.ack(done)
            waiting -= {one.message.id for one in done}


class Bounded:
    """Law 14."""

    def test_law14_bounded__memory_of_the_process(self, subject: Subject) -> None:
        work = Work(subject)
        repeat(work.once, WARM_UP, SECONDS / 2)
        assert_bounded(work.once, BATCHES, SECONDS, "messages", PER_MESSAGE)

    def test_law14_bounded__updates(self, subject: Subject) -> None:
        """The same messages, updated and moved again and again."""
        queues, broker = [subject.queue(), subject.queue()], subject.broker.recorded
        broker.enqueue([subject.message(queues[0]) for _ in range(BATCH)])

        def update_all() -> None:
            queues.reverse()
            held = subject.take(queues[1], BATCH, broker=broker)
            new = [msgspec.structs.replace(one.message, queue=queues[0], body=os.urandom(100)) for one in held]
            broker.update(list(zip(held, new, strict=True)))

        repeat(update_all, WARM_UP // 2, SECONDS / 6)
        assert_bounded(update_all, BATCHES // 2, SECONDS / 6, "updates", PER_MESSAGE)

    def test_law14_bounded__calls_that_change_nothing(self, subject: Subject) -> None:
        """What is settled already, what is there already, and what is refused."""
        queue, broker = subject.queue(), subject.broker.recorded
        naive = datetime(2020, 1, 1)  # noqa: DTZ001 (that is the point)

        def call_in_vain() -> None:
            messages = [subject.message(queue) for _ in range(BATCH)]
            broker.enqueue(messages)
            if subject.capabilities.idempotent_enqueue:
                broker.enqueue(messages)
            with suppress(ConfigurationError):
                broker.enqueue([msgspec.structs.replace(one, id=f"{one.id} refused", eta=naive) for one in messages])
            held = subject.take(queue, BATCH, broker=broker)
            broker.ack(held)
            if subject.capabilities.fencing is Guarantee.EXACT:
                broker.ack(held)
                broker.extend(held, lease=subject.long)
                broker.update([(one, one.message) for one in held])

        repeat(call_in_vain, WARM_UP, SECONDS / 3)
        assert_bounded(call_in_vain, BATCHES // 2, SECONDS / 3, "messages and calls in vain", PER_MESSAGE)

    def test_law14_bounded__large_bodies(self, subject: Subject) -> None:
        queue, broker = subject.queue(), subject.broker.recorded
        size = min(LARGE, subject.capabilities.max_body)

        def send_and_ack() -> None:
            broker.enqueue([subject.message(queue, os.urandom(size))])
            broker.ack(subject.take(queue, broker=broker))

        repeat(send_and_ack, 5, SECONDS / 6)
        assert_bounded(send_and_ack, 40, SECONDS / 6, f"messages of {size:,} bytes", size // 6, batch=1)

    def test_law14_bounded__threads_and_files_of_the_process(self, subject: Subject) -> None:
        work = Work(subject)
        repeat(work.once, WARM_UP // 4, SECONDS / 4)
        before = Resources()
        batches = repeat(work.once, BATCHES // 2, SECONDS / 2)
        before.assert_few_more(f"after {batches * BATCH:,} messages")

    def test_law14_bounded__waits_for_nothing(self, realtime: Subject) -> None:
        """Short ones, each of which ends without a message."""
        queue, broker = realtime.queue(), realtime.broker.recorded

        def wait() -> None:
            broker.acquire([queue], limit=1, wait=0.005, lease=realtime.short)

        repeat(wait, 10, SECONDS / 6)
        before = Resources()
        before.assert_few_more(f"after {repeat(wait, 50, SECONDS / 3)} waits for a message that ended without one")

    def test_law14_bounded__connections_that_broke(self, realtime: Subject) -> None:
        """In the midst of a call, and between calls."""
        queue = realtime.queue()
        with Network(realtime) as network:

            def acquire() -> object:
                return network.broker.acquire([queue], limit=1, wait=0, lease=realtime.short)

            def break_all() -> None:
                network.proxy.cut(TO_CLIENT, 0)
                attempt("acquire", acquire)
                network.proxy.cut_now(reset=True)
                works_again(realtime, network.broker)

            repeat(break_all, 2, SECONDS)
            before = Resources()
            before.assert_few_more(f"after the connection was cut {repeat(break_all, 30, SECONDS / 3)} times")

    def test_law14_bounded__objects_that_were_closed(self, subject: Subject) -> None:
        queue = subject.queue()

        def come_and_go() -> None:
            broker = subject.open()
            broker.enqueue([subject.message(queue)])
            broker.acquire([queue], limit=1, wait=0, lease=subject.long)
            broker.close()

        repeat(come_and_go, 5, SECONDS)
        before = Resources()
        before.assert_few_more(f"after {repeat(come_and_go, 30, SECONDS)} objects were closed")

    def test_law14_bounded__queues_that_were_emptied(self, subject: Subject) -> None:
        if not subject.capabilities.inspect:
            subject.untested("which queues there are cannot be seen from outside (inspect is not declared)")
        before = len(subject.broker.queues())
        names = [subject.queue() for _ in range(20)]
        for name in names:
            subject.put(name)
            assert subject.broker.ack(subject.take(name)) == [True]
        left = [name for name in subject.broker.queues() if name in names]
        assert not left, (
            f"queues() lists {len(left)} of {len(names)} queues that are empty ({before} were there before)"
        )

    @pytest.mark.parametrize("how", ["ready", "delayed", "purged"])
    def test_law14_bounded__what_was_removed(self, subject: Subject, how: str) -> None:
        if not subject.capabilities.inspect:
            subject.untested("remove() is not declared (inspect)")
        queue = subject.queue()
        broker: Any = subject.broker.recorded
        eta = subject.now() + timedelta(days=30) if how == "delayed" else None

        def send_and_remove() -> None:
            messages = [subject.message(queue, os.urandom(1000), eta=eta) for _ in range(BATCH)]
            broker.enqueue(messages)
            if how == "purged":
                assert broker.purge(queue) == BATCH, "purge did not remove what is not leased"
                return
            removed = broker.remove(queue, [message.id for message in messages])
            assert removed == [True] * BATCH, "remove did not remove what is not leased"

        repeat(send_and_remove, WARM_UP, SECONDS / 3)
        assert_bounded(send_and_remove, BATCHES // 2, SECONDS / 3, "removed messages", PER_MESSAGE)

    def test_law14_bounded__leases_that_ran_out(self, subject: Subject) -> None:
        if subject.capabilities.lease is not Lease.TIMED or subject.clock is None:
            subject.untested("leases by the thousand can only run out by a clock that leaps (connect_by)")
        queue = subject.queue()
        broker = subject.broker.recorded
        broker.enqueue([subject.message(queue, os.urandom(1000)) for _ in range(BATCH)])

        def let_expire() -> None:
            subject.take(queue, BATCH, lease=1, broker=broker)
            subject.advance(2)

        repeat(let_expire, WARM_UP, SECONDS / 2)
        assert_bounded(let_expire, BATCHES, SECONDS / 2, "leases that ran out", 0)


def repeat(act: Callable[[], object], times: int, seconds: float) -> int:
    """Do something so often, or as often as it can be done in so many seconds but five times; returns how often."""
    deadline = time.monotonic() + seconds
    done = 0
    while done < times and (done < 5 or time.monotonic() < deadline):
        act()
        done += 1
    return done


def assert_bounded(
    act: Callable[[], object], times: int, seconds: float, what: str, each: int, *, batch: int = BATCH
) -> None:
    """Do something with a batch so often: it leaves no more than ``each`` bytes of each message.

    What leaks does so again; what was left only once is somebody else's, such as a cache of the interpreter.
    """
    growth = Growth(act, times, seconds, batch)
    if growth.size > growth.allowed(each):
        growth = Growth(act, times, seconds, batch)
    assert growth.size <= growth.allowed(each), (
        f"{growth.messages:,} {what} left {growth.size:,} bytes in memory; {growth.allowed(each):,} are allowed; "
        f"most of it was allocated at {growth.places}"
    )


class Growth:
    """By how many bytes Python's objects grow while something is done."""

    def __init__(self, act: Callable[[], object], times: int, seconds: float, batch: int) -> None:
        tracemalloc.start()
        try:
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            self.messages = batch * repeat(act, times, seconds)
            gc.collect()
            self.size = tracemalloc.get_traced_memory()[0] - before
            self._allocated = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()

    def allowed(self, each: int) -> int:
        """Bytes that may stay, with so many of each message."""
        return SLACK + each * self.messages

    @property
    def places(self) -> str:
        """Where most was allocated of what is still there."""
        found = self._allocated.statistics("lineno")[:3]
        return ", ".join(f"{place.traceback} ({place.size:,} bytes)" for place in found)


class Resources:
    """How many threads, files and connections the process has."""

    def __init__(self) -> None:
        gc.collect()
        self.threads, self.files = threading.active_count(), open_files()

    def assert_few_more(self, said: str) -> None:
        """Hardly more are there now, or soon: a client library may end its own in the background."""
        deadline = time.monotonic() + PATIENCE
        while True:
            now = Resources()
            if now.threads <= self.threads + FEW and now.files <= self.files + FEW:
                return
            assert time.monotonic() < deadline, (
                f"{said} there are {now.threads - self.threads} more threads "
                f"and {now.files - self.files} more open files or connections"
            )
            time.sleep(0.02)


def open_files() -> int:
    """How many files and connections the process has open."""
    with suppress(OSError):
        return len(list(Path("/dev/fd").iterdir()))
    return 0
