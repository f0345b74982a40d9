"""``anybroker conform URL``: the laws of a broker or a result backend, without a test file."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anybroker.cli.exits import FAILED, UNAVAILABLE, USAGE
from anybroker.cli.output import print_error
from anybroker.loading import parse_url, redact

if TYPE_CHECKING:
    import pytest

    from anybroker_conformance.run import Run
    from anybroker_conformance.selection import Kind

URL = "ANYBROKER_CONFORM_URL"
KIND = "ANYBROKER_CONFORM_KIND"
NOTHING_TESTED = 5
INTERRUPTED = 130
_INTERNAL = 70
_HERE = Path(__file__).parent


def conform(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the broker, or of the result backend.")],
    *,
    backend: Annotated[bool, typer.Option("--backend", help="Test the result backend of this URL.")] = False,
    law: Annotated[
        list[str] | None, typer.Option("--law", metavar="LAWS", help="Only these, by number or name: 4,fenced.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of random workloads: replays a failure.")] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write a report: .json, .html or .xml (JUnit). Several are possible."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What cannot be tested here is a failure.")] = False,
    workers: Annotated[
        str | None, typer.Option("--workers", "-n", metavar="N", help="Parallel processes, or auto; by pytest-xdist.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("-k", metavar="EXPR", help="Only tests whose names match, as in pytest.")
    ] = None,
) -> None:
    """Prove that a broker, or a result backend, keeps the laws of the contract.

    Writes to queues of its own and leaves them empty. Needs no test file, and reads no configuration of pytest.

    \b
    Examples:
      anybroker conform redis://localhost --report report.html
      anybroker conform sqlite:///laws.db --backend --law 4,join

    \b
    Exit codes:
      0  every law that could be tested here holds
      1  a law is broken; or, with --strict, one could not be tested
      2  the command is wrong, or the adapter is none: a wrong method, a contradictory declaration
      3  the broker or the result backend cannot be reached
      5  no law was tested
    """  # noqa: D301  \b is a control character: it keeps the lines as they are
    parse_url(url)
    _check(law or [], report or [], workers)
    kind: Kind = "backend" if backend else "broker"
    arguments = [
        *(["-n", workers] if workers else []),
        *(["-k", only] if only else []),
        *(["--conformance-strict"] if strict else []),
        *([] if seed is None else [f"--conformance-seed={seed}"]),
        *(f"--law={one}" for one in law or []),
        *(f"--conformance-report={file}" for file in report or []),
        f"--conformance-invocation=anybroker conform {redact(url)}{' --backend' if backend else ''}",
    ]
    with tempfile.TemporaryDirectory(prefix="anybroker-conform-") as folder:
        _prepare(url, kind, Path(folder))
        code = _examined(url, kind) or _run(arguments, with_workers=workers is not None)
    _leave(code)


def suite_of(url: str, kind: Kind) -> type:
    """The suite of an adapter that is known by its URL."""
    from anybroker_conformance.selection import base_of

    if url == "memory://":  # without a name every object has messages of its own, and could not be seen by another
        url = "memory://conform"
    content = {"url": url, "__module__": "anybroker_conformance.by_url"}
    return type(f"Test{kind.capitalize()}", (base_of(kind),), content)


def _check(laws: list[str], reports: list[Path], workers: str | None) -> None:
    """What is wrong with the options is said before anything is begun."""
    from anybroker_conformance.reports.files import WRITERS
    from anybroker_conformance.selection import Selection

    try:
        Selection(laws)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--law") from None
    for file in reports:
        if file.suffix not in WRITERS:
            raise typer.BadParameter(f"{file} must end in {', '.join(WRITERS)}", param_hint="--report")
    if workers is not None and not (workers == "auto" or workers.isdecimal()):
        raise typer.BadParameter(f"{workers!r} is neither a number nor auto", param_hint="-n")
    if workers is not None and find_spec("xdist") is None:
        raise typer.BadParameter("it needs pytest-xdist: pip install pytest-xdist", param_hint="-n")


def _prepare(url: str, kind: Kind, folder: Path) -> None:
    """No configuration but ours, and no traces in the current directory, also in the processes that are started."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ |= {
        URL: url,
        KIND: kind,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder),
    }


def _examined(url: str, kind: Kind) -> int:
    """Zero if the adapter can be tested; else say in one line why not."""
    from anybroker_conformance.examination import examine

    found = examine(suite_of(url, kind), kind)
    if found.problem is None:
        return 0
    problem = found.problem.removeprefix("connect() raised ConfigurationError: ")
    print_error(f"this {kind} cannot be tested: {problem}")
    return UNAVAILABLE if found.unreachable else USAGE


class _Outcome:
    """A plugin that keeps what came out."""

    run: Run | None = None

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        self.run = config.pluginmanager.get_plugin("anybroker-conformance-run")


def _run(arguments: list[str], *, with_workers: bool) -> int:
    import pytest

    outcome = _Outcome()
    isolated = ["-c", os.devnull, "--rootdir", str(_HERE), "--noconftest", "--import-mode=importlib"]
    quiet = ["-q", "--no-header", "--disable-warnings", "--assert=plain"]
    plugins = ["-p", "no:cacheprovider", "-p", "anybroker_conformance.plugin"]
    if with_workers:
        plugins += ["-p", "xdist.plugin"]
    code = pytest.main([*isolated, *quiet, *plugins, *arguments, str(_HERE / "by_url.py")], plugins=[outcome])
    if outcome.run is not None and outcome.run.unreachable:
        return UNAVAILABLE
    meaning = {
        pytest.ExitCode.OK: 0,
        pytest.ExitCode.TESTS_FAILED: FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED: NOTHING_TESTED,
        pytest.ExitCode.USAGE_ERROR: USAGE,
        pytest.ExitCode.INTERRUPTED: INTERRUPTED,
    }
    return meaning.get(pytest.ExitCode(code), _INTERNAL)


def _leave(code: int) -> None:
    """Exit, also when a broken adapter has left threads that never end."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(code)
    raise typer.Exit(code)
