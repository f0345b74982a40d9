"""A report as JUnit's XML, which CI systems read: a suite for each law."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker_conformance.reports.report import LawResult, Report

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(reports: Sequence[Report]) -> str:
    """All reports of a run as one document."""
    root = ET.Element("testsuites", name="anybroker conformance")
    for report in reports:
        if report.problem is not None:
            suite = _suite(root, report.title, 1, failures=1)
            case = ET.SubElement(suite, "testcase", classname=report.suite, name="preflight", time="0")
            ET.SubElement(case, "failure", message=_text(report.sentence()))
        for law in report.laws:
            _add(root, report, law)
    for count in ("tests", "failures", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(root: ET.Element, report: Report, law: LawResult) -> None:
    cases = [case for case in report.tests if case.law == law.law]
    reasons = {one.test: one.reason for one in report.untested}
    failures = {one.test: one for one in law.failures}
    name = f"{report.title}: law {law.law} {law.name}"
    skipped = sum(case.outcome == "untested" for case in cases)
    suite = _suite(root, name, len(cases), failures=sum(case.outcome == "broken" for case in cases), skipped=skipped)
    suite.set("time", f"{law.seconds:.3f}")
    properties = ET.SubElement(suite, "properties")
    for key, value in (("status", law.status), ("declared", law.declared or ""), ("seed", str(report.seed))):
        ET.SubElement(properties, "property", name=key, value=_text(value))
    for case in cases:
        element = ET.SubElement(
            suite, "testcase", classname=report.suite, name=_text(case.test), time=f"{case.seconds:.3f}"
        )
        if case.outcome == "untested":
            ET.SubElement(element, "skipped", message=_text(reasons.get(case.test, "")))
        elif case.outcome == "broken":
            failure = failures.get(case.test)
            shown = ET.SubElement(element, "failure", message=_text(failure.text if failure else "broken"))
            if failure:
                parts = ["\n".join(failure.traceback), "\n".join(failure.timeline), f"to replay: {failure.replay}"]
                shown.text = _text("\n\n".join(part for part in parts if part))


def _suite(root: ET.Element, name: str, tests: int, *, failures: int = 0, skipped: int = 0) -> ET.Element:
    counts = {"tests": str(tests), "failures": str(failures), "skipped": str(skipped), "errors": "0"}
    return ET.SubElement(root, "testsuite", {"name": _text(name), **counts})


def _text(text: str) -> str:
    """What XML can hold of it."""
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)
