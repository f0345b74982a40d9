"""The tasks of the crash tests, run by worker processes. They note in the file ``$RECORD`` what they do."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

from anybroker import App, Retry
from anybroker.events import StepFinished

app = App()
"""Configured by the environment."""
_record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_FLAGS = Path(os.environ["RECORD"]).parent


def record(*words: object) -> None:
    """Append a line, in one write, so that lines of several processes do not mix."""
    os.write(_record, (" ".join(map(str, words)) + "\n").encode())


def wait_for(flag: str) -> None:
    """Wait until the test has made a file of this name."""
    deadline = time.monotonic() + 60
    while not (_FLAGS / flag).exists() and time.monotonic() < deadline:
        time.sleep(0.005)


@app.task(name="note", results=False)
def note(number: int) -> None:
    record("note", number)


@app.task(name="work", results=False)
def work(number: int) -> None:
    """Takes two milliseconds or so."""
    time.sleep(0.002)
    record("work", number)


@app.task(name="double")
def double(number: int) -> int:
    return 2 * number


@app.task(name="hold", results=False)
def hold(number: int, flag: str) -> None:
    """Runs until the flag is there."""
    record("started", number, os.getpid())
    wait_for(flag)
    record("finished", number, os.getpid())


@app.task(name="die", results=False)
def die(number: int, how: str) -> None:
    """Takes its process down, however often it is run."""
    record("dying", number, os.getpid())
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@app.task(name="die_once", results=False)
def die_once(number: int, how: str) -> None:
    """Takes its process down the first time."""
    flag = _FLAGS / f"died-{number}"
    if not flag.exists():
        flag.touch()
        die(number, how)
    record("note", number)


@app.task(name="flaky", results=False, retry=Retry(max=3, after=0.1))
def flaky(number: int) -> None:
    """Fails the first time."""
    record("tried", number)
    flag = _FLAGS / f"failed-{number}"
    if not flag.exists():
        flag.touch()
        raise ValueError(number)
    record("note", number)


@app.task(name="fails", results=False, retry=Retry(max=0))
def fails(number: int) -> None:
    record("failed", number)
    raise ValueError(number)


@app.task(name="stuck", timeout=0.3, retry=Retry(max=0))
def stuck() -> None:
    """In a call that no exception interrupts."""
    record("stuck", os.getpid())
    time.sleep(60)


@app.task(name="end_child", results=False)
def end_child() -> None:
    """Makes a process by a fork and asks it to end, as pools of processes do."""
    child = get_context("fork").Process(target=time.sleep, args=[60])
    child.start()
    child.terminate()
    child.join(10)
    record("child", child.exitcode)
    child.kill()


def _step(name: str, seen: list[str]) -> list[str]:
    """Note the step; die inside of it if the test has asked for that, once."""
    record("step", name, os.getpid())
    inside = _FLAGS / f"kill-inside-{name}"
    if inside.exists():
        inside.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    record("end", name, os.getpid())
    return [*seen, name]


def first(seed: str) -> list[str]:
    return _step("first", [seed])


def second(seen: list[str]) -> list[str]:
    return _step("second", seen)


async def third(seen: list[str]) -> list[str]:
    return _step("third", seen)


app.job("job").step(first).step(second).step(third)


@app.on(StepFinished)
def die_between_steps(event: StepFinished) -> None:
    """Die when the step's state is in the broker and the next one has not begun, if the test has asked for that."""
    after = _FLAGS / f"kill-after-{event.step}"
    if after.exists():
        after.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
