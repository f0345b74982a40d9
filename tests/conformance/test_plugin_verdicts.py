"""What a run amounts to: untested laws in sight, strictness, weaker laws, exit codes, several processes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.conformance.plugin_suites import KEEPS, suite

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

UNTESTED = """
from bare import Bare

class TestMine(Bare):
    def test_law13_reconnects__restart(self, subject):
        subject.untested("the server is not ours")

    def test_law13_reconnects__kill(self, subject):
        subject.untested("the server is not ours")
"""
ONE_RUNS = (
    UNTESTED
    + """
    def test_law05_fenced__one(self, subject):
        subject.figure("wake-up", 0.25)
        subject.figure("wake-up", 0.75)

    def test_law05_fenced__two(self, subject):
        subject.untested("needs a second process")
"""
)


def report(pytester: pytest.Pytester) -> Any:
    found: Any = msgspec.json.decode((pytester.path / "report.json").read_bytes())
    return found


def law(pytester: pytest.Pytester, number: int) -> Any:
    return next(one for one in report(pytester)["laws"] if one["law"] == number)


def test_a_server_that_can_be_restarted_says_which_it_is(pytester: pytest.Pytester) -> None:
    suite(
        pytester,
        """
        from bare import Bare
        from types import SimpleNamespace

        class TestMine(Bare):
            server = SimpleNamespace(name="mine", version="1.2", start=lambda: None)

            def test_law05_fenced__one(self, subject):
                pass
        """,
    )
    assert pytester.runpytest("--conformance-report=report.json").ret == pytest.ExitCode.OK
    assert report(pytester)["server"] == "mine 1.2"


def test_a_url_may_be_found_out_when_the_first_law_is_tested(pytester: pytest.Pytester) -> None:
    """As that of a container. Neither pytest nor the plugin asks the class for it, which starts nothing."""
    suite(
        pytester,
        """
        from anybroker_conformance import BrokerConformance

        class Url:
            def __get__(self, suite, kind):
                if suite is None:
                    raise AttributeError("the class has none")
                return "memory://mine"

        class TestMine(BrokerConformance):
            url = Url()
        """,
    )
    assert pytester.runpytest("-k", "law02", "--conformance-report=report.json").ret == pytest.ExitCode.OK
    assert report(pytester)["url"] == "memory://mine"


def test_what_is_untested_is_said_with_its_reason(pytester: pytest.Pytester) -> None:
    suite(pytester, ONE_RUNS)
    result = pytester.runpytest("--conformance-report=report.json")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "* 5 fenced * proven * 1 *",
            "*13 reconnects * untested * 0 *",
            "untested:",
            "  5 fenced * needs a second process",
            "  13 reconnects the server is not ours (2 tests)",
            "figures:",
            "  wake-up: p50 250 ms, p99 750 ms (n = 2)",
            "TestMine: Keeps 1 law of 15; 3 tests could not be run here. Seed *",
        ]
    )
    assert law(pytester, 13) | {"text": ""} == {
        "law": 13,
        "name": "reconnects",
        "text": "",
        "status": "untested",
        "declared": None,
        "tests": 0,
        "seconds": law(pytester, 13)["seconds"],
        "reason": "the server is not ours",
        "failures": [],
    }
    assert law(pytester, 5)["status"] == "proven"
    assert law(pytester, 5)["reason"] == "needs a second process"
    assert report(pytester)["figures"] == {"wake-up": {"p50": 0.25, "p99": 0.75, "n": 2}}
    assert [one["test"] for one in report(pytester)["untested"]] == [
        "test_law05_fenced__two",
        "test_law13_reconnects__restart",
        "test_law13_reconnects__kill",
    ]


def test_a_run_in_which_everything_was_untested_does_not_end_well(pytester: pytest.Pytester) -> None:
    suite(pytester, UNTESTED)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["TestMine: No law was tested; 2 tests could not be run here. Seed *"])


def test_nor_does_one_in_which_this_is_so_for_one_of_two_adapters(pytester: pytest.Pytester) -> None:
    suite(pytester, UNTESTED, KEEPS)
    assert pytester.runpytest().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert pytester.runpytest("-k", "restart or Right").ret == pytest.ExitCode.OK  # only a part was asked for


def test_strictness_makes_what_is_untested_a_failure(pytester: pytest.Pytester) -> None:
    suite(pytester, ONE_RUNS)
    result = pytester.runpytest("--conformance-strict", "--conformance-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["untested, which --strict forbids: the server is not ours", "untested:"])
    assert law(pytester, 13)["status"] == "untested"
    assert report(pytester)["verdict"] == "untested"


def test_a_skipped_test_is_an_untested_one(pytester: pytest.Pytester) -> None:
    suite(pytester, "import pytest", ONE_RUNS.replace("    def test_law05_fenced__one", SKIP))
    result = pytester.runpytest("--conformance-report=report.json")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert law(pytester, 5)["status"] == "untested"
    assert law(pytester, 5)["reason"] == "too hard; needs a second process"


SKIP = """    @pytest.mark.skip(reason="too hard")
    def test_law05_fenced__one"""
XFAIL = """    @pytest.mark.xfail(strict=False)
    def test_law05_fenced__one"""


def test_an_expected_failure_is_a_broken_law(pytester: pytest.Pytester) -> None:
    broken = ONE_RUNS.replace('subject.figure("wake-up", 0.75)', "assert False, 'it is broken'")
    suite(pytester, "import pytest", broken.replace("    def test_law05_fenced__one", XFAIL))
    result = pytester.runpytest("--conformance-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert law(pytester, 5)["status"] == "broken"
    assert law(pytester, 5)["failures"][0]["text"] == "it is broken"


def test_a_declaration_makes_a_law_weaker_or_refused(pytester: pytest.Pytester) -> None:
    declared = """
import msgspec
from anybroker import capabilities as declare
from anybroker.memory import MemoryBroker
from bare import Bare

class TestMine(Bare):
    def connect(self):
        broker = MemoryBroker(name=self.namespace)
        broker.capabilities = msgspec.structs.replace(
            broker.capabilities,
            durability=declare.Durability.SERVER,
            fencing=declare.Guarantee.BEST_EFFORT,
            ordering=declare.Ordering.NONE,
            priorities=None,
        )
        return broker
"""
    laws = ("01_durable", "05_fenced", "10_order")
    tests = "".join(f"\n    def test_law{law}__one(self, subject):\n        pass\n" for law in laws)
    suite(pytester, declared + tests)
    pytester.runpytest("--conformance-report=report.json").stdout.fnmatch_lines(
        [
            "* 1 durable * proven * durability: server *",
            "* 5 fenced * proven weaker * fencing: best effort *",
            "*10 order * refused * ordering: none, priorities: refused *",
            "TestMine: Keeps 3 laws of 15, 2 of them in the weaker form that is declared. *",
        ]
    )
    statuses = {one["name"]: one["status"] for one in report(pytester)["laws"] if one["tests"]}
    assert statuses == {"durable": "proven", "fenced": "proven weaker", "order": "refused"}


def test_a_run_that_stops_early_has_not_proven_what_it_did_not_run(pytester: pytest.Pytester) -> None:
    stops = ONE_RUNS.replace('subject.figure("wake-up", 0.75)', "assert False, 'it is broken'")
    suite(pytester, stops + "\n    def test_law08_eta__one(self, subject):\n        pass\n")
    pytester.runpytest("-x", "--conformance-report=report.json")
    assert law(pytester, 5)["status"] == "broken"
    assert law(pytester, 8) | {"text": ""} == law(pytester, 8) | {
        "text": "",
        "status": "untested",
        "reason": "only 0 of 1 tests were run",
    }
    assert report(pytester)["complete"] is False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_processes_find_the_same(pytester: pytest.Pytester) -> None:
    more = """
    def test_law06_final__one(self, subject):
        queue = subject.queue()
        mine = subject.put(queue)
        raise LawBroken("it is broken", mine.id)

    def test_law07_update__crash(self, subject):
        import os
        os._exit(3)

class TestWrong(Bare):
    def connect(self):
        raise OSError("no")
"""
    tests = "".join(f"\n    def test_law05_fenced__{number}(self, subject):\n        pass\n" for number in range(20))
    suite(pytester, "from anybroker_conformance import LawBroken", ONE_RUNS, more, tests)
    result = pytester.runpytest_subprocess(
        "-n2", "--dist=load", "--conformance-seed=7", "--conformance-report=report.json"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, skipped=3, failed=3)
    mine, wrong = sorted(report(pytester), key=lambda one: one["suite"])
    statuses = {one["name"]: one["status"] for one in mine["laws"] if one["status"] != "untested"}
    assert statuses == {"fenced": "proven", "final": "broken", "update": "broken"}
    assert mine["figures"] == {"wake-up": {"p50": 0.25, "p99": 0.75, "n": 2}}
    assert mine["seed"] == 7
    [failure] = next(one for one in mine["laws"] if one["name"] == "final")["failures"]
    assert failure["text"] == "it is broken"
    assert [moment["verb"] for moment in failure["moments"]] == ["enqueue"]
    assert wrong["problem"] == "connect() raised OSError: no"
    result.stdout.fnmatch_lines(["TestWrong cannot be tested: connect() raised OSError: no"])
    assert result.outlines.count("TestWrong cannot be tested: connect() raised OSError: no") == 1
