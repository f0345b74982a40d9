"""What the child of a fork returns, raises, or fails to do is known to its parent."""

from __future__ import annotations

import os
import threading

import pytest

from anybroker.errors import BrokerUnavailable
from anybroker_conformance.faults.fork import ChildHangs, in_child
from anybroker_conformance.faults.peer import PeerError

pytestmark = pytest.mark.slow


def test_it_is_another_process_with_all_that_this_one_has() -> None:
    here = ["inherited"]
    child, parent, seen = in_child(lambda: [os.getpid(), os.getppid(), here])
    assert (parent, seen) == (os.getpid(), here)
    assert child != parent
    assert len(in_child(lambda: "x" * 300_000)) == 300_000


def test_what_it_raises_is_raised_here() -> None:
    def unavailable() -> None:
        raise BrokerUnavailable("gone", stored=["a"])

    with pytest.raises(BrokerUnavailable, match="gone") as caught:
        in_child(unavailable)
    assert "the child of the fork" in caught.value.__notes__[0]
    with pytest.raises(PeerError, match="ZeroDivisionError"):
        in_child(lambda: 1 / 0)


def test_one_that_hangs_is_ended_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()
    lock.acquire()
    children: list[int] = []
    fork = os.fork

    def noted_fork() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted_fork)
    with pytest.raises(ChildHangs, match=r"(?s)hangs since 2 s.*waits_for_ever"):
        in_child(lambda: waits_for_ever(lock), within=2)
    [child] = children
    with pytest.raises(ChildProcessError):  # its parent knows how it ended
        os.waitpid(child, os.WNOHANG)


def test_one_that_hangs_in_a_hook_of_the_fork_says_where() -> None:
    lock = threading.Lock()
    lock.acquire()
    here, hangs = os.getpid(), threading.Event()
    hangs.set()
    os.register_at_fork(
        after_in_child=lambda: waits_for_ever(lock) if hangs.is_set() and os.getppid() == here else None
    )
    try:
        with pytest.raises(ChildHangs, match=r"(?s)hangs since 0.1 s.*waits_for_ever"):
            in_child(lambda: None, within=0.1)
    finally:
        hangs.clear()


def waits_for_ever(lock: threading.Lock) -> None:
    lock.acquire()


def test_one_that_dies_says_so() -> None:
    with pytest.raises(ChildHangs, match="died with status 3"):
        in_child(lambda: os._exit(3))
    with pytest.raises(ChildHangs, match="died with status -9"):
        in_child(lambda: os.kill(os.getpid(), 9))
