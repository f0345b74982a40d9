"""Whether a task on Redis costs more behind many, what worker processes add, and what many tasks leave behind.

``python benchmarks/services.py scale``, or ``python benchmarks/scale.py redis://localhost 1000000``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from anybroker import App

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker.sending import Sender

URL = "SCALE_URL"
"""Tells the workers, which import this file, what is its first argument otherwise."""
QUEUE = "scale"
BATCH = 1_000
QUEUED = 5_000
"""Tasks that wait at most while many pass through."""
SAMPLES = 10
WORK = 0.001
"""Seconds that a task computes which is more than a no-op."""
app = App(os.environ.get(URL) or sys.argv[1])


@app.task(name="scale.noop", queue=QUEUE, results=False)
def noop() -> None: ...


@app.task(name="scale.compute", queue=QUEUE, results=False)
def compute() -> None:
    until = time.thread_time() + WORK
    while time.thread_time() < until:
        pass


def main(url: str, most: str = "100000") -> None:
    tasks = int(most)
    os.environ[URL] = url
    print(f"{'queued':>12}{'drained /s':>14}{'µs a task':>12}")
    queued = BATCH
    while queued <= tasks:
        command = [sys.executable, "-m", "anybroker", "bench", url, "--tasks", str(queued), "--json"]
        rate = json.loads(subprocess.check_output(command))["drain_per_second"]
        print(f"{queued:12,}{rate:14,.0f}{1e6 / rate:12.1f}", flush=True)
        queued *= 10
    print(f"\n{'':8}{'processes':>12}{'drained /s':>14}{'workers µs':>12}{'Redis µs':>12}  of processor time a task")
    with redis.Redis.from_url(url) as client:
        for task, number in ((noop, min(tasks, 100_000)), (compute, 10_000)):
            for processes in (1, 2, 4):
                rate, theirs, its = drained_by(processes, task, number, client)
                name = task.name.removeprefix("scale.")
                print(f"{name:8}{processes:12}{rate:14,.0f}{1e6 * theirs:12.1f}{1e6 * its:12.1f}", flush=True)
    print(f"\n{'tasks done':>12}{'worker MB':>12}{'Redis MB':>12}{'keys':>8}{'clients':>10}")
    with redis.Redis.from_url(url) as client, worker() as process:
        for sample in range(1, SAMPLES + 1):
            pass_through(tasks // SAMPLES)
            used = client.info("memory")["used_memory"] / 2**20
            clients = client.info("clients")["connected_clients"]
            done = sample * (tasks // SAMPLES)
            print(f"{done:12,}{resident(process):12.1f}{used:12.1f}{client.dbsize():8}{clients:10}", flush=True)
    app.close()


@contextmanager
def worker(*options: str) -> Iterator[int]:
    """The process that runs ``anybroker worker``."""
    command = [sys.executable, "-m", "anybroker", "worker", "scale:app", "--queues", QUEUE, "--log-level", "error"]
    process = subprocess.Popen([*command, *options], cwd=Path(__file__).parent)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def drained_by(processes: int, task: Sender[[], None], tasks: int, client: redis.Redis) -> tuple[float, float, float]:
    """Of so many that were there before the workers were: tasks a second, and what one took of their time, and Redis's.

    The start of the workers is in their time.
    """
    send(task, tasks)
    before, redis_before = processor_time(), redis_time(client)
    with worker("--processes", str(processes)):
        while (began_with := left()) == tasks:
            time.sleep(0.005)
        began = time.monotonic()
        while left():
            time.sleep(0.005)
        rate = began_with / (time.monotonic() - began)
        its = redis_time(client) - redis_before
    return rate, (processor_time() - before) / tasks, its / tasks


def processor_time() -> float:
    """Seconds, of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def redis_time(client: redis.Redis) -> float:
    """Seconds of processor time that the server has used."""
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def pass_through(tasks: int) -> None:
    """So many, of which only a few wait at any time."""
    for _ in range(tasks // BATCH):
        send(noop, BATCH)
        while left() > QUEUED:
            time.sleep(0.002)
    while left():
        time.sleep(0.01)


def send(task: Sender[[], None], tasks: int) -> None:
    """So many, in batches."""
    for _ in range(tasks // BATCH):
        app.send_many([task.s() for _ in range(BATCH)])


def left() -> int:
    """Tasks that are not done."""
    return app.inspect().stats(QUEUE).total


def resident(process: int) -> float:
    """Megabytes of memory that a process uses."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
