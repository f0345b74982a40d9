"""The tasks that the workers of these tests run. They note in the file ``$RECORD`` what they do."""

from __future__ import annotations

import os
import time

from anybroker import App, Retry

app = App()
"""Configured by the environment."""
_record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def record(*words: object) -> None:
    os.write(_record, (" ".join(map(str, words)) + "\n").encode())


@app.task(name="add")
def add(first: int, second: int) -> int:
    return first + second


@app.task(name="work", results=False)
def work(number: int) -> None:
    record("work", number)


@app.task(name="hold", results=False)
def hold(seconds: float) -> None:
    record("hold", os.getpid())
    time.sleep(seconds)
    record("held", os.getpid())


@app.task(name="fails_once", retry=Retry(max=3, after=0.3))
def fails_once(key: str) -> str:
    record("fails_once", key, time.time())
    with open(os.environ["RECORD"]) as lines:  # noqa: PTH123
        if sum(line.startswith(f"fails_once {key} ") for line in lines) == 1:
            raise ValueError(key)
    return key
