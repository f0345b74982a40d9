"""``make demo``: real work by real processes, one of which is killed in the middle of it.

Paints pictures, sends a job of three steps for each of them to a broker that is a file, and starts two worker
processes. When a third is done, one of them is killed with SIGKILL. What it held comes back after its lease, and in
the end no picture is missing. Exits with 1 if one is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from pictures import paint

from anybroker import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks import Picture

    from anybroker import App, Handle

HERE = Path(__file__).parent
STEPS = 3
LEASE = 2
"""Seconds for which a killed worker's tasks rest. Short, so that nobody gets bored; the default is 30."""
PATIENCE = 120
"""Seconds for all pictures together, after which those without a result count as lost."""


class Journal:
    """What the workers say about their tasks, one line for each event."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """All lines that are complete."""
        text = self._path.read_text() if self._path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def done(self) -> int:
        """How many pictures are finished, one way or the other."""
        return len({line["id"] for line in self.read() if line["event"] in {"Succeeded", "Failed"}})

    def busiest(self) -> int:
        """The process that began the last step."""
        processes: list[int] = [line["process"] for line in self.read() if line["event"] == "Started"]
        return processes[-1]

    def steps(self) -> int:
        """How many steps were begun."""
        return sum(line["event"] == "Started" for line in self.read())

    def redelivered(self) -> int:
        """How many tasks had to be delivered again because their worker died."""
        return len({line["id"] for line in self.read() if line["event"] == "Acquired" and line["deliveries"] > 1})


class Bar:
    """A progress bar on a terminal; elsewhere a line for each quarter."""

    WIDTH = 40

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._quarter = -1
        self.show(0)

    def show(self, done: int) -> None:
        """So many are done."""
        filled = self.WIDTH * done // self._total
        line = f"  {self._label:<12} {'█' * filled}{'░' * (self.WIDTH - filled)} {done:>3} of {self._total}"
        if sys.stdout.isatty():
            print(f"\r{line}", end="\n" if done == self._total else "", flush=True)
        elif (quarter := 4 * done // self._total) > self._quarter:
            self._quarter = quarter
            print(f"  {self._label:<12} {done:>3} of {self._total}", flush=True)

    def interrupt(self, text: str) -> None:
        """Print a line above the bar."""
        print(f"\r{text:<70}" if sys.stdout.isatty() else text, flush=True)


class Outcome(NamedTuple):
    """What came of the pictures."""

    pictures: list[Picture]
    killed: int
    seconds: float


def main() -> int:
    """Run the demo; the exit code is 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=48, help="how many (48)")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="a directory (demo-output)")
    given = parser.parse_args()
    output = given.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    (output / ".gitignore").write_text("*\n")
    with TemporaryDirectory(prefix="anybroker-demo-") as scratch:
        return run(given.pictures, Path(scratch), output)


def run(count: int, scratch: Path, output: Path) -> int:
    """Paint, send, kill, count; returns the exit code."""
    journal = Journal(scratch / "journal")
    for name in [name for name in os.environ if name.startswith("ANYBROKER_")]:
        del os.environ[name]  # the demo is the same wherever it runs
    os.environ |= {"ANYBROKER_URL": f"sqlite:///{scratch}/demo.db", "DEMO_JOURNAL": str(scratch / "journal")}
    print(f"anybroker demo: {count} pictures, two worker processes, and a broker that is a file\n")
    with workers(output / "worker.log") as supervisor:
        sources = paint_all(scratch, count)
        import tasks  # reads the environment that was just set

        began = time.monotonic()
        handles = tasks.app.send_many([tasks.thumbnail.s(str(source), str(scratch)) for source in sources])
        outcome = watch(handles, journal, began, supervisor)
        note = f"{count} pictures, {STEPS * count} steps, two worker processes, one of them killed on the way"
        sheet = tasks.contact_sheet.send(outcome.pictures, note, str(output / "contact-sheet.png")).get(timeout=60)
        left = wait_until_empty(tasks.app)
        tasks.app.close()
    lost = count - sum(Path(picture.file).exists() for picture in outcome.pictures)
    report(count, lost + left, outcome, journal)
    print(f"\n  contact sheet    {sheet}")
    return 1 if lost or left else 0


@contextmanager
def workers(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor and its two worker processes; they stop when the block ends, however it does."""
    command = [sys.executable, "-m", "anybroker", "worker", "tasks:app"]
    command += ["--processes", "2", "--concurrency", "2", "--lease", str(LEASE), "--grace", "5"]
    with log.open("w") as file, subprocess.Popen(command, cwd=HERE, stdout=file, stderr=file) as supervisor:
        try:
            yield supervisor
        finally:
            supervisor.send_signal(signal.SIGTERM)
            try:
                supervisor.wait(10)
            except subprocess.TimeoutExpired:
                supervisor.kill()  # its children notice and stop by themselves


def paint_all(scratch: Path, count: int) -> list[Path]:
    """Paint the pictures that the job is to work on."""
    directory = scratch / "pictures"
    directory.mkdir()
    bar = Bar("painting", count)
    sources = []
    with ThreadPoolExecutor(os.cpu_count()) as painters:
        for source in painters.map(lambda number: paint(directory, number), range(count)):
            sources.append(source)
            bar.show(len(sources))
    return sources


def watch(
    handles: list[Handle[Picture]], journal: Journal, began: float, supervisor: subprocess.Popen[bytes]
) -> Outcome:
    """Show the progress, kill a worker when a third is done, and collect what is there in the end."""
    bar = Bar("thumbnails", len(handles))
    killed = 0
    while (done := journal.done()) < len(handles) and time.monotonic() - began < PATIENCE:
        if supervisor.poll() is not None:
            sys.exit("the workers have stopped; worker.log says why")
        bar.show(done)
        if not killed and done >= len(handles) / 3:
            killed = journal.busiest()
            os.kill(killed, signal.SIGKILL)
            bar.interrupt(f"  ✗ SIGKILL for worker process {killed}, in the middle of its work")
        time.sleep(0.05)
    bar.show(done)
    seconds = time.monotonic() - began
    pictures = []
    for handle in handles:
        try:
            pictures.append(handle.get(timeout=1))
        except TaskError as error:
            print(f"  lost: {error}")
    return Outcome(pictures, killed, seconds)


def wait_until_empty(app: App) -> int:
    """Wait until the last task, whose result is there already, is acknowledged too; returns how many are left."""
    deadline = time.monotonic() + 3 * LEASE
    while (left := app.inspect().stats("default").total) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def report(count: int, lost: int, outcome: Outcome, journal: Journal) -> None:
    """Print the figures."""
    steps = journal.steps() - 1  # the contact sheet is a task too
    figures = {
        "pictures": f"{len(outcome.pictures)} of {count}",
        "steps run": f"{steps}: {STEPS * count}, and {steps - STEPS * count} again after the kill",
        "killed": f"worker process {outcome.killed}; the supervisor put another in its place",
        "delivered again": f"{journal.redelivered()} tasks, {LEASE} s after their worker's last sign of life",
        "lost": str(lost),
        "time": f"{outcome.seconds:.1f} s for the thumbnails, {count / outcome.seconds:.1f} pictures/s",
    }
    print()
    for name, figure in figures.items():
        print(f"  {name:<17}{figure}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
