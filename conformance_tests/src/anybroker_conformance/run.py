"""One run of pytest: which laws are tested, what is looked at first, and what is reported."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pytest

from anybroker_conformance.examination import examine
from anybroker_conformance.explanation import explain, first_of, text_of
from anybroker_conformance.hang import LONGEST, PER_LEASE, Hang, interrupted_after
from anybroker_conformance.laws import Law
from anybroker_conformance.reports.files import WRITERS
from anybroker_conformance.reports.gathering import Gathering, Plan, Record
from anybroker_conformance.reports.terminal import summarize
from anybroker_conformance.seed import drawn_from
from anybroker_conformance.selection import LAWS, Kind, kind_of, law_of, law_tests

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from anybroker_conformance.examination import Examination
    from anybroker_conformance.reports.report import Failure, Report
    from anybroker_conformance.selection import Selection

S = TypeVar("S")

GARBAGE = pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
"""What the garbage collector finds may be of any test before; it is told, and breaks no law."""
ENOUGH_FAILURES = 3
ENOUGH_SECONDS = 4.0
"""After so many failures of one law, or so many seconds spent on them, its other tests are not run."""

_SUBJECTS = pytest.StashKey[list[Any]]()
_KEPT = 8
_OUTPUT = "anybroker_conformance"
_SHORTEST = 10.0  # seconds for a test after others have hung
_BROKEN, _UNTESTED = pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED


class NotTestable(Exception):
    """The adapter does not get as far as its first law."""


class _LawTest(msgspec.Struct, frozen=True):
    """What one item is."""

    suite: type
    key: str
    kind: Kind
    law: Law


class Run:
    """The hooks. Where pytest-xdist runs the tests, its workers have one too, and send what they find."""

    def __init__(self, config: pytest.Config, selection: Selection, files: Sequence[Path]) -> None:
        self._config = config
        self._selection = selection
        self._files = files
        self._seed: int = config.option.conformance_seed
        self._strict: bool = config.option.conformance_strict
        self._is_worker = hasattr(config, "workerinput")
        self._gathering = Gathering()
        self._examinations: dict[type, Examination] = {}
        self._offered: dict[str, int] = {}
        self._first: dict[str, pytest.Item] = {}
        self._hangs = 0
        self._failed: set[str] = set()
        self._failures: dict[tuple[str, int], list[float]] = {}
        """Seconds that the failed tests of a law took, by class and number."""
        self.reports: dict[str, Report] = {}
        """What was found, by the node ids of the test classes; at the end of the run."""
        self.unreachable = False
        """An adapter could not be tested because nobody answered."""

    # Which tests are run

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what was not asked for by ``--law``; what the garbage collector finds fails no test."""
        for item in items:
            if test := _law_test(item):
                item.add_marker(GARBAGE)
                self._offered[test.key] = self._offered.get(test.key, 0) + 1
        if self._selection:
            chosen = [item for item in items if (test := _law_test(item)) and test.law in self._selection]
            config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
            items[:] = chosen

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take down what is going to be run."""
        found: dict[str, list[_LawTest]] = {}
        names: dict[str, set[str]] = {}
        for item in session.items:
            if test := _law_test(item):
                self._first.setdefault(test.key, item)
                found.setdefault(test.key, []).append(test)
                names.setdefault(test.key, set()).add(getattr(item, "originalname", item.name))
        for key, tests in found.items():
            suite, kind = tests[0].suite, tests[0].kind
            every = law_tests(suite, kind)
            numbers = [test.law.number for test in tests]
            whole = set(every) == names[key] and self._offered[key] == len(tests)
            tested = {law.number for law in every.values()}
            missing = [law.number for law in LAWS[kind] if whole and law.number not in tested]
            self._gathering.plan(
                key,
                Plan(
                    suite.__name__,
                    kind,
                    selected={number: numbers.count(number) for number in sorted(set(numbers))},
                    missing=missing,
                    complete=whole,
                ),
            )

    # What comes before the first test of a suite

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Where the adapter cannot be tested, report that once instead of running the tests."""
        test = _law_test(item)
        if test is None:
            return None
        began = time.time()
        found = self._examination(test)
        if found.problem is None:
            return True if self._is_settled(test) else None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        if item is self._first[test.key]:
            report = _not_testable(item, f"{test.suite.__name__} cannot be tested: {found.problem}", began)
            item.ihook.pytest_runtest_logreport(report=report)
        self._gathering.plans[test.key].not_run += 1
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        # What other tests have left set up is torn down as if this one had run.
        pytest.CallInfo.from_call(
            lambda: item.ihook.pytest_runtest_teardown(item=item, nextitem=nextitem), when="teardown"
        )
        return True

    def _is_settled(self, test: _LawTest) -> bool:
        """Whether so much is known of a broken law that its other tests would only cost time."""
        failures = self._failures.get((test.key, test.law.number), [])
        return len(failures) >= ENOUGH_FAILURES or sum(failures) >= ENOUGH_SECONDS

    def _examination(self, test: _LawTest) -> Examination:
        found = self._examinations.get(test.suite)
        if found is None:
            found = self._examinations[test.suite] = examine(test.suite, test.kind)
            self._gathering.plans[test.key].examination = found
        return found

    # What happens to one test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Draw what is random from the seed, and end a test that does not end."""
        test = _law_test(item)
        if test is None:
            return (yield)
        try:
            with drawn_from(self._seed), interrupted_after(self._patience(test)):
                return (yield)
        except Hang:
            self._hangs += 1
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """End a clean-up that does not end."""
        test = _law_test(item)
        if test is None:
            return (yield)
        with interrupted_after(self._patience(test)):
            return (yield)

    def _patience(self, test: _LawTest) -> float:
        """Shorter with every test that hung: a broker that hangs everywhere is soon known to."""
        found = self._examinations.get(test.suite)
        longest = LONGEST + PER_LEASE * (found.min_lease if found else 0.0)
        return max(_SHORTEST, longest / 3.0**self._hangs)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say what a failure means, and note down what the test has found."""
        report = yield
        test = _law_test(item)
        if test is None:
            return report
        if report.failed and item.nodeid in self._failed:  # what failed, fails to clean up: that is no news
            report.outcome, report.longrepr = "passed", None
        record = Record(test.key, test.law.number, item.name, "passed", ran=call.when == "call")
        record.seconds, record.started, record.stopped = report.duration, call.start, call.stop
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note_untested(record, report, call)
        elif report.outcome != "passed" or hasattr(report, "wasxfail"):
            self._failed.add(item.nodeid)
            record.outcome = "broken"
            self._failures.setdefault((test.key, test.law.number), []).append(report.duration)
            if call.excinfo is not None:
                record.failure = self._explained(item, test, report, call.excinfo)
                record.law = _law_broken(test, first_of(call.excinfo.value)).number
        for subject in item.stash.get(_SUBJECTS, []) if call.when == "call" else ():
            record.figures |= {name: list(values) for name, values in subject.figures.items()}
        report.conformance = msgspec.to_builtins(record)  # type: ignore[attr-defined]
        return report

    def _note_untested(self, record: Record, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        error = call.excinfo.value if call.excinfo else None
        record.outcome, record.ran, record.reason = "untested", True, _reason(report, error)
        if self._strict:
            report.outcome = "failed"
            report.longrepr = _shown(call.excinfo, f"untested, which --strict forbids: {record.reason}", record.reason)

    def _explained(
        self, item: pytest.Item, test: _LawTest, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Failure:
        """The failure of a test, put into the report in the words of its law."""
        error = first_of(excinfo.value)
        law = _law_broken(test, error)
        failure = explain(error, _subject(item, error), test=item.name, replay=self._replay(item, test.law))
        if report.when != "call":
            failure = msgspec.structs.replace(failure, text=f"{failure.text} (in the {report.when} of the test)")
        declaration = self._examination(test).declarations.get(law.number)
        report.longrepr = _shown(excinfo, text_of(failure, law, declaration, self._seed), failure.text)
        return failure

    def _replay(self, item: pytest.Item, law: Law) -> str:
        invocation = self._config.option.conformance_invocation
        if invocation:
            return f"{invocation} --law {law.number} --seed {self._seed} -k {shlex.quote(item.name)}"
        path = os.path.relpath(item.path, self._config.invocation_params.dir)
        test = "::".join([path, *item.nodeid.split("::")[1:]])
        return f"pytest {shlex.quote(test)} --conformance-seed {self._seed}"

    # What is made of it

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather; a report may come from another process."""
        if self._is_worker:
            return
        found = getattr(report, "conformance", None)
        if found is None:
            if report.failed:
                self._gathering.crash(report.nodeid, str(report.longrepr))
        elif "law" in found:
            self._gathering.record(report.nodeid, msgspec.convert(found, Record))
        else:  # not of a test, but of a whole class
            report.nodeid = report.nodeid.rpartition("::")[0]
            path, line, domain = report.location
            report.location = path, line, domain.rpartition(".")[0]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of pytest-xdist has found out about the suites."""
        sent = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if sent is not None:
            for key, plan in msgspec.json.decode(sent, type=dict[str, Plan]).items():
                self._gathering.plan(key, plan)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the reports; a run in which a law was broken, or that tested none, does not end well."""
        if self._is_worker:
            self._config.workeroutput[_OUTPUT] = msgspec.json.encode(self._gathering.plans).decode()  # type: ignore[attr-defined]
            return
        if self._config.option.collectonly:
            return
        self.reports = self._gathering.reports(self._seed, strict=self._strict)
        self.unreachable = any(
            plan.examination is not None and plan.examination.unreachable for plan in self._gathering.plans.values()
        )
        if exitstatus in {pytest.ExitCode.OK, _UNTESTED}:
            session.exitstatus = self._verdict(exitstatus)
        for file in self._files if self.reports else ():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(WRITERS[file.suffix](list(self.reports.values())), encoding="utf-8")

    def _verdict(self, exitstatus: int) -> int:
        reports = self.reports.values()
        if any(report.verdict in {"broken", "not testable"} for report in reports):
            return _BROKEN
        if self._strict and any(report.verdict == "untested" for report in reports):
            return _BROKEN
        ran = [any(law.tests for law in report.laws) for report in reports]
        idle = [report for report, any_ran in zip(reports, ran, strict=True) if not any_ran and report.complete]
        return _UNTESTED if idle or (ran and not any(ran)) else exitstatus

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each law, and the verdict."""
        for report in self.reports.values():
            summarize(report, terminalreporter)
        for file in self._files if self.reports else ():
            terminalreporter.write_line(f"report: {file}")


def _law_test(item: pytest.Item) -> _LawTest | None:
    suite = getattr(item, "cls", None)
    kind = kind_of(suite)
    parent = item.getparent(pytest.Class)
    law = kind and law_of(kind, item.name)
    if suite is None or kind is None or parent is None or law is None:
        return None
    return _LawTest(suite, parent.nodeid, kind, law)


def _law_broken(test: _LawTest, error: BaseException | None) -> Law:
    """The law that a failure is about: that of the test, unless the error says otherwise."""
    name = getattr(error, "law", None)
    return next((law for law in LAWS[test.kind] if law.name == name), test.law)


def remember(item: pytest.Item, subject: S) -> S:
    """Keep what a test works with until it is known what became of it; of a random test, which has many, the last."""
    kept = item.stash.setdefault(_SUBJECTS, [])
    kept.append(subject)
    del kept[:-_KEPT]
    return subject


def _subject(item: pytest.Item, error: BaseException | None) -> Any:
    """What the test worked with; if it were several, the one whose message the error is about, else the last."""
    kept = [*item.stash.get(_SUBJECTS, []), *filter(None, [getattr(error, "subject", None)])]
    about = getattr(error, "message_id", None) or ""
    return next((one for one in kept if one.namespace in about), kept[-1] if kept else None)


def _reason(report: pytest.TestReport, error: BaseException | None) -> str:
    text = getattr(error, "msg", None) or (report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
    return " ".join(str(text).removeprefix("Skipped: ").split()) or "skipped without a reason"


def _shown(excinfo: pytest.ExceptionInfo[BaseException] | None, text: str, summary: str | None) -> Any:
    """A failure as pytest shows it: the text, and its first line in the short summary, but no stack."""
    if excinfo is None:
        return text
    error = NotTestable(text).with_traceback(excinfo.tb)
    shown: Any = pytest.ExceptionInfo.from_exception(error).getrepr(style="value")
    if shown.reprcrash is not None:
        shown.reprcrash.message = (summary or text).partition("\n")[0]
    return shown


def _fail(text: str) -> None:
    raise NotTestable(text)


def _not_testable(item: pytest.Item, text: str, began: float) -> pytest.TestReport:
    called = pytest.CallInfo.from_call(lambda: _fail(text), when="call")
    shown = _shown(called.excinfo, text, text)
    report = pytest.TestReport(
        item.nodeid,
        item.location,
        dict.fromkeys(item.keywords, 1),
        "failed",
        shown,
        "call",
        duration=time.time() - began,
        start=began,
        stop=time.time(),
    )
    report.conformance = {"problem": text}  # type: ignore[attr-defined]
    return report
