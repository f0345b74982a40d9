"""The worker that ``anybroker bench`` measures: in the same process, or as ``python -m anybroker.cli.bench_worker``.

As a process it is told on its standard input what to do, so that no URL shows in a list of processes, writes its
reports to its standard output, and stops when its input is closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

import msgspec

from anybroker.app import App
from anybroker.errors import AnybrokerError, ResultTimeout
from anybroker.worker import Worker
from anybroker.worker.process import configure_logging, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_STDIN = 0
_STOP_WITHIN = 15.0


class BenchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where to measure."""

    url: str
    results_url: str | None
    queue: str
    concurrency: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All the no-op tasks that a phase has sent have run."""

    first: float
    """When the first of them ran, in seconds of ``time.monotonic``, which all processes of a machine share."""
    last: float
    rss_mb: float
    """The most memory that the process has used so far."""


class BenchTasks:
    """The tasks that are measured, of an app of their own."""

    def __init__(self, spec: BenchSpec, report: Callable[[Report], None]) -> None:
        self.app = App(spec.url, results_url=spec.results_url)
        meter = _Meter(report)

        @self.app.task(name="bench.noop", queue=spec.queue, results=False)
        def noop(total: int) -> None:
            meter.tick(total)

        @self.app.task(name="bench.echo", queue=spec.queue)
        def echo(value: int) -> int:
            return value

        self.noop = noop
        """Counts itself; when ``total`` have run, there is a report. 0: as a later one says."""
        self.echo = echo


class WorkerHere:
    """A worker in this process, for brokers that live in one."""

    def __init__(self, app: App, spec: BenchSpec, reports: SimpleQueue[Report | None]) -> None:
        self.reports = reports
        self._worker = Worker(app, queues=[spec.queue], concurrency=spec.concurrency)

    def __enter__(self) -> Self:
        """Start."""
        self._worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._worker.stop()


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, spec: BenchSpec, reports: SimpleQueue[Report | None]) -> None:
        self.reports = reports
        self._spec = spec

    def __enter__(self) -> Self:
        """Start."""
        self._process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(self._spec) + b"\n")
            self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen, name="anybroker-reports", daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._listener.join()

    def _listen(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as lines:
                for line in lines:
                    self.reports.put(msgspec.json.decode(line, type=Report))
        self._process.wait()
        self.reports.put(None)


def next_report(worker: WorkerHere | WorkerProcess, timeout: float) -> Report:
    """What the worker reports next. Raises ``ResultTimeout``, and ``AnybrokerError`` when it died."""
    try:
        report = worker.reports.get(timeout=timeout)
    except Empty:
        raise ResultTimeout(f"the worker did not finish within {timeout:.0f} s") from None
    if report is None:
        raise AnybrokerError("the worker process died")
    return report


class _Meter:
    """Counts the tasks that run, in whatever threads they do."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        self._report = report
        self._total = 0
        self._count = count(1)
        self._first = 0.0

    def tick(self, total: int) -> None:
        if total:
            self._total = total
        number = next(self._count)
        if number == 1:
            self._first = time.monotonic()
        if number == self._total:
            self._total, self._count = 0, count(1)
            self._report(Report(first=self._first, last=time.monotonic(), rss_mb=_peak_memory()))


def _peak_memory() -> float:
    """Megabytes. Of Linux not ``ru_maxrss``, which begins with what the parent process had."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123  read line by line
            kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except OSError:  # no Linux: macOS, which counts in bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return kilobytes / 2**10


def main() -> int:
    """The entry point of the process."""
    configure_logging("error")
    with os.fdopen(_STDIN, "rb", buffering=0, closefd=False) as stdin:
        spec = msgspec.json.decode(stdin.readline(), type=BenchSpec)
    tasks = BenchTasks(spec, _print_report)
    worker = Worker(tasks.app, queues=[spec.queue], concurrency=spec.concurrency)
    try:
        return run(worker, lifeline=_STDIN)
    finally:
        tasks.app.close()


def _print_report(report: Report) -> None:
    print(msgspec.json.encode(report).decode(), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    sys.exit(main())
