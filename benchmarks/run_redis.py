"""How fast anybroker is on Redis, beside its peers and a bare loop on the same server in the same run.

``make bench-redis``. Needs redis-server; the Go peers are measured where Go is found. Read the ratios: figures move
with the machine. Rounds alternate; medians are shown. First tasks that do nothing; then, eight at a time, tasks that
sleep and tasks that compute. ``run_redis.py NAME...`` measures only these columns.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = Path(__file__).parent
UV = os.environ.get("UV", "uv")
ROUNDS = 3
TASKS = 30_000
PEER_TASKS = 4_000
PYTHON_PEERS = {"dramatiq": "dramatiq[redis]==2.2.1", "huey": "huey[redis]==3.5.4"}
GO_PEERS = ("asynq", "machinery")
CLIENT = ("redis==8.1.0", "hiredis==3.5.0")
WORK_TASKS = 6_000
WORK_AT_ONCE = 8
WORK = {"sleep 10 ms": {"BENCH_SLEEP_MS": "10"}, "compute 1 ms": {"BENCH_COMPUTE_MS": "1"}}
BODY = b'{"v":1,"id":"0199c1a2-7c00-7a3b-8c4d-5e6f708192a3","task":"noop","args":[1]}'
FENCED_ACK = """
local mine, answers = {}, {}
for i = 3, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  answers[#answers + 1] = held[1] and 1 or 0
  if held[1] then mine[#mine + 1] = ARGV[i] end
end
if #mine > 0 then redis.call('XACK', KEYS[1], ARGV[1], unpack(mine)); redis.call('XDEL', KEYS[1], unpack(mine)) end
return answers
"""
Figures = dict[str, float]


def bare(client: redis.Redis) -> Figures:
    """What one Python process can do with redis-py and a stream, with acks that are fenced, and nothing else."""
    started = time.perf_counter()
    for _ in range(PEER_TASKS):
        client.execute_command("XADD", "s", "*", "b", BODY)
    enqueue = PEER_TASKS / (time.perf_counter() - started)
    client.delete("s")
    started = time.perf_counter()
    for _ in range(0, TASKS, 1_000):
        pipeline = client.pipeline(transaction=False)
        for _ in range(1_000):
            pipeline.execute_command("XADD", "s", "*", "b", BODY)
        pipeline.execute()
    bulk = TASKS / (time.perf_counter() - started)
    client.xgroup_create("s", "g", id="0")
    ack = client.register_script(FENCED_ACK)
    started, left = time.perf_counter(), TASKS
    while left:
        read = client.execute_command("XREADGROUP", "GROUP", "g", "c", "COUNT", 400, "STREAMS", "s", ">")
        entries = read[b"s"][0] if isinstance(read, dict) else read[0][1]
        ids = [entry[0] for entry in entries]
        assert all(ack(keys=["s"], args=["g", "c", *ids]))
        left -= len(ids)
    drain = TASKS / (time.perf_counter() - started)
    return {"enqueue_per_second": enqueue, "bulk_per_second": bulk, "drain_per_second": drain}


def anybroker(url: str) -> Figures:
    """``anybroker bench`` in a process of its own."""
    command = [sys.executable, "-m", "anybroker", "bench", url, "--tasks", str(TASKS), "--json"]
    measured: Figures = json.loads(subprocess.check_output(command))
    return measured


def python_peer(name: str, url: str) -> Figures:
    """A peer, without and with results."""
    threads = {"dramatiq": 32, "huey": 8}[name]
    return {**on_redis(name, url, PEER_TASKS, 1, threads), **on_redis(name, url, PEER_TASKS, 1, threads, results=True)}


def on_redis(
    name: str,
    url: str,
    tasks: int,
    processes: int,
    threads: int,
    *,
    results: bool = False,
    work: Mapping[str, str] = MappingProxyType({}),
) -> Figures:
    """What ``peer_on_redis.py`` measures, for a peer in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | work | {
            "PEER": name, "PEER_URL": url, "PEER_COUNT": str(tasks), "PEER_RESULTS": str(int(results)),
            "PEER_SLOTS": f"{folder}/slots", "PEER_PROCESSES": str(processes), "PEER_THREADS": str(threads),
        }  # fmt: skip
        command = [sys.executable]
        if name in PYTHON_PEERS:
            packages = [word for package in (PYTHON_PEERS[name], *CLIENT) for word in ("--with", package)]
            command = [UV, "run", "--quiet", "--no-project", *packages, "python"]
        figures: Figures = json.loads(subprocess.check_output([*command, HERE / "peer_on_redis.py"], env=environment))
        return figures


def run_go(
    program: Path,
    url: str,
    command: str,
    count: int,
    *options: str,
    results: bool = False,
    work: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What a program of ``go/`` measures."""
    environment = os.environ | work | {"BENCH_URL": url, "BENCH_TUNED": "1", "BENCH_RESULTS": str(int(results))}
    output = subprocess.check_output([program, command, str(count), *options], env=environment)
    answer: dict[str, Any] = json.loads(output)
    return answer


def go_peer(program: Path, url: str) -> Figures:
    """A peer that was built of ``go/``."""
    run = partial(run_go, program, url)
    figures = {"enqueue_per_second": PEER_TASKS / run("enqueue", PEER_TASKS)["s"]}
    figures["drain_per_second"] = PEER_TASKS / run("drain", PEER_TASKS, "--concurrency", "8")["s"]
    if seconds := run("bulk", PEER_TASKS)["s"]:
        figures["bulk_per_second"] = PEER_TASKS / seconds
    worker = subprocess.Popen(
        [program, "worker", "--concurrency", "8"],
        env=os.environ | {"BENCH_URL": url, "BENCH_TUNED": "1", "BENCH_RESULTS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        latencies = sorted(1000 * seconds for seconds in run("roundtrip", 300, results=True)["lat"])
        figures["round_trip_p50_ms"] = latencies[len(latencies) // 2]
        figures["round_trip_p99_ms"] = latencies[len(latencies) * 99 // 100]
        figures["fan_out_per_second"] = 1_000 / run("fanout", 1_000, results=True)["s"]
    finally:
        worker.kill()
        worker.wait()
    return figures


def working(name: str, url: str) -> Figures:
    """Tasks a second that sleep or compute: what computes in Python is given a process for each of two processors."""
    return {
        f"{work} /s": on_redis(name, url, WORK_TASKS, processes, WORK_AT_ONCE // processes, work=WORK[work])[
            "drain_per_second"
        ]
        for work, processes in zip(WORK, (1, 2), strict=True)
    }


def working_in_go(program: Path, url: str) -> Figures:
    """The same of a peer that was built of ``go/``."""
    figures = {}
    for work in WORK:
        run_go(program, url, "enqueue", WORK_TASKS)
        seconds = run_go(program, url, "drain", WORK_TASKS, "--concurrency", str(WORK_AT_ONCE), work=WORK[work])["s"]
        figures[f"{work} /s"] = WORK_TASKS / seconds
    return figures


def build_go_peers(folder: Path) -> dict[str, Path]:
    """Where Go is found, the programs of its peers."""
    go = shutil.which("go")
    if go is None:
        print("asynq, machinery: not measured, there is no Go here")
        return {}
    for name in GO_PEERS:
        subprocess.check_call([go, "build", "-o", folder / name, f"./{name}"], cwd=HERE / "go")
    return {name: folder / name for name in GO_PEERS}


def medians(rounds: list[Figures]) -> Figures:
    names = [name for name, value in rounds[0].items() if isinstance(value, int | float)]
    return {name: statistics.median(one[name] for one in rounds) for name in names}


def compare(columns: Mapping[str, Callable[[], Figures]], client: redis.Redis, only: list[str]) -> None:
    """All columns in turns; prints the medians."""
    measured: dict[str, list[Figures]] = {name: [] for name in columns if not only or name in only}
    for _ in range(ROUNDS):
        for name, figures in measured.items():
            client.flushall()
            figures.append(columns[name]())
    found = {name: medians(rounds) for name, rounds in measured.items()}
    print(f"{'':20}" + "".join(f"{name:>12}" for name in found))
    for figure in dict.fromkeys(figure for column in found.values() for figure in column):
        cells = [f"{column[figure]:>12,.2f}" if figure in column else f"{'':>12}" for column in found.values()]
        print(f"{figure:20}" + "".join(cells), flush=True)


def compare_all(url: str, client: redis.Redis, folder: Path, only: list[str]) -> None:
    programs = build_go_peers(folder) if not only or set(only) & set(GO_PEERS) else {}
    compare(
        {
            "bare": lambda: bare(client),
            "anybroker": lambda: anybroker(url),
            **{name: partial(python_peer, name, url) for name in PYTHON_PEERS},
            **{name: partial(go_peer, path, url) for name, path in programs.items()},
        },
        client,
        only,
    )
    compare(
        {
            **{name: partial(working, name, url) for name in ("anybroker", *PYTHON_PEERS)},
            **{name: partial(working_in_go, path, url) for name, path in programs.items()},
        },
        client,
        only,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", name]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            compare_all(f"redis://127.0.0.1:{port}/0", client, Path(name), sys.argv[1:])
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
