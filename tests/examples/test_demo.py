"""``make demo``, for real: pictures, worker processes, a SIGKILL, and nothing lost."""

from __future__ import annotations

import os
import re
import shutil
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
def test_what_is_lost_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "thumbnails"
    shutil.copytree(DEMO.parent, broken)
    tasks = (broken / "tasks.py").read_text()
    first_line = "    path = Path(source)\n"
    broken_tasks = tasks.replace(first_line, f"{first_line}    1 / ('sea' not in source)\n")
    assert broken_tasks != tasks
    (broken / "tasks.py").write_text(broken_tasks)
    command = [sys.executable, str(broken / "demo.py"), "--pictures", "8", "--output", str(tmp_path)]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (demo.returncode, demo.stderr) == (1, ""), demo.stdout
    assert figures(demo.stdout)["pictures"] == "7 of 8"
    assert figures(demo.stdout)["lost"] == "1"


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
