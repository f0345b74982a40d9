"""The tasks of the tests with workers, run by worker processes. They note in the file ``$RECORD`` what they do."""

from __future__ import annotations

import os
import time
from pathlib import Path

from anybroker import App, Retry

app = App()
"""Configured by the environment."""
_record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(*words: object) -> None:
    """Append a line, in one write, so that lines of several processes do not mix."""
    os.write(_record, (" ".join(map(str, words)) + "\n").encode())


@app.task(name="note")
def note(number: int) -> None:
    record("note", number, time.time())


@app.task(name="fails_once", retry=Retry(max=1, after=0.1))
def fails_once(number: int) -> None:
    flag = Path(os.environ["RECORD"]).parent / f"failed-{number}"
    if not flag.exists():
        flag.touch()
        raise ValueError(number)
    record("note", number)


@app.task(name="fails", retry=Retry(max=0))
def fails(number: int) -> None:
    record("failed", number)
    raise ValueError(number)


@app.task(name="hold")
def hold(number: int) -> None:
    """Runs until the test has made the file ``go``."""
    record("started", number, os.getpid())
    deadline = time.monotonic() + 60
    while not (Path(os.environ["RECORD"]).parent / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    record("note", number)
