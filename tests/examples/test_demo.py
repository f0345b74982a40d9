"""``make demo``, for real: pictures, worker processes, a SIGKILL, and nothing lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DEMO = Path(__file__).parents[2] / "examples" / "thumbnails" / "demo.py"


def figures(output: str) -> dict[str, str]:
    """The summary: figure by name."""
    return dict(re.findall(r"^  (\w[\w ]*?)  +(\S.*)$", output, re.MULTILINE))


@pytest.mark.slow
def test_nothing_is_lost_when_a_worker_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--pictures", "24", "--output", str(tmp_path)]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout
    found = figures(demo.stdout)
    assert found["pictures"] == "24 of 24"
    assert found["lost"] == "0"
    steps = re.match(r"(\d+): 72, and (\d+) again", found["steps run"])
    assert steps is not None
    assert int(steps[1]) == 72 + int(steps[2])
    assert int(found["delivered again"].split()[0]) >= 1
    assert "killed by SIGKILL" in (tmp_path / "worker.log").read_text()
    with Image.open(found["contact sheet"]) as sheet:
        assert sheet.width > 2000
        assert len(set(sheet.resize((400, 300)).convert("L").tobytes())) > 100


@pytest.mark.slow
def test_an_interrupt_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--output", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "thumbnails" in line:
                break
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(30) == 130
    log = (tmp_path / "worker.log").read_text()
    workers = {int(number) for number in re.findall(r"INFO +(\d+) anybroker.worker: worker ", log)}
    assert workers
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
