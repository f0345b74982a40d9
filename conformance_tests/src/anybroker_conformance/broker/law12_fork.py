"""Law 12: a fork after use is detected and safe.

The child of a fork uses the object that it has inherited: it works, or it raises an ``AnybrokerError`` that says that
it does not. It never hangs, and it never disturbs its parent.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from anybroker.errors import AnybrokerError
from anybroker_conformance.broker.racing import at_once
from anybroker_conformance.faults.fork import in_child
from anybroker_conformance.subject import PATIENCE, LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.broker import Broker, Delivery, Message
    from anybroker_conformance.subject import Subject

FORKS = 6
CALLS = 40


class Forks:
    """Law 12, of forks."""

    def test_law12_concurrent__the_child_of_a_fork_shares_the_messages(self, realtime: Subject) -> None:
        """Or has its own copy, where the broker lives in the process."""
        queue = _queue(realtime)
        first, second = realtime.put(queue), realtime.put(queue)
        third = realtime.message(queue, b"of the child")
        [held] = realtime.take(queue)
        rest = ({first.id, second.id} - {held.message.id}).pop()
        inherited = realtime.broker.recorded

        def child() -> str:
            taken = _take(inherited, queue, realtime.long)
            if taken != [rest]:
                raise LawBroken(f"the child of a fork got {taken}, and {rest} was deliverable", rest)
            inherited.enqueue([third])
            inherited.close()
            return "done"

        works = _in_child(child) == "done"
        if realtime.broker.ack([held]) != [True]:
            raise LawBroken("the child of a fork has given up what its parent holds", held.message.id)
        expected = [third.id] if works and realtime.capabilities.shared else [rest]
        taken = [one.message.id for one in realtime.take(queue)]
        if taken != expected:
            raise LawBroken(f"after the fork {taken} was delivered, expected {expected}", expected[0])
        realtime.assert_nothing(queue, why="everything was delivered")

    def test_law12_concurrent__the_child_of_a_fork_closes_it_unused(self, realtime: Subject) -> None:
        """As it does whose programs close what they know of at their end: what the parent holds stays held."""
        queue = _queue(realtime)
        realtime.put(queue)
        [held] = realtime.take(queue)
        _in_child(realtime.broker.recorded.close)
        realtime.assert_nothing(queue, why="it is held by the parent of the process that has closed its broker")
        if realtime.broker.ack([held]) != [True]:
            raise LawBroken("the child of a fork has given up what its parent holds", held.message.id)

    def test_law12_concurrent__the_child_of_a_fork_makes_a_new_object(self, realtime: Subject) -> None:
        queue = _queue(realtime)
        message = realtime.put(queue)
        [held] = realtime.take(queue)
        other = realtime.message(queue)

        def child() -> list[str]:
            fresh = realtime.suite.connect()
            fresh.enqueue([other])
            taken = _take(fresh, queue, realtime.long)
            fresh.close()
            return taken

        taken = in_child(child)
        if taken != [other.id]:
            raise LawBroken(
                f"a broker that was made in the child of a fork got {taken}, expected {[other.id]}", other.id
            )
        if realtime.broker.ack([held]) != [True]:
            raise LawBroken("the child of a fork has disturbed what its parent holds", message.id)
        if realtime.capabilities.shared:
            realtime.assert_gone(queue, why="it was acknowledged by parent and child")

    def test_law12_concurrent__fork_while_other_threads_work(self, realtime: Subject) -> None:
        """Locks that they hold at this moment are nobody's in the child; who forks holds none of them."""
        queues = [_queue(realtime) for _ in range(4)]
        of_child = realtime.queue("child")
        stop = threading.Event()
        inherited = realtime.broker.recorded

        def work(queue: str) -> None:
            done = 0
            while not done or not stop.is_set():
                messages = [realtime.message(queue) for _ in range(5)]
                inherited.enqueue(messages)
                done += _drain(inherited, queue, messages, realtime.long)

        def child(number: int) -> object:
            # a reentrant lock that was left locked would let the forking thread itself pass
            [answer] = at_once(lambda: _use(inherited, realtime, of_child, f"child{number}"), within=25)
            return answer

        def fork() -> None:
            try:
                for number in range(FORKS):
                    _in_child(partial(child, number))
            finally:
                stop.set()

        at_once(fork, *(partial(work, queue) for queue in queues), within=FORKS * 35)

    def test_law12_concurrent__fork_while_a_thread_waits(self, realtime: Subject) -> None:
        """The waiting thread does not exist in the child; in the parent it goes on waiting, and gets its message."""
        queue, of_child = _queue(realtime), realtime.queue("child")
        inherited = realtime.broker.recorded
        message = realtime.message(queue)
        got: list[str] = []

        def wait() -> None:
            deadline = time.monotonic() + 30
            while not got and time.monotonic() < deadline:
                got.extend(one.message.id for one in inherited.acquire([queue], limit=1, wait=10, lease=realtime.long))

        with _in_background(wait):
            time.sleep(0.1)  # it is most probably waiting; if not, nothing is lost but the point
            _in_child(lambda: _use(inherited, realtime, of_child, "child"))
            _in_child(inherited.close)
            inherited.enqueue([message])
        if got != [message.id]:
            raise LawBroken(f"who waited during a fork got {got}, expected {[message.id]}", message.id)

    def test_law12_concurrent__parent_and_child_at_once(self, realtime: Subject) -> None:
        """What one of them asks is answered to it, and not to the other: they share no connection."""
        mine, theirs = _queue(realtime), realtime.queue("child")
        inherited = realtime.broker.recorded
        go_reader, go_writer = os.pipe()
        realtime.put(mine)

        def calls(queue: str, label: str) -> list[str]:
            wrong = []
            for number in range(CALLS):
                message = realtime.message(queue, label.encode(), id=f"{label}{number}")
                inherited.enqueue([message])
                taken = inherited.acquire([queue], limit=1, wait=PATIENCE, lease=realtime.long)
                wrong += [f"{one.message.id} of {one.message.queue}" for one in taken if one.message.queue != queue]
                wrong += [] if all(inherited.ack(taken)) else [f"an ack in {queue} was refused"]
            return wrong

        def child() -> list[str]:
            os.read(go_reader, 1)
            return calls(theirs, "child")

        def parent() -> list[str]:
            time.sleep(0.05)
            os.write(go_writer, b"!")
            return calls(mine, "parent")

        try:
            answered, wrong = at_once(lambda: _in_child(child), parent)
        finally:
            os.close(go_reader)
            os.close(go_writer)
        wrong += answered or []
        if wrong:
            raise LawBroken(f"parent and child of a fork got each other's answers: {wrong[:3]}")


def _queue(subject: Subject) -> str:
    if not hasattr(os, "fork"):
        subject.untested("this operating system has no fork")
    return subject.queue()


def _in_child(function: Callable[[], Any]) -> Any:
    """What a child returns; None if it says that a broker cannot be used after a fork."""
    try:
        return in_child(function)
    except AnybrokerError:
        return None


def _use(broker: Broker, subject: Subject, queue: str, id_: str) -> str:
    """Every verb, in the child."""
    message = subject.message(queue, b"of the child", id=id_)
    broker.enqueue([message])
    taken: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while not taken and time.monotonic() < deadline:
        taken = broker.acquire([queue], limit=1, wait=1, lease=subject.long)
    if [one.message for one in taken] != [message]:
        raise LawBroken(f"the child of a fork enqueued {message.id} and got {taken}", message.id)
    if broker.extend(taken, lease=subject.long) != [True]:
        raise LawBroken("the child of a fork cannot extend what it holds", message.id)
    if broker.ack(taken) != [True]:
        raise LawBroken("the child of a fork cannot acknowledge what it holds", message.id)
    return "done"


def _take(broker: Broker, queue: str, lease: float) -> list[str]:
    """Acquire and acknowledge everything."""
    found: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while not found and time.monotonic() < deadline:
        taken = broker.acquire([queue], limit=5, wait=0.2, lease=lease)
        found += [one.message.id for one, gone in zip(taken, broker.ack(taken), strict=True) if gone]
    return found


def _drain(broker: Broker, queue: str, messages: list[Message], lease: float) -> int:
    left = {one.id for one in messages}
    deadline = time.monotonic() + PATIENCE
    while left:
        taken = broker.acquire([queue], limit=5, wait=0.05, lease=lease)
        if not all(broker.ack(taken)):
            raise LawBroken("an ack in the parent was refused while it forked", taken[0].message.id)
        left -= {one.message.id for one in taken}
        if time.monotonic() > deadline:
            raise LawBroken("lost in the parent while it forked", min(left))
    return len(messages)


@contextmanager
def _in_background(function: Callable[[], object]) -> Iterator[None]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(40)
    if thread.is_alive():
        raise LawBroken("a call of the parent hangs since it forked")
    if errors:
        raise errors[0]
