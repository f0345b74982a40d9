"""The commands of docs/brokers/redis.md for other languages: a shell sends a task and reads its result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anybroker import App
from anybroker_conformance.services.redis import CLIENT

if TYPE_CHECKING:
    from anybroker_conformance.services import Running

pytestmark = [pytest.mark.services, pytest.mark.slow]

GUIDE = Path(__file__).parents[3] / "docs" / "brokers" / "redis.md"


def test_a_shell_sends_a_task_and_reads_its_result(redis: Running, tmp_path: Path) -> None:
    scripts = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    *sending, reading = scripts
    port = redis.ports["redis"]
    shell = f'redis-cli() {{ "{CLIENT.path()}" -p {port} "$@"; }}; python() {{ "{sys.executable}" "$@"; }}\n'
    app = App(redis.url)

    @app.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    def run(script: str) -> str:
        command = ["bash", "-euc", shell + script]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("".join(sending)).strip() == "1"
    with app.worker(concurrency=1):
        backend = app.backend
        assert backend is not None
        assert backend.wait(["42"], timeout=30)
    assert '"value":5' in run(reading)
    backend.forget(["42"])
    app.close()
