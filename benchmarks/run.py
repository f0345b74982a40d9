"""How fast anybroker is here, beside a peer on the same machine in the same run; prints a table.

``make bench``. Figures move with the machine, so read the ratios. Rounds alternate; medians are shown.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
UV = os.environ.get("UV", "uv")
HUEY = "huey==3.5.4"
ROUNDS = 3
TASKS = 50_000
PEER_TASKS = 5_000
IDLE_SECONDS = 10.0
FLAT_TASKS = 20_000
QUEUED = 1_000_000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def anybroker(url: str, tasks: int = TASKS) -> dict[str, float]:
    """``anybroker bench`` in a process of its own."""
    command = [sys.executable, "-m", "anybroker", "bench", url, "--tasks", str(tasks), "--json"]
    measured: dict[str, float] = json.loads(subprocess.check_output(command))
    return measured


def huey(folder: Path) -> dict[str, float]:
    """Huey in an environment of its own."""
    command = [UV, "run", "--quiet", "--no-project", "--with", HUEY, "python", str(HERE / "peer_huey.py")]
    output = subprocess.check_output([*command, str(folder / "huey.db"), str(PEER_TASKS)])
    measured: dict[str, float] = json.loads(output)
    return measured


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Figure by figure."""
    numbers = [name for name, value in rounds[0].items() if isinstance(value, int | float)]
    return {name: statistics.median(one[name] for one in rounds) for name in numbers}


def compare() -> None:
    """Memory, SQLite, and huey on SQLite."""
    memory, sqlite, peer = [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            memory.append(anybroker("memory://"))
            sqlite.append(anybroker(f"sqlite:///{folder / 'bench.db'}"))
            peer.append(huey(folder))
    columns = {"memory://": medians(memory), "sqlite://": medians(sqlite), f"{HUEY}, SQLite": medians(peer)}
    print(f"{'':24}" + "".join(f"{name:>22}" for name in columns))
    for figure in columns["memory://"]:
        cells = [f"{column[figure]:>22,.2f}" if figure in column else f"{'':>22}" for column in columns.values()]
        print(f"{figure:24}" + "".join(cells))
    ratio = columns["sqlite://"]["drain_per_second"] / columns[f"{HUEY}, SQLite"]["drain_per_second"]
    print(f"drain on SQLite, anybroker : huey = {ratio:.1f}")


def flatness() -> None:
    """Cost per task behind a thousand and behind a million messages on SQLite."""
    from anybroker import App

    for queued in (1_000, QUEUED):
        with tempfile.TemporaryDirectory() as folder:
            app = App(f"sqlite:///{folder}/flat.db", results_url="none")

            @app.task
            def noop(number: int) -> None:
                pass

            for start in range(0, queued, 1_000):
                app.send_many([noop.s(number) for number in range(start, start + 1_000)])
            taken = min(FLAT_TASKS, queued)
            started = time.perf_counter()
            with app.worker() as worker:
                while worker.stats().finished < taken:
                    time.sleep(0.002)
                seconds = time.perf_counter() - started
                finished = worker.stats().finished
            app.close()
            print(f"{queued:>9,} queued: {seconds / finished * 1e6:6.1f} µs for each of the first {finished:,}")


def imports() -> None:
    """What ``import anybroker`` adds to an empty interpreter."""
    times = {}
    for statement in ("pass", "import anybroker"):
        runs = []
        for _ in range(10):
            started = time.perf_counter()
            subprocess.check_call([sys.executable, "-c", statement])
            runs.append(time.perf_counter() - started)
        times[statement] = statistics.median(runs)
    print(f"import anybroker: {(times['import anybroker'] - times['pass']) * 1000:.0f} ms")


def idle() -> None:
    """What a worker on SQLite costs that has nothing to do. Linux."""
    if not Path("/proc/self/stat").exists():
        print("idle worker: not measured, there is no /proc here")
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "idle_tasks.py").write_text("from anybroker import App\napp = App()\n")
        environment = {**os.environ, "ANYBROKER_URL": "sqlite:///idle.db"}
        command = [sys.executable, "-m", "anybroker", "worker", "idle_tasks:app"]
        worker = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        time.sleep(3)
        before = processor_time(worker.pid)
        time.sleep(IDLE_SECONDS)
        share = (processor_time(worker.pid) - before) / IDLE_SECONDS
        status = Path(f"/proc/{worker.pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
        worker.terminate()
        worker.wait()
    print(f"idle worker: {share:.2%} of a core, {memory:.0f} MB")


def processor_time(process: int) -> float:
    """Seconds that a process has used, of all cores."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


if __name__ == "__main__":
    compare()
    flatness()
    imports()
    idle()
