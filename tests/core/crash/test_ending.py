"""A worker that was told to stop ends, whatever its tasks have left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anybroker import App

pytestmark = pytest.mark.slow

TASKS = """
import asyncio
import time
from pathlib import Path
from anybroker import App

app = App("sqlite:///tasks.db")

@app.task(name="swallow")
async def swallow() -> None:
    Path("started").touch()
    while True:
        try:
            await asyncio.sleep(10)
        except BaseException:
            pass

@app.task(name="pool")
async def pool() -> None:
    Path("started").touch()
    await asyncio.to_thread(time.sleep, 60)
"""


@pytest.mark.parametrize("processes", [[], ["--processes", "1"]], ids=["alone", "child"])
@pytest.mark.parametrize("task", ["swallow", "pool"])
def test_one_sigterm_ends_a_worker_and_its_message_is_given_back(
    make_app: Callable[..., App],
    tmp_path: Path,
    sqlite_url: str,
    task: str,
    processes: list[str],
) -> None:
    (tmp_path / "leaving.py").write_text(TASKS)
    app = make_app(sqlite_url)
    app.send_by_name(task)
    command = [sys.executable, "-m", "anybroker", "worker", "leaving:app", "--grace", "200ms", *processes]
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        until((tmp_path / "started").exists, 15)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0, (tmp_path / "log.txt").read_text()
        assert "did not stop" not in (tmp_path / "log.txt").read_text(), "it ended by itself"
        assert app.inspect().stats("default").ready == 1
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
