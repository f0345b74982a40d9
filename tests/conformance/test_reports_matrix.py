"""The page of all adapters: made from reports, the same every time, and stale is an error."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker_conformance.laws import BACKEND_LAWS, BROKER_LAWS
from anybroker_conformance.reports.files import to_json
from anybroker_conformance.reports.matrix import KNOWN, MatrixError, matrix, read
from anybroker_conformance.reports.report import Figure, LawResult, Report

if TYPE_CHECKING:
    from pathlib import Path


def report(adapter: str = "redis", kind: str = "broker", **fields: object) -> Report:
    laws = BROKER_LAWS if kind == "broker" else BACKEND_LAWS
    found = Report(
        adapter=adapter,
        kind="broker",
        server=None,
        seed=7,
        duration_seconds=1.0,
        verdict="proven",
        laws=[LawResult(law.number, law.name, law.text, "proven", None, 1, 0.1) for law in laws],
        figures={},
        untested=[],
        suite="TestBroker",
        url=None,
        complete=True,
        problem=None,
        tests=[],
        versions={"anybroker": "0.1.0"},
    )
    return msgspec.structs.replace(found, kind=kind, **fields)


def cells(page: str, start: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def column(page: str, adapter: str, law: str) -> str:
    return cells(page, law)[cells(page, "Law").index(adapter)]


def test_a_silent_adapter_is_named() -> None:
    page = matrix([])
    for adapter in KNOWN["broker"]:
        assert f"| {adapter} |  | did not report |" in page
    assert column(page, "redis", "5 fenced") == "-"
    assert "| memcache |  | did not report |" in page


def test_statuses_are_shown() -> None:
    base = report(server="redis 7.0.15")
    statuses = ["proven", "proven weaker", "refused", "untested", "broken"]
    laws = [msgspec.structs.replace(law, status=status) for law, status in zip(base.laws, statuses, strict=False)]
    page = matrix([msgspec.structs.replace(base, laws=laws)])
    shown = [column(page, "redis", f"{law.law} {law.name}") for law in laws]
    assert shown == ["✓", "✓ weaker", "refused", "untested", "**broken**"]
    assert "| redis | redis 7.0.15 | 1 law of 5 broken: 5 (fenced) |" in page


def test_one_of_a_part_of_the_laws_has_not_reported() -> None:
    page = matrix([report(complete=False)])
    assert column(page, "redis", "5 fenced") == "-"
    assert "did not report on all laws" in page


def test_a_stranger_and_two_servers_have_columns_of_their_own() -> None:
    reports = [report(server="redis 8.0"), report(server="redis 7.0"), report("nats"), report(kind="backend")]
    page = matrix(reports)
    assert cells(page, "Law")[3:6] == ["redis (redis 7.0)", "redis (redis 8.0)", "redis+cluster"]
    assert cells(page, "Law")[-1] == "nats"
    assert matrix(reports[::-1]) == page


def test_two_suites_on_one_server_have_columns_of_their_own() -> None:
    base = report(server="redis 7.0")
    of_cluster = msgspec.structs.replace(base, suite="TestOnCluster")
    assert cells(matrix([of_cluster, base]), "Law")[3:6] == ["redis (Broker)", "redis (OnCluster)", "redis+cluster"]


def test_figures_are_shown() -> None:
    page = matrix([report(figures={"wake-up": Figure(0.002, 1.5, 1234)})])
    assert "| redis | wake-up | 2 ms | 1.50 s | 1,234 |" in page


def test_a_bar_in_a_text_does_not_break_the_table() -> None:
    page = matrix([report(problem="it said a|b", verdict="not testable", laws=[])])
    assert "it said a\\|b" in page


def test_a_file_that_is_no_report(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"adapter": 1}', encoding="utf-8")
    with pytest.raises(MatrixError, match=r"x\.json is no report of the conformance suite: .*adapter"):
        read([file])
    with pytest.raises(MatrixError, match="No such file"):
        read([tmp_path / "missing.json"])


@pytest.mark.slow
def test_the_command_writes_checks_and_finds_what_is_stale(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "anybroker_conformance.reports.matrix", *arguments, "--output", "matrix.md"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr

    (tmp_path / "one.json").write_text(to_json([report()]), encoding="utf-8")
    (tmp_path / "two.json").write_text(to_json([report("sqlite"), report("memory")]), encoding="utf-8")
    code, said = run("one.json", "--check")
    assert (code, said) == (1, "error: matrix.md is not what the reports say; run make matrix\n")
    assert run("one.json", "two.json") == (0, "")
    assert run("one.json", "two.json", "--check") == (0, "")
    assert run("one.json", "--check")[0] == 1
    assert column((tmp_path / "matrix.md").read_text(encoding="utf-8"), "memory", "1 durable") == "✓"
    (tmp_path / "one.json").write_text("nonsense", encoding="utf-8")
    code, said = run("one.json")
    assert code == 2
    assert said.startswith("error: one.json is no report")
