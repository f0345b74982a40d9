"""Runs the suite against the ledger and prints the table: who was killed, how often, and by which test."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker_conformance.laws import BACKEND_LAWS, BROKER_LAWS
from anybroker_conformance.ledger import mutants
from anybroker_conformance.ledger.references import REFERENCES
from anybroker_conformance.ledger.registry import Kind, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CASE = "anybroker_conformance.ledger.case"
CONCURRENT = 4
"""Runs at the same time in a round: most of their time is waiting."""
ROUNDS = 2
"""Rounds at the same time: at the end of one, a single run goes on for long."""


class Run(msgspec.Struct, frozen=True):
    """One run of the suite against one adapter."""

    subject: str
    failed: tuple[str, ...]
    """The tests that failed."""
    passed: int
    seconds: float
    output: str


class Verdict(msgspec.Struct):
    """All runs against one adapter."""

    mutant: Mutant
    runs: list[Run]

    @property
    def kills(self) -> int:
        """In how many runs the law that it breaks had a test that failed."""
        return sum(bool(run.failed) for run in self.runs)

    @property
    def killers(self) -> str:
        """The test that failed most often."""
        failed = Counter(name for run in self.runs for name in run.failed)
        return failed.most_common(1)[0][0] if failed else "nobody"


class _Outcomes:
    """A pytest plugin that runs one test before the others, and keeps what passed and what failed."""

    def __init__(self, first: str | None) -> None:
        self.first = first
        self.failed: list[str] = []
        self.passed = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the test that is to run first there."""
        items.sort(key=lambda item: item.name != self.first)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test has ended."""
        name = report.nodeid.rpartition("::")[2]
        if report.failed and name.startswith("test_"):  # else the adapter could not be tested at all
            self.failed.append(name)
        elif report.when == "call" and report.passed:
            self.passed += 1


def law_number(mutant: Mutant) -> int:
    """The number of the law that a mutant breaks."""
    laws = BROKER_LAWS if mutant.kind == "broker" else BACKEND_LAWS
    return next(law.number for law in laws if law.name == mutant.law)


def selections(chosen: Iterable[Mutant]) -> dict[str, str]:
    """The tests that each mutant must fail: those of the law that it breaks, as ``pytest -k`` names them."""
    return {mutant.name: f"law{law_number(mutant):02}_" for mutant in chosen}


def run_suite(subject: str, selection: str | None, seed: int, first: str | None = None) -> Run:
    """Run the suite, or a part of it, against a mutant or a reference; stops at the first failure.

    ``first`` is the test to begin with: the one that killed this mutant before kills it again most likely.
    """
    from anybroker_conformance.ledger.case import VARIABLE

    os.environ[VARIABLE] = subject
    sys.modules.pop(CASE, None)  # a class of its own for each run: nothing that is remembered of it is stale
    outcomes, output = _Outcomes(first), StringIO()
    arguments = ["--pyargs", CASE, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    arguments += ["-p", "no:unraisableexception"]  # it collects garbage a dozen times at the end of each run
    arguments += ["-c", os.devnull, "--noconftest", "--conformance-seed", str(seed)]
    arguments += ["-k", selection] if selection else []
    began = time.monotonic()
    with TemporaryDirectory() as scratch, redirect_stdout(output), redirect_stderr(output):
        code = pytest.main([*arguments, "--rootdir", scratch, "--basetemp", f"{scratch}/tests"], plugins=[outcomes])
    seconds = time.monotonic() - began
    if not (code == pytest.ExitCode.OK or outcomes.failed):
        raise RuntimeError(f"{subject} could not be tested: {code!r}\n{output.getvalue()}")
    return Run(subject, tuple(outcomes.failed), outcomes.passed, seconds, output.getvalue()[-4000:])


def run_all(
    tests: Mapping[str, str | None], runs: int, first_seed: int, concurrent: int = CONCURRENT
) -> dict[str, list[Run]]:
    """Run the suite, or the tests that are given, against each subject, so many times; ``concurrent`` runs at once.

    Each round has new processes: what runs leave behind in one, classes above all, would fill the memory.
    """
    finished: dict[str, list[Run]] = {subject: [] for subject in tests}

    def run_round(number: int) -> None:
        with ProcessPoolExecutor(concurrent, get_context("spawn")) as pool:
            pending = [
                pool.submit(run_suite, subject, selection, first_seed + number, _killer(finished[subject]))
                for subject, selection in tests.items()
            ]
            done = [future.result() for future in as_completed(pending)]
        for run in done:
            finished[run.subject].append(run)
        right = sorted(run.subject for run in done if not run.failed)
        print(f"round {number + 1} of {runs}: passed by {', '.join(right) or 'nobody'}", file=sys.stderr)  # noqa: T201

    with ThreadPoolExecutor(ROUNDS) as rounds:
        list(rounds.map(run_round, range(runs)))
    return finished


def _killer(runs: Sequence[Run]) -> str | None:
    return runs[-1].failed[0] if runs and runs[-1].failed else None


def table(verdicts: Sequence[Verdict]) -> str:
    """The ledger as a table in Markdown."""
    lines = ["| law | what is wrong | killed | by |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {law_number(one.mutant)} {one.mutant.law} | {one.mutant.text} ({one.mutant.kind} `{one.mutant.name}`) "
        f"| {one.kills} of {len(one.runs)} | `{one.killers}` |"
        for one in sorted(verdicts, key=lambda one: (one.mutant.kind, law_number(one.mutant), one.mutant.name))
    ]
    return "\n".join(lines)


PAGE = """\
# Wrong on purpose

The [conformance suite](conformance.md) is tested as well: here are {number} brokers and result backends that are right
but for one thing, the law that each one breaks, how often a test of that law failed, and the test that did most often.
In the same run the references, which are right, passed {runs} of {runs} times. Made by `make mutants`; not edited by
hand.

"""


def main() -> int:
    """``python -m anybroker_conformance.ledger``; 0 when every mutant was killed in every run."""
    parser = argparse.ArgumentParser(prog="python -m anybroker_conformance.ledger", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; all of them where none is named")
    parser.add_argument("--runs", type=int, default=20, help="runs of each (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the first run (1)")
    parser.add_argument(
        "--concurrent", type=int, default=CONCURRENT, help=f"runs of a round at the same time ({CONCURRENT})"
    )
    parser.add_argument("--kind", choices=["broker", "backend"], help="only these")
    parser.add_argument("--no-reference", action="store_true", help="do not run the right ones, which must pass")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    given = parser.parse_args()
    chosen = [
        mutant
        for mutant in mutants().values()
        if (not given.names or mutant.name in given.names) and given.kind in {None, mutant.kind}
    ]
    if not chosen:
        parser.error(f"no mutant is called that; there are: {', '.join(mutants())}")
    kinds: set[Kind] = set() if given.no_reference else {mutant.kind for mutant in chosen}
    references = [name for name, (kind, _) in REFERENCES.items() if kind in kinds]
    tests = dict.fromkeys(references) | selections(chosen)  # the longest first
    finished = run_all(tests, given.runs, given.seed, given.concurrent)
    verdicts = [Verdict(mutant, finished[mutant.name]) for mutant in chosen]
    print(table(verdicts))  # noqa: T201
    survived = [one for one in verdicts if one.kills < len(one.runs)]
    right = [run for name in references for run in finished[name]]
    failed = [run for run in right if run.failed]
    for run in failed:
        print(f"the reference {run.subject} failed {run.failed}:\n{run.output}", file=sys.stderr)  # noqa: T201
    summary = f"{len(verdicts) - len(survived)} of {len(verdicts)} mutants killed in {given.runs} of {given.runs} runs"
    of_references = f"; the references failed in {len(failed)} of {len(right)} runs" if right else ""
    print(f"\n{summary}{of_references}")  # noqa: T201
    if given.markdown and not failed:
        head = PAGE.format(number=len(verdicts), runs=given.runs)
        given.markdown.write_text(f"{head}{table(verdicts)}\n", encoding="utf-8")
    return 1 if survived or failed else 0
