"""The tasks of the tests with real workers. They note in the file ``$RECORD`` what they do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from anybroker import App, Retry

app = App()
"""Configured by the environment."""
_record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_GO = Path(os.environ["RECORD"]).parent / "go"


def record(*words: object) -> None:
    """Append a line, in one write, so that lines of several processes do not mix."""
    os.write(_record, (" ".join(map(str, words)) + "\n").encode())


@app.task(name="note", results=False)
def note(number: int) -> None:
    record("note", number)


@app.task(name="hold", results=False)
def hold(number: int) -> None:
    """Runs until the test lets it go on."""
    record("held", number)
    deadline = time.monotonic() + 60
    while not _GO.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    record("note", number)


@app.task(name="flaky", results=False, retry=Retry(max=3, after=0.2))
def flaky(number: int) -> None:
    """Fails the first time."""
    record("tried", number)
    flag = _GO.with_name(f"failed-{number}")
    if not flag.exists():
        flag.touch()
        raise ValueError(number)
    record("note", number)


@app.task(name="poison", results=False)
def poison(number: int) -> None:
    """Takes its process down, however often it is run."""
    record("poison", number)
    os.kill(os.getpid(), signal.SIGKILL)
