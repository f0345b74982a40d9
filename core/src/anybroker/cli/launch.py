"""What ``anybroker worker`` becomes: run as ``python -m anybroker.cli.launch '{"worker": ...}'``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from anybroker.cli.deadline import NoAnswer, ping, within
from anybroker.cli.exits import exit_code
from anybroker.errors import AnybrokerError
from anybroker.loading import redact
from anybroker.target import find_app
from anybroker.worker.process import EXIT_STOPPED, WorkerOptions, configure_logging, leave, run_target
from anybroker.worker.signals import end_start_when_asked
from anybroker.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from anybroker.app import App

FIRST_ANSWER = 1.0
"""Seconds within which a broker is expected to give its first sign of life."""

_log = logging.getLogger("anybroker.worker")


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A worker command."""

    worker: WorkerOptions
    processes: int | None
    """None: as the app's settings say."""
    reload: bool


def launch(command: Launch) -> int:
    """Run workers until a signal stops them; returns the exit code. Raises ``ConfigurationError``."""
    options = command.worker
    if command.reload:  # the app is imported by the child alone, which can be replaced
        # Two changes within a second that keep a file's size look the same to a cache of compiled files.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        configure_logging(options.log_level)
        return Supervisor(options, command.processes or 1, reload=Path.cwd()).run()
    processes = command.processes
    if processes is None:
        processes = find_app(options.target).settings.processes
    if processes:
        configure_logging(options.log_level)
        return Supervisor(options, processes).run()
    app = find_app(options.target)
    threading.Thread(target=_report_silence, args=(app,), name="anybroker-ping", daemon=True).start()
    return run_target(options)


def _report_silence(app: App) -> None:
    """Say so when the broker does not answer at all; that it refuses is what the worker says itself."""
    try:
        within(FIRST_ANSWER, lambda: ping(app.broker))
    except NoAnswer as error:
        _log.warning("%s: %s; trying on", redact(app.settings.url), error)
    except AnybrokerError:
        pass


def main() -> int:
    """The entry point of the process."""
    try:
        end_start_when_asked()
        command = msgspec.json.decode(sys.argv[1], type=Launch)
        return launch(command)
    except KeyboardInterrupt:  # it has not begun to work
        return EXIT_STOPPED
    except AnybrokerError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  what a command says to its user
        return exit_code(error)


if __name__ == "__main__":
    leave(main())
