"""Huey with its SQLite storage, measured as ``anybroker bench`` measures: a process of its own that needs only huey.

``peer_huey.py FILE COUNT``: sends tasks one at a time, then starts huey's own consumer with threads and prints, as
JSON, how many were sent a second and how many were drained a second, from the first that ran to the last.
"""

import json
import mmap
import subprocess
import sys
import time
from pathlib import Path

from huey import SqliteHuey

DATABASE, COUNT = sys.argv[-2], int(sys.argv[-1])
THREADS = 8
huey = SqliteHuey("bench", filename=DATABASE, results=False)
slots_path = Path(DATABASE + ".slots")
if not slots_path.exists():
    slots_path.write_bytes(bytes(8 * COUNT))
with slots_path.open("r+b") as file:
    slots = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")


@huey.task()
def noop(number: int) -> None:
    """Leaves the time at which it ran where another process can read it."""
    slots[number] = time.monotonic()


def main() -> None:
    """Send, drain, print."""
    import peer_huey  # under the name by which the consumer will know the task

    started = time.monotonic()
    for number in range(COUNT):
        peer_huey.noop(number)
    sent = time.monotonic() - started
    starter = f"import sys; sys.argv = {sys.argv!r}; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    starter += f"from peer_huey import huey; huey.create_consumer(workers={THREADS}, periodic=False).run()"
    consumer = subprocess.Popen([sys.executable, "-c", starter], stderr=subprocess.DEVNULL)
    try:
        while not all(slots):
            time.sleep(0.1)
    finally:
        consumer.terminate()
        consumer.wait()
    ran = sorted(slots)
    print(json.dumps({"enqueue_per_second": COUNT / sent, "drain_per_second": (COUNT - 1) / (ran[-1] - ran[0])}))


if __name__ == "__main__":
    main()
