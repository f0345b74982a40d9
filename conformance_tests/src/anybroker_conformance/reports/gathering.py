"""From single tests to a report: what is gathered while they run, perhaps in several processes."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import msgspec

from anybroker_conformance.examination import Examination
from anybroker_conformance.reports.report import Case, Failure, Figure, LawResult, Report, Untested
from anybroker_conformance.selection import LAWS, Kind, law_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anybroker_conformance.laws import Declaration, Law
    from anybroker_conformance.reports.report import Status

_PACKAGES = ("anybroker", "anybroker-conformance", "pytest", "hypothesis")


class Plan(msgspec.Struct):
    """What is to be run of one suite; and what one process found out about its adapter."""

    suite: str
    """The name of the test class."""
    kind: Kind
    selected: dict[int, int]
    """How many tests of each law were selected."""
    missing: list[int]
    """Laws that the suite has no test of."""
    complete: bool
    """Nothing was left out."""
    examination: Examination | None = None
    not_run: int = 0
    """Tests that were not run because the adapter cannot be tested."""


class Record(msgspec.Struct):
    """One phase of one test."""

    suite: str
    """The node id of the test class."""
    law: int
    test: str
    outcome: Literal["passed", "broken", "untested"]
    ran: bool
    """It is the phase in which the test itself ran, or said that it cannot."""
    seconds: float = 0.0
    started: float = 0.0
    stopped: float = 0.0
    reason: str | None = None
    failure: Failure | None = None
    figures: dict[str, list[float]] = {}


class Gathering:
    """Everything that was found in a run."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self._records: dict[str, list[Record]] = {}
        self._crashed: dict[str, str] = {}

    def plan(self, suite: str, plan: Plan) -> None:
        """Add what one process planned for a suite, and found out about it."""
        known = self.plans.setdefault(suite, plan)
        if known is plan:
            return
        known.not_run += plan.not_run
        if known.examination is None or (plan.examination and plan.examination.problem):
            known.examination = plan.examination

    def record(self, test: str, record: Record) -> None:
        """Add a phase of a test, by its node id."""
        self._records.setdefault(test, []).append(record)

    def crash(self, test: str, text: str) -> None:
        """Add a failure that nobody could record, because the process died of it. It may be one of another's tests."""
        self._crashed[test] = text

    def reports(self, seed: int, *, strict: bool) -> dict[str, Report]:
        """A report for each suite of which anything was selected, by its node id."""
        for test, text in self._crashed.items():
            self._record_crash(test, text)
        return {suite: self._report(suite, plan, seed, strict=strict) for suite, plan in self.plans.items()}

    def _record_crash(self, test: str, text: str) -> None:
        suite, _, name = test.rpartition("::")
        plan = self.plans.get(suite)
        law = plan and law_of(plan.kind, name)
        if law:
            failure = Failure(name, text, f"pytest {test}")
            self.record(test, Record(suite, law.number, name, "broken", ran=True, failure=failure))

    def _report(self, suite: str, plan: Plan, seed: int, *, strict: bool) -> Report:
        tests = {name: records for name, records in self._records.items() if records[0].suite == suite}
        records = [one for phases in tests.values() for one in phases]
        known = plan.examination or Examination(plan.kind, plan.suite)
        problem = known.problem
        laws = [] if problem else list(_laws(plan, tests.values(), known))
        untested = [
            Untested(one.law, law_name(plan.kind, one.law), one.test, one.reason or "")
            for one in sorted(records, key=lambda one: one.law)
            if one.outcome == "untested"
        ]
        broken = any(law.status == "broken" for law in laws)
        nothing = all(law.status == "untested" for law in laws)
        whole = [*untested, *(law for law in laws if law.status == "untested")]
        started = [one.started for one in records if one.started]
        return Report(
            adapter=known.adapter,
            kind=plan.kind,
            server=known.server,
            seed=seed,
            duration_seconds=round(max(one.stopped for one in records) - min(started), 3) if started else 0.0,
            verdict="not testable"
            if problem
            else "broken"
            if broken
            else "untested"
            if nothing or (strict and whole)
            else "proven",
            laws=laws,
            figures={name: Figure.of(values) for name, values in sorted(_figures(records).items())},
            untested=untested,
            suite=plan.suite,
            url=known.url,
            complete=plan.complete and sum(plan.selected.values()) == len(tests),
            problem=problem,
            tests=[_case(phases) for phases in tests.values()],
            versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        )


def law_name(kind: Kind, number: int) -> str:
    """The name of a law."""
    return next(law.name for law in LAWS[kind] if law.number == number)


def _laws(plan: Plan, tests: Iterable[list[Record]], known: Examination) -> Iterable[LawResult]:
    tests = list(tests)
    for law in LAWS[plan.kind]:
        if law.number in plan.selected or law.number in plan.missing:
            of_law = [phases for phases in tests if phases[0].law == law.number]
            yield _law(law, of_law, plan.selected.get(law.number, 0), known.declarations.get(law.number))


def _law(law: Law, tests: list[list[Record]], selected: int, declaration: Declaration | None) -> LawResult:
    cases = [_case(phases) for phases in tests]
    ran = sum(case.outcome != "untested" for case in cases)
    reasons = dict.fromkeys(one.reason for phases in tests for one in phases if one.reason)
    if not selected:
        reasons["the suite has no test of it"] = None
    elif len(tests) < selected:
        reasons[f"only {len(tests)} of {selected} tests were run"] = None
    failures = [one.failure for phases in tests for one in phases if one.failure]
    status: Status = "proven"
    if any(case.outcome == "broken" for case in cases):
        status = "broken"
    elif not ran or len(tests) < selected:
        status = "untested"
    elif declaration is not None and declaration.refused:
        status = "refused"
    elif declaration is not None and declaration.weaker:
        status = "proven weaker"
    return LawResult(
        law=law.number,
        name=law.name,
        text=law.text,
        status=status,
        declared=declaration.text if declaration is not None and declaration.text else None,
        tests=ran,
        seconds=round(sum(case.seconds for case in cases), 3),
        reason="; ".join(reasons) or None,
        failures=failures,
    )


def _case(phases: list[Record]) -> Case:
    """What became of one test: broken if any of its phases was."""
    outcomes = [one.outcome for one in phases]
    outcome = next((one for one in ("broken", "untested") if one in outcomes), "passed")
    seconds = round(sum(one.seconds for one in phases), 3)
    return Case(phases[0].law, phases[0].test, outcome, seconds)  # type: ignore[arg-type]


def _figures(records: Iterable[Record]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in records:
        for name, values in record.figures.items():
            found.setdefault(name, []).extend(values)
    return found
