"""A worker that has a process to itself: signals in, exit code out.

Run as ``python -m anybroker.worker.process '{"target": "tasks:app", ...}'`` it is a child of the
:mod:`~anybroker.worker.supervisor`.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from functools import partial
from typing import NoReturn

import msgspec

from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker.target import find_app
from anybroker.worker.child import Pulse
from anybroker.worker.signals import StopSignals
from anybroker.worker.worker import Worker

EXIT_STOPPED = 0
EXIT_MISCONFIGURED = 2
EXIT_RECYCLE = 75
"""Some tasks ignored their time limit; a fresh process is to take this one's place."""
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"

_log = logging.getLogger("anybroker.worker")


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker process is told; None: as the app's settings say."""

    target: str
    queues: str | None = None
    concurrency: int | None = None
    lease: float | None = None
    grace: float | None = None
    log_level: str = "INFO"
    lifeline: int | None = None
    """A file descriptor that is closed when the supervisor dies, however it dies."""
    pulse: int | None = None
    """A file descriptor on which the supervisor hears that this process lives."""


def run(worker: Worker, *, lifeline: int | None = None, pulse: int | None = None) -> int:
    """Run a worker in this process until a signal stops it; returns the exit code.

    The first SIGTERM or SIGINT lets running tasks finish within the grace time, the second gives them back at once.
    """
    signals = StopSignals(lambda _: worker.hurry() if signals.count > 1 else None)
    life = Pulse(pulse)
    orphaned = threading.Event()
    if lifeline is not None:
        follow = partial(_follow, lifeline, orphaned, signals)
        threading.Thread(target=follow, name="anybroker-lifeline", daemon=True).start()
    with worker:
        queues = ", ".join(worker.queues.names)
        life.begun(worker.lease, worker.grace)
        _log.info("worker %s: queues %s, concurrency %d", worker.name, queues, worker.concurrency)
        while not signals.count and not orphaned.is_set() and not (lifeline is not None and worker.stats().abandoned):
            signals.wait(1.0)
            life.beat()
        life.stopping()
        _log.info("stopping; %d running tasks may finish within %.0f s", worker.stats().running, worker.grace)
    _log.info("worker %s stopped; %d tasks", worker.name, worker.stats().finished)
    return EXIT_RECYCLE if not signals.count and not orphaned.is_set() else EXIT_STOPPED


def run_target(options: WorkerOptions) -> int:
    """Find the app, run a worker for it, close the app."""
    app = find_app(options.target)
    configure_logging(options.log_level)
    if not app.broker.capabilities.shared:
        _log.warning("%s is not shared: this process gets what it sends itself, and nothing else", app)
    worker = Worker(
        app, queues=options.queues, concurrency=options.concurrency, lease=options.lease, grace=options.grace
    )
    try:
        return run(worker, lifeline=options.lifeline, pulse=options.pulse)
    finally:
        try:
            app.close()
        except BrokerUnavailable as error:  # the worker has said so itself, and how it ended is not changed by it
            _log.warning("what was still held is delivered again after its lease: %s", error)


def leave(code: int) -> NoReturn:
    """End the process now, whatever threads tasks have left behind.

    Python itself would wait at its end for the threads of thread pools, such as that of ``asyncio.to_thread``, and for
    a thread that keeps the interpreter to itself. What is registered with ``atexit`` is called.
    """
    atexit._run_exitfuncs()  # noqa: SLF001  there is no other way to call them and not to wait for threads
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def configure_logging(level: str) -> None:
    """Log to standard error, unless the program has configured logging itself: to be called after it was imported."""
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT)


def _follow(lifeline: int, orphaned: threading.Event, signals: StopSignals) -> None:
    while os.read(lifeline, 1):
        pass
    _log.warning("the supervisor is gone")
    orphaned.set()
    signals.wake()


def main() -> int:
    """The entry point of a child process."""
    options = msgspec.json.decode(sys.argv[1], type=WorkerOptions)
    try:
        return run_target(options)
    except AnybrokerError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  what a command says to its user
        return EXIT_MISCONFIGURED


if __name__ == "__main__":
    leave(main())
