"""The forms of a report: JSON with its schema, HTML, JUnit."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import msgspec
import pytest

from anybroker_conformance.laws import BACKEND_LAWS, BROKER_LAWS
from anybroker_conformance.reports.drawing import draw
from anybroker_conformance.reports.files import WRITERS, to_json
from anybroker_conformance.reports.html import page
from anybroker_conformance.reports.junit import to_junit
from anybroker_conformance.reports.report import (
    Case,
    Failure,
    Figure,
    LawResult,
    Moment,
    Report,
    Untested,
    schema,
)

SCHEMA = Path(__file__).parents[2] / "docs" / "conformance-report.schema.json"
HOSTILE = "</script><script>alert(1)</script> & \"quotes\" 'q' \x00\x1b[31m \ud800 | `x`".replace("\ud800", "\ufffd")
VOID = {"meta", "br", "link", "img", "input", "hr"}
OPTIONAL = {"tr", "td", "th", "li", "p", "tbody"}

MOMENTS = [
    Moment("consumer 1", "enqueue", "enqueue 4 bytes", 0.0, 0.001),
    Moment("consumer 1", "acquire", "acquire for 10 s -> 4 bytes, delivery 1, token 1", 0.002, 0.003, 10.0),
    Moment("consumer 2", "acquire", "acquire for 10000 s -> 4 bytes, delivery 2, token 2", 10.1, 10.2, 10_010.0),
    Moment("consumer 1", "ack", "ack, token 1 -> False", 10.3, 10.4),
    Moment("consumer 2", "ack", "ack, token 2 -> True", 10.5, 10.6),
    Moment("consumer 2", "extend", f"extend raised {HOSTILE}", 11.0, None),
]


def law_result(number: int, status: str = "proven", **fields: object) -> LawResult:
    law = BROKER_LAWS[number - 1]
    tests = 0 if status == "untested" else 3
    return msgspec.convert(
        {
            "law": number,
            "name": law.name,
            "text": law.text,
            "status": status,
            "declared": None,
            "tests": tests,
            "seconds": 1.5,
        }
        | fields,
        LawResult,
    )


@pytest.fixture
def report() -> Report:
    failure = Failure(
        "test_law05_fenced__after_redelivery[ack]",
        f"ack was honoured {HOSTILE}",
        "pytest 'x.py::TestMine::test_law05_fenced__after_redelivery[ack]' --conformance-seed 7",
        about="c1.1",
        timeline=[f"0.0 s {moment.what}" for moment in MOMENTS],
        moments=MOMENTS,
        traceback=["  broker.py:3, in ack", f"    {HOSTILE}"],
    )
    untested = Untested(13, "reconnects", "test_law13_reconnects__kill", f"not ours {HOSTILE}")
    laws = [
        law_result(1, "proven weaker", declared="durability: process"),
        law_result(5, "broken", failures=[failure]),
        law_result(10, "refused"),
        law_result(13, "untested", reason=untested.reason),
    ]
    return Report(
        adapter="mine",
        kind="broker",
        server="mine 1.2",
        seed=7,
        duration_seconds=12.5,
        verdict="broken",
        laws=laws,
        figures={"redelivery after SIGKILL": Figure.of([0.1, 0.2, 0.3])},
        untested=[untested],
        suite="TestMine",
        url="mine://me:***@localhost",
        complete=True,
        problem=None,
        tests=[
            Case(1, "test_law01_durable__one", "passed", 1.5),
            Case(5, failure.test, "broken", 1.5),
            Case(10, "test_law10_order__one", "passed", 0.0),
            Case(13, untested.test, "untested", 0.0),
        ],
        versions={"python": "3.11"},
    )


@pytest.fixture
def untestable(report: Report) -> Report:
    return msgspec.structs.replace(
        report,
        suite="TestOther",
        verdict="not testable",
        problem=HOSTILE,
        laws=[],
        tests=[],
        untested=[],
        figures={},
        url=None,
    )


class TestFigure:
    @pytest.mark.parametrize(
        ("measured", "expected"),
        [
            ([2.0], Figure(2.0, 2.0, 1)),
            ([3.0, 1.0, 2.0], Figure(2.0, 3.0, 3)),
            ([float(number) for number in range(1, 101)], Figure(50.0, 99.0, 100)),
            ([float(number) for number in range(1, 1002)], Figure(501.0, 991.0, 1001)),
        ],
    )
    def test_percentiles(self, measured: list[float], expected: Figure) -> None:
        assert Figure.of(measured) == expected


class TestSentence:
    def test_broken(self, report: Report) -> None:
        assert report.sentence() == "1 law of 4 broken: 5 (fenced); 1 test could not be run here"

    def test_kept(self, report: Report) -> None:
        kept = msgspec.structs.replace(report, laws=[report.laws[0], law_result(5)], untested=[])
        assert kept.sentence() == "Keeps 2 laws, 1 of them in the weaker form that is declared"


class TestJson:
    def test_the_published_schema_is_that_of_the_code(self) -> None:
        assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()
        jsonschema.Draft202012Validator.check_schema(schema())

    def test_one_report_is_an_object_and_several_are_a_list(self, report: Report, untestable: Report) -> None:
        validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
        one, two = json.loads(to_json([report])), json.loads(to_json([report, untestable]))
        validator.validate(one)
        validator.validate(two)
        assert two[0] == one
        assert msgspec.convert(one, Report) == report

    def test_the_schema_refuses_what_is_no_report(self, report: Report) -> None:
        validator = jsonschema.Draft202012Validator(schema())
        right = json.loads(to_json([report]))
        for wrong in (right | {"kind": "queue"}, right | {"laws": [{}]}, {**right, "seed": "7"}, [right], []):
            assert not validator.is_valid(wrong)

    def test_holds_what_the_issue_names(self, report: Report) -> None:
        found = json.loads(to_json([report]))
        assert {"adapter", "kind", "server", "seed", "duration_seconds", "laws", "figures", "untested"} <= set(found)
        assert {"law", "name", "status", "declared", "tests", "seconds", "reason"} <= set(found["laws"][0])
        assert found["figures"] == {"redelivery after SIGKILL": {"p50": 0.2, "p99": 0.3, "n": 3}}


class _Page(HTMLParser):
    """Its text, and whether what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID | OPTIONAL:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPTIONAL:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


class TestHtml:
    def test_says_everything(self, report: Report, untestable: Report) -> None:
        found = _Page(page([report, untestable]))
        assert found.open == []
        for said in (
            "mine broker on mine 1.2",
            report.sentence(),
            "ack was honoured </script><script>alert(1)</script>",
            "durability: process",
            "not ours",
            "redelivery after SIGKILL",
            "200 ms",
            "--conformance-seed 7",
            "The broker cannot be tested: </script>",
            *(law.text for law in report.laws),
            *(moment.what.partition(" raised")[0] for moment in MOMENTS),
        ):
            assert said in found.text

    def test_needs_nothing_from_elsewhere(self, report: Report) -> None:
        text = page([report])
        found = _Page(text)
        assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
        assert all(
            value is None or value.startswith("#") for name, value in found.attributes if name in {"src", "href"}
        )
        assert not any(name.startswith("on") for name, _ in found.attributes)
        assert not re.search(r"url\(|@import|https?://", text)
        assert "prefers-color-scheme: dark" in text

    def test_links_lead_somewhere(self, report: Report, untestable: Report) -> None:
        found = _Page(page([report, untestable])).attributes
        targets = {value for name, value in found if name == "id"}
        assert {(value or "")[1:] for name, value in found if name == "href"} <= targets


class TestDrawing:
    def test_a_lane_for_each_client_a_mark_for_each_call_a_bar_for_each_lease(self) -> None:
        found = ET.fromstring(draw(MOMENTS).replace("\x00", "").replace("\x1b", ""))  # noqa: S314 (our own)
        rects = [one for one in found if one.tag == "rect"]
        assert len([one for one in rects if (one.get("class") or "").startswith("lane")]) == 2
        leases = [one for one in rects if one.get("class") == "lease"]
        marks = [one for one in found if one.tag == "g"]
        assert [one.findtext("text") for one in marks] == ["1", "2", "3", "4", "5", "6"]
        assert [one.get("class") for one in marks][3:] == ["call ack refused", "call ack", "call extend raised"]
        starts = [float(one.find("rect").get("x") or 0) for one in marks]  # type: ignore[union-attr]
        assert starts == sorted(starts)
        first, second = ((float(one.get("x") or 0), float(one.get("width") or 0)) for one in leases)
        assert first[0] + first[1] < second[0], "the first lease ran out before the second began"
        assert starts[3] < second[0] + second[1] < starts[5], "the second lease ended with its ack, not with another's"

    def test_leases_that_overlap_are_seen_to(self) -> None:
        moments = [
            Moment("consumer 1", "acquire", "acquire, token 1", 0.0, 0.1, 60.0),
            Moment("consumer 1", "acquire", "acquire, token 2", 1.0, 1.1, 61.0),
        ]
        tops = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*class="lease"', draw(moments))
        assert len({top for _, top in tops}) == 2

    @pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
    def test_any_time_fits(self, seconds: float) -> None:
        moments = [Moment("one", "enqueue", "enqueue", number * seconds, number * seconds) for number in range(60)]
        width = re.search(r'width="(\d+)"', draw(moments))
        assert width is not None
        assert 1000 < int(width[1]) < 12_000

    def test_no_call_is_no_picture(self) -> None:
        assert draw([]) == ""


class TestJunit:
    def test_a_suite_for_each_law(self, report: Report, untestable: Report) -> None:
        root = ET.fromstring(to_junit([report, untestable]).encode())  # noqa: S314 (our own)
        assert root.attrib | {"name": ""} == {"name": "", "tests": "5", "failures": "2", "skipped": "1"}
        names = [suite.get("name") for suite in root]
        assert names[:2] == ["mine broker on mine 1.2: law 1 durable", "mine broker on mine 1.2: law 5 fenced"]
        failure = root.find("testsuite/testcase/failure")
        assert failure is not None
        assert "ack was honoured </script>" in (failure.get("message") or "")
        assert "enqueue 4 bytes" in (failure.text or "")
        assert root.find("testsuite/testcase/skipped") is not None

    def test_counts_are_right(self, report: Report) -> None:
        for suite in ET.fromstring(to_junit([report]).encode()):  # noqa: S314 (our own)
            assert suite.get("tests") == str(len(suite.findall("testcase")))
            assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
            assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))


def test_every_form_is_written_by_its_ending() -> None:
    assert set(WRITERS) == {".json", ".html", ".xml"}
    assert (len(BROKER_LAWS), len(BACKEND_LAWS)) == (15, 12)
