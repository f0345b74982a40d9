"""``anybroker worker``: run tasks until a signal says stop."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from anybroker.cli.launch import Launch
from anybroker.cli.options import APP_VARIABLE, AppTarget, read_seconds
from anybroker.errors import ConfigurationError
from anybroker.worker.process import WorkerOptions


class LogLevel(StrEnum):
    """As in ``logging``."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(
    target: Annotated[str | None, typer.Argument(metavar="MODULE:APP", help="The app, as for --app.")] = None,
    *,
    app: AppTarget = None,
    queues: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="In order of preference (mail,default) or weighted (mail:3,default:1)."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="How many tasks a process runs at once.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=0, help="How many child processes run tasks; 0: this process does.")
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(parser=read_seconds, metavar="DURATION", help="How long the tasks of a killed worker rest."),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(parser=read_seconds, metavar="DURATION", help="How long running tasks may go on after SIGTERM."),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(case_sensitive=False, help="What to log.")] = LogLevel.INFO,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a Python file below the current directory changes.")
    ] = False,
) -> None:
    """Run the tasks of an app until SIGTERM or SIGINT.

    The first signal lets running tasks finish within the grace time, a second one gives them back at once. A broker
    that is down is waited for. What is not given is as the app's settings say.

    Example: anybroker worker tasks:app --queues mail:3,default:1 --concurrency 16 --processes 2
    """
    target = target or app or os.environ.get(APP_VARIABLE)
    if not target:
        raise ConfigurationError("which app? e.g. anybroker worker tasks:app for the app in tasks.py")
    worker_options = WorkerOptions(
        target=target, queues=queues, concurrency=concurrency, lease=lease, grace=grace, log_level=log_level.value
    )
    launch = Launch(worker=worker_options, processes=processes, reload=reload)
    # A fresh interpreter in place of this one, without what only the command line needs: 15 MB less.
    # -P: a file queue.py or logging.py in the current directory is nobody's standard library.
    argv = [sys.executable, "-P", "-m", "anybroker.cli.launch", msgspec.json.encode(launch).decode()]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, argv)  # noqa: S606  no shell is wanted
