"""Dramatiq and huey on Redis, each in an environment of its own, and anybroker where tasks do some work.

Sends tasks one at a time and lets the worker of that library drain them, or measures round trips and a fan-out with
results; prints figures as JSON. What a task does is to leave the time at which it ran where another process can read
it, and before that what ``BENCH_SLEEP_MS`` and ``BENCH_COMPUTE_MS`` say.
"""

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

PEER, URL, COUNT = os.environ["PEER"], os.environ["PEER_URL"], int(os.environ["PEER_COUNT"])
RESULTS = os.environ["PEER_RESULTS"] == "1"
FAN_OUT = 1_000
ROUND_TRIPS = 300
PROCESSES, THREADS = int(os.environ["PEER_PROCESSES"]), int(os.environ["PEER_THREADS"])
SLEEP, COMPUTE = (int(os.environ.get(f"BENCH_{work}_MS", "0")) / 1000 for work in ("SLEEP", "COMPUTE"))
HUEY_WORKERS = ["--worker-type", "thread" if PROCESSES == 1 else "process", "--workers", str(PROCESSES * THREADS)]
OUR_WORKERS = ["--processes", str(PROCESSES if PROCESSES > 1 else 0), "--concurrency", str(THREADS)]
COMMANDS = {
    "dramatiq": ["dramatiq", "--processes", str(PROCESSES), "--threads", str(THREADS), "peer_on_redis"],
    "huey": ["huey.bin.huey_consumer", "peer_on_redis.huey", "--quiet", *HUEY_WORKERS],
    "anybroker": ["anybroker", "worker", "peer_on_redis:app", "--log-level", "error", *OUR_WORKERS],
}
slots_path = Path(os.environ["PEER_SLOTS"])
if not slots_path.exists():
    slots_path.write_bytes(bytes(8 * COUNT))
with slots_path.open("r+b") as file:
    slots = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")


def tick(number: int) -> int | None:
    if SLEEP:
        time.sleep(SLEEP)
    until = time.thread_time() + COMPUTE
    while COMPUTE and time.thread_time() < until:
        pass
    slots[number] = time.monotonic()
    return number if RESULTS else None


if PEER == "dramatiq":
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker = RedisBroker(url=URL)
    if RESULTS:
        broker.add_middleware(Results(backend=RedisBackend(url=URL)))
    dramatiq.set_broker(broker)
    send = dramatiq.actor(store_results=True)(tick).send if RESULTS else dramatiq.actor(tick).send

    def get(handle: object) -> object:
        return handle.get_result(block=True, timeout=30_000)
elif PEER == "anybroker":
    from anybroker import App

    app = App(URL)
    send = app.task(name="tick", results=False)(tick).send
else:
    from huey import RedisHuey

    huey = RedisHuey("bench", url=URL, notify_result=RESULTS)
    send = huey.task()(tick)

    def get(handle: object) -> object:
        return handle.get(blocking=True, timeout=30)


def drained() -> dict[str, float]:
    started = time.monotonic()
    for number in range(COUNT):
        send(number)
    sent = time.monotonic() - started
    with worker():
        while not all(slots):
            time.sleep(0.05)
    ran = sorted(slots)
    return {"enqueue_per_second": COUNT / sent, "drain_per_second": (COUNT - 1) / (ran[-1] - ran[0])}


def answered() -> dict[str, float]:
    with worker():
        latencies = []
        for number in range(ROUND_TRIPS + 10):
            started = time.perf_counter()
            get(send(number))
            latencies.append(1000 * (time.perf_counter() - started))
        latencies = sorted(latencies[10:])
        started = time.perf_counter()
        for handle in [send(number) for number in range(FAN_OUT)]:
            get(handle)
        fan_out = FAN_OUT / (time.perf_counter() - started)
    return {
        "round_trip_p50_ms": latencies[len(latencies) // 2],
        "round_trip_p99_ms": latencies[len(latencies) * 99 // 100],
        "fan_out_per_second": fan_out,
    }


class worker:  # noqa: N801  reads as a part of the sentence
    def __enter__(self) -> None:
        here = str(Path(__file__).parent)
        environment = {**os.environ, "PYTHONPATH": here}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[PEER]], cwd=here, env=environment, stderr=subprocess.DEVNULL
        )

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()


if __name__ == "__main__":
    import peer_on_redis  # under the name by which the worker will know the task

    print(json.dumps(peer_on_redis.answered() if RESULTS else peer_on_redis.drained()))
