"""A fork after use (law 12): the child opens a connection of its own, and the parent's is never touched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from anybroker.sqlite import SqliteBroker

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.slow


Start = Callable[[str], "subprocess.Popen[str]"]

FORK_WHILE_THREADS_WORK = """
import os, sys, threading, warnings
from anybroker.broker import Message
from anybroker.sqlite import SqliteBroker
warnings.simplefilter("ignore", DeprecationWarning)
broker = SqliteBroker(sys.argv[1])
stop = threading.Event()

def work(name):
    number = 0
    while not stop.is_set():
        number += 1
        broker.enqueue([Message(f"{os.getpid()}-{name}-{number}", "busy", b"")])
        broker.acquire(["empty"], limit=1, wait=0.001, lease=1)

threads = [threading.Thread(target=work, args=(name,)) for name in range(2)]
for thread in threads:
    thread.start()
children = []
for number in range(10):
    child = os.fork()
    if child == 0:
        broker.enqueue([Message(f"child-{number}", "children", b"")])
        broker.acquire(["empty"], limit=1, wait=0.01, lease=1)
        sys.stdout.flush()
        os._exit(0 if broker.stats("children").total else 1)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
stop.set()
for thread in threads:
    thread.join()
broker.enqueue([Message("parent", "parent", b"")])
broker.close()
print(codes, flush=True)
"""

CHILD_CLOSES = """
import os, sys
from anybroker.broker import Message
from anybroker.sqlite import SqliteBroker
broker = SqliteBroker(sys.argv[1])
broker.enqueue([Message("1", "q", b"")])
(held,) = broker.acquire(["q"], limit=1, wait=0, lease=60)
child = os.fork()
if child == 0:
    inherited = broker._database._connection
    broker.close()
    sys.exit(1 if inherited else 0)
print(os.waitpid(child, 0)[1], broker.acquire(["q"], limit=1, wait=0, lease=60), broker.ack([held]), flush=True)
"""


def output(process: subprocess.Popen[str]) -> str:
    answer, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return answer.strip()


def test_forks_while_threads_work__parent_and_children_all_go_on(path: Path, start: Start) -> None:
    assert output(start(FORK_WHILE_THREADS_WORK)) == str([0] * 10)
    with closing(SqliteBroker(path)) as broker:
        assert broker.stats("children").total == 10
        assert broker.stats("parent").total == 1
        assert broker._database.read("PRAGMA integrity_check") == [("ok",)]


def test_child_that_closes__gives_up_nothing_of_its_parent(start: Start) -> None:
    assert output(start(CHILD_CLOSES)) == "0 [] [True]"
