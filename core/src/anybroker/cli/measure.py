"""How fast a broker is: the phases of ``anybroker bench``."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from anybroker.cli.bench_worker import (
    BenchSpec,
    BenchTasks,
    Report,
    WorkerHere,
    WorkerProcess,
    next_report,
)
from anybroker.cli.scratch import clear
from anybroker.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.handle import Handle

PHASES = 6
_BATCH = 1000
_ONE_BY_ONE = 2.0
"""Seconds at most for sending tasks one at a time, which can take milliseconds each."""
_ROUND_TRIPS = 1000
_ROUND_TRIPS_WITHIN = 5.0
_WARM_UP = 20
_FAN_OUT = 1000
_PATIENCE = 60.0
_SLOWEST = 50.0
"""Tasks a second below which a phase is given up."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; None where there is no result backend."""

    tasks: int
    enqueue_per_second: float
    bulk_per_second: float
    drain_per_second: float
    pipeline_per_second: float
    round_trip_p50_ms: float | None
    round_trip_p99_ms: float | None
    fan_out_per_second: float | None
    rss_mb: float


class Bench:
    """One measurement on one broker."""

    def __init__(self, spec: BenchSpec, tasks: int, done: Callable[[int], None]) -> None:
        """``done`` is called with 1 after each of the ``PHASES``."""
        self._reports: SimpleQueue[Report | None] = SimpleQueue()
        self._spec = spec
        self._tasks = tasks
        self._done = done
        self._bench = BenchTasks(spec, self._reports.put)
        self._app = self._bench.app
        self._handles: list[Handle[int]] = []

    def run(self) -> Figures:
        """All phases; cleans up whatever comes. Raises ``BrokerUnavailable``, ``ResultTimeout``."""
        try:
            alone, enqueue = self._send_one_by_one()
            bulk = self._send_in_bulk(alone + self._tasks)
            with self._worker() as worker:
                report = next_report(worker, self._patience())
                drain = (alone + self._tasks - 1) / max(report.last - report.first, 1e-9)
                self._done(1)
                pipeline = self._pipeline(worker)
                latencies = self._round_trips() if self._app.backend is not None else None
                fan_out = self._fan_out() if self._app.backend is not None else None
                self._bench.noop.send(1)
                memory = next_report(worker, self._patience()).rss_mb
        finally:
            self._clean_up()
        return Figures(
            tasks=self._tasks,
            enqueue_per_second=round(enqueue),
            bulk_per_second=round(bulk),
            drain_per_second=round(drain),
            pipeline_per_second=round(pipeline),
            round_trip_p50_ms=_percentile(latencies, 50) if latencies else None,
            round_trip_p99_ms=_percentile(latencies, 99) if latencies else None,
            fan_out_per_second=None if fan_out is None else round(fan_out),
            rss_mb=round(memory, 1),
        )

    def _worker(self) -> WorkerHere | WorkerProcess:
        backend = self._app.backend
        shared = self._app.broker.capabilities.shared and (backend is None or backend.capabilities.shared)
        return WorkerProcess(self._spec, self._reports) if shared else WorkerHere(self._app, self._spec, self._reports)

    def _send_one_by_one(self) -> tuple[int, float]:
        """How many were sent, and how many a second."""
        sent = 0
        started = time.monotonic()
        while sent < max(1, self._tasks // 10) and time.monotonic() - started < _ONE_BY_ONE:
            self._bench.noop.send(0)
            sent += 1
        rate = sent / (time.monotonic() - started)
        self._done(1)
        return sent, rate

    def _send_in_bulk(self, total: int) -> float:
        """How many a second; the worker reports when ``total`` have run."""
        started = time.monotonic()
        self._send_all(total)
        rate = self._tasks / (time.monotonic() - started)
        self._done(1)
        return rate

    def _send_all(self, total: int) -> None:
        noop = self._bench.noop
        for start in range(0, self._tasks, _BATCH):
            self._app.send_many([noop.s(total) for _ in range(min(_BATCH, self._tasks - start))])

    def _pipeline(self, worker: WorkerHere | WorkerProcess) -> float:
        """With a worker that runs: from the first that is sent to the last that has run."""
        started = time.monotonic()
        self._send_all(self._tasks)
        rate = self._tasks / (next_report(worker, self._patience()).last - started)
        self._done(1)
        return rate

    def _round_trips(self) -> list[float]:
        """Milliseconds from ``send`` to the return of ``get``, one task after another; sorted."""
        latencies = []
        ends_at = time.monotonic() + _ROUND_TRIPS_WITHIN
        for number in range(_ROUND_TRIPS):
            started = time.perf_counter()
            handle = self._bench.echo.send(number)
            handle.get(_PATIENCE)
            latencies.append((time.perf_counter() - started) * 1000)
            self._handles.append(handle)
            if time.monotonic() > ends_at and number > _WARM_UP:
                break
        self._done(1)
        return sorted(latencies[_WARM_UP:])

    def _fan_out(self) -> float:
        echo = self._bench.echo
        started = time.monotonic()
        handles = self._app.send_many([echo.s(number) for number in range(_FAN_OUT)])
        self._handles += handles
        self._app.get_many(handles, timeout=_PATIENCE)
        rate = _FAN_OUT / (time.monotonic() - started)
        self._done(1)
        return rate

    def _patience(self) -> float:
        return _PATIENCE + self._tasks / _SLOWEST

    def _clean_up(self) -> None:
        with suppress(BrokerUnavailable):  # when it is gone, that is what ended the run
            clear(self._app.broker, self._spec.queue)
            if self._app.backend is not None:
                self._app.backend.forget([handle.id for handle in self._handles])
        self._app.close()


def _percentile(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 3)
