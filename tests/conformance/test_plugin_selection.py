"""Which law tests are run: ``--law``, ``-k``, and a run without any."""

from __future__ import annotations

import pytest

from tests.conformance.plugin_suites import KEEPS, suite

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]


def test_everything_is_run_by_default(pytester: pytest.Pytester) -> None:
    suite(pytester, KEEPS)
    result = pytester.runpytest()
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*TestRight: memory broker*", "* 4 expiry * proven *", "* 5 fenced * proven *"])


@pytest.mark.parametrize("laws", ["5", "05", "fenced", " Fenced ", "5,fenced", "2,5"])
def test_only_the_laws_asked_for(pytester: pytest.Pytester, laws: str) -> None:
    suite(pytester, KEEPS)
    pytester.runpytest("--law", laws).assert_outcomes(passed=2, deselected=2)


def test_several_laws_and_a_name(pytester: pytest.Pytester) -> None:
    suite(pytester, KEEPS)
    pytester.runpytest("--law=4", "--law=expiry,5", "-k", "one").assert_outcomes(passed=2, deselected=2)


@pytest.mark.parametrize(
    ("laws", "said"),
    [
        ("fencd", "there is no law 'fencd'; did you mean 'fenced'?"),
        ("16", "there is no law '16'; give a number from 1 to 15, or a name: durable, exact*"),
        ("0", "there is no law '0'*"),
        ("-4", "there is no law '-4'*"),
        ("4;5", "there is no law '4;5'*"),
    ],
)
def test_no_such_law(pytester: pytest.Pytester, laws: str, said: str) -> None:
    suite(pytester, KEEPS)
    result = pytester.runpytest(f"--law={laws}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --law: {said}"])


@pytest.mark.parametrize("choice", [("--law", "13"), ("-k", "no_such_test")])
def test_a_run_of_no_test_does_not_end_well(pytester: pytest.Pytester, choice: tuple[str, ...]) -> None:
    suite(pytester, KEEPS)
    assert pytester.runpytest(*choice).ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_other_test_files_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*conformance*law*")


def test_collecting_only_connects_to_nothing(pytester: pytest.Pytester) -> None:
    suite(
        pytester,
        KEEPS,
        """
        class TestWrong(Bare):
            def connect(self):
                raise SystemExit("connected")

            def test_law05_fenced__one(self, subject):
                raise SystemExit("ran")
        """.replace("\n        ", "\n"),
    )
    result = pytester.runpytest("--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*TestWrong: *")


def test_a_part_of_the_laws_is_reported_as_a_part(pytester: pytest.Pytester) -> None:
    suite(pytester, KEEPS)
    result = pytester.runpytest("--law", "5")
    result.stdout.fnmatch_lines(["TestRight: Keeps 1 law, as far as they were selected. Seed *"])


def test_a_law_without_a_test_is_untested(pytester: pytest.Pytester) -> None:
    suite(pytester, KEEPS)
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(["* 1 durable * untested *", "untested:", "*1 durable * the suite has no test of it"])


def test_works_without_any_other_plugin(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite(pytester, KEEPS)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("-p", "anybroker_conformance.plugin")
    result.assert_outcomes(passed=4)
