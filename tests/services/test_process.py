from __future__ import annotations

import os
import platform
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from anybroker_conformance.services import process
from anybroker_conformance.services.engine import wait_for
from anybroker_conformance.services.process import Process
from anybroker_conformance.services.service import NotReadyError

SLEEP = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('begun', flush=True); time.sleep(60)",
]
HEADLESS = """
import ctypes, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(60,)).start()
print(listener.getsockname()[1], flush=True)
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)
"""
CHILD = "import time; held = open('fifo', 'w'); time.sleep(60)"
PARENT = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"]

Start = Callable[[list[str]], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(command: list[str]) -> Process:
        started.append(process.start(tmp_path, command, {}))
        return started[-1]

    yield start
    for each in started:
        process.end(each, signal.SIGKILL, 10)


def begun(folder: Path) -> str:
    """What the process printed first."""

    def first() -> str:
        if not (text := (folder / "log").read_text()):
            raise NotReadyError("it printed nothing")
        return text

    return wait_for(first, 30, dict)


def test_a_process_is_found_again_by_its_folder(start: Start, tmp_path: Path) -> None:
    started = start(SLEEP)
    assert process.read(tmp_path) == started
    assert process.state(started) == "running"
    assert process.state(Process(pid=os.getpid(), started="0")) == "ended"


def test_a_folder_without_a_process(tmp_path: Path) -> None:
    assert process.read(tmp_path) is None
    assert process.state(None) == "ended"


def test_another_process_with_the_same_number_is_never_hit(start: Start) -> None:
    other = start(SLEEP)
    earlier = msgspec.structs.replace(other, started="1")
    assert process.state(earlier) == "ended"
    assert not process.send(earlier, signal.SIGKILL)
    process.end(earlier, signal.SIGKILL, 1)
    assert process.state(other) == "running"


def test_pause_and_go_on(start: Start) -> None:
    started = start(SLEEP)
    assert process.pause(started)
    assert process.state(started) == "paused"
    assert process.send(started, signal.SIGCONT)
    wait_for(lambda: must_be(started, "running"), 30, dict)


def must_be(started: Process, expected: str) -> None:
    if process.state(started) != expected:
        raise NotReadyError(expected)


def test_a_paused_process_ends_by_sigterm(start: Start, tmp_path: Path) -> None:
    started = start(SLEEP)
    begun(tmp_path)
    process.pause(started)
    process.end(started, signal.SIGTERM, 30)
    assert process.state(started) == "ended"


def test_a_process_that_ignores_sigterm_is_killed(start: Start, tmp_path: Path) -> None:
    started = start(DEAF)
    begun(tmp_path)
    process.end(started, signal.SIGTERM, 0.2)
    assert process.state(started) == "ended"


def test_the_children_end_too(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    started = start(PARENT)
    with (tmp_path / "fifo").open() as held_by_the_child:
        process.end(started, signal.SIGKILL, 10)
        assert held_by_the_child.read() == ""


def test_a_program_that_is_not_there_has_ended_with_its_complaint_in_the_log(start: Start, tmp_path: Path) -> None:
    started = start(["/nowhere/server"])
    wait_for(lambda: must_be(started, "ended"), 30, dict)
    process.end(started, signal.SIGTERM, 10)
    assert "/nowhere/server" in (tmp_path / "log").read_text()


def test_a_process_is_known_by_what_linux_says_of_it() -> None:
    stat = "42 (a ) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10"
    assert process.parse(stat) == (Process(pid=42, started="987654"), "S")


def test_a_process_whose_first_thread_has_ended_lives_on(start: Start, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("how a thread ends by itself is known for Linux only")
    exit_thread = 93 if platform.machine() == "aarch64" else 60
    started = start([sys.executable, "-c", HEADLESS, str(exit_thread)])
    port = int(begun(tmp_path))
    wait_for(lambda: _must_be_a_zombie(started), 30, dict)
    assert process.state(started) == "running"
    process.end(started, signal.SIGKILL, 10)
    assert process.state(started) == "ended"
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def _must_be_a_zombie(one: Process) -> None:
    if ") Z " not in Path(f"/proc/{one.pid}/stat").read_text():
        raise NotReadyError("its first thread is there")


def test_a_process_is_known_by_what_ps_says_of_it() -> None:
    assert process.parse("  42 Ss   Sat Nov 21 15:08:46 2026    \n") == (
        Process(pid=42, started="Sat Nov 21 15:08:46 2026"),
        "Ss",
    )
