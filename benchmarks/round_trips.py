"""From `send` to the result: one broker, with each result backend in turn."""

from __future__ import annotations

import json
import subprocess
import sys

TASKS = "1000"
"""Of the other phases of a run, which are not shown."""


def main(broker: str, *others: str) -> None:
    print(f"{'results on':12}{'p50 ms':>10}{'p99 ms':>10}{'fan-out /s':>12}")
    for backend in (broker, *others):
        command = ["anybroker", "bench", broker, "--results-url", backend, "--tasks", TASKS, "--json"]
        measured = json.loads(subprocess.check_output(command))
        figures = (measured[name] for name in ("round_trip_p50_ms", "round_trip_p99_ms", "fan_out_per_second"))
        print(
            f"{backend.partition(':')[0]:12}{next(figures):10.2f}{next(figures):10.2f}{next(figures):12,}", flush=True
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
