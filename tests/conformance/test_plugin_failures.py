"""What a failed law test says: the law, the declaration, the sentence, the timeline, the seed; and no stack."""

from __future__ import annotations

import pytest

from anybroker_conformance import run
from tests.conformance.plugin_suites import suite

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

HEAD = """
from hypothesis import given, settings, strategies as st
from anybroker.memory import MemoryBroker
from anybroker_conformance import LawBroken
from bare import Bare

"""


def failing(pytester: pytest.Pytester, body: str, *options: str, factory: str = "") -> pytest.RunResult:
    """The result of a suite of one test of law 5."""
    indented = "".join(f"        {line}\n" for line in body.strip().splitlines())
    suite(
        pytester, HEAD, f"{factory}\nclass TestMine(Bare):\n    def test_law05_fenced__one(self, subject):\n{indented}"
    )
    if factory:
        with (pytester.path / "conftest.py").open("a", encoding="utf-8") as file:
            file.write(
                "\nBare.connect = lambda self: __import__('sys').modules['broken'].Broken(name=self.namespace)\n"
            )
        pytester.makepyfile(broken=f"from anybroker.memory import MemoryBroker\n{factory}")
        (pytester.path / "test_it.py").write_text("import broken\n", encoding="utf-8")
        with (pytester.path / "conftest.py").open("a", encoding="utf-8") as file:
            file.write("import broken\n")
    return pytester.runpytest("--conformance-seed=7", *options)


def text(result: pytest.RunResult) -> str:
    """The failure alone, as it is shown."""
    shown = str(result.stdout).partition(" FAILURES ")[2]
    return shown.partition("\n-----")[0].partition("\n")[2]


def test_law_declaration_sentence_timeline_seed_and_nothing_else(pytester: pytest.Pytester) -> None:
    result = failing(
        pytester,
        """
queue = subject.queue()
subject.put(queue, b"other")
mine = subject.put(queue, b"mine")
subject.take(queue, 2)
raise LawBroken("it was honoured", mine.id)
""",
    )
    result.stdout.fnmatch_lines(
        [
            "*_ TestMine.test_law05_fenced__one _*",
            "Law 5, fenced: A settle or extend with a lost lease changes nothing and says so.",
            "Declared: fencing: exact",
            "",
            "Broken: it was honoured",
            "",
            "What happened to c????????.2:",
            "  * 0.000 s  consumer 1  enqueue 4 bytes *",
            "  * s  consumer 1  acquire for 60 s -> 4 bytes *, delivery 1, token * (one of 2)",
            "",
            "Seed 7; to replay: pytest *.py::TestMine::test_law05_fenced__one --conformance-seed 7",
            "*- TestMine: memory broker -*",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(["FAILED *::TestMine::test_law05_fenced__one - it was hon*"])
    assert len(text(result).splitlines()) == 11


def test_a_plain_assertion_is_its_sentence_and_the_message_that_was_worked_with(pytester: pytest.Pytester) -> None:
    result = failing(
        pytester,
        """
queue = subject.queue()
subject.put(queue, b"mine")
[held] = subject.take(queue)
assert subject.broker.ack([held]) == [False], "ack said that it was done"
""",
    )
    result.stdout.fnmatch_lines(["Broken: ack said that it was done", "", "What happened to *:", "* enqueue *"])
    result.stdout.fnmatch_lines(["* consumer 1  ack, token 1 -> True"])
    result.stdout.no_fnmatch_line("*assert [[]*")


def test_an_assertion_without_a_sentence_is_shown(pytester: pytest.Pytester) -> None:
    result = failing(pytester, "queue = subject.queue()\nassert subject.put(queue) is None")
    result.stdout.fnmatch_lines(["Broken: assert *"])


def test_the_sentence_may_name_the_message(pytester: pytest.Pytester) -> None:
    result = failing(
        pytester,
        """
queue = subject.queue()
first, second = subject.put(queue, b"1"), subject.put(queue, b"22")
assert not first, f"{first.id} is wrong"
""",
    )
    result.stdout.fnmatch_lines(["What happened to *.1:", "* enqueue 1 bytes *"])


def test_the_first_of_several_failures_is_told(pytester: pytest.Pytester) -> None:
    result = failing(pytester, 'raise ExceptionGroup("two", [ValueError("no"), LawBroken("the law")])')
    result.stdout.fnmatch_lines(["Broken: the law"])


def test_an_unexpected_error_names_the_line_of_the_adapter(pytester: pytest.Pytester) -> None:
    factory = """
import json

class Broken(MemoryBroker):
    def extend(self, deliveries, *, lease):
        return self.look()

    def look(self):
        try:
            return json.loads("{ mine://me:secret@host")
        except ValueError as error:
            raise KeyError("mine://me:secret@host") from error
"""
    body = "queue = subject.queue()\nsubject.put(queue)\nsubject.broker.extend(subject.take(queue), lease=5.0)"
    result = failing(pytester, body, factory=factory)
    result.stdout.fnmatch_lines(
        [
            "Broken: KeyError was raised in broken.py:7: 'mine://me:[*][*][*]@host'",
            "",
            "  broken.py:7, in extend",
            "    return self.look()",
            "  broken.py:13, in look",
            '    raise KeyError("mine://me:secret@host") from error',
            "  KeyError: 'mine://me:[*][*][*]@host'",
            "  caused by JSONDecodeError: *",
        ]
    )
    assert len(text(result).splitlines()) < 30


def test_an_assertion_in_the_adapter_is_an_unexpected_error(pytester: pytest.Pytester) -> None:
    factory = """
class Broken(MemoryBroker):
    def extend(self, deliveries, *, lease):
        assert lease > 6, "never so short"
        return super().extend(deliveries, lease=lease)
"""
    body = "queue = subject.queue()\nsubject.put(queue)\nsubject.broker.extend(subject.take(queue), lease=5.0)"
    result = failing(pytester, body, factory=factory)
    result.stdout.fnmatch_lines(["Broken: AssertionError was raised in broken.py:*: never so short*"])


def test_a_call_that_does_not_return_ends_the_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LONGEST", 0.6)
    monkeypatch.setattr(run, "_SHORTEST", 0.3)
    factory = """
import threading

class Broken(MemoryBroker):
    def extend(self, deliveries, *, lease):
        try:
            threading.Event().wait(30 if lease == 5.5 else 0)
        except Exception:
            pass
        return [False]
"""
    body = "queue = subject.queue()\nsubject.put(queue)\nsubject.broker.extend(subject.take(queue), lease=5.5)"
    result = failing(pytester, body, "-p", "no:timeout", factory=factory)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["Broken: the test has not ended within 0.6 s; extend of consumer 1 has not returned", "*extend by 5.5 s*"]
    )
    assert result.duration < 20


def test_a_failure_and_a_failing_clean_up_are_one_failure(pytester: pytest.Pytester) -> None:
    factory = """
class Broken(MemoryBroker):
    def ack(self, deliveries):
        if deliveries[0].message.body == b"dead":
            raise OSError("gone")
        return super().ack(deliveries)

    def close(self):
        if getattr(self, "dead", False):
            raise OSError("gone")
        super().close()
"""
    body = """
subject.broker.recorded.dead = True
raise LawBroken("it is dead")
"""
    result = failing(pytester, body, factory=factory)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*ERROR*")


def test_a_failing_clean_up_is_a_failure(pytester: pytest.Pytester) -> None:
    factory = """
class Broken(MemoryBroker):
    def close(self):
        if getattr(self, "dead", False):
            raise OSError("gone")
        super().close()
"""
    result = failing(pytester, "subject.broker.recorded.dead = True", factory=factory)
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["Broken: OSError was raised*: gone (in the teardown of the test)"])
    result.stdout.fnmatch_lines(["* 5 fenced * broken *"])


@pytest.mark.parametrize("profile", ["default", "ci"])
def test_the_seed_decides_what_is_random(pytester: pytest.Pytester, profile: str) -> None:
    pytester.makeconftest(f"import hypothesis\nhypothesis.settings.load_profile({profile!r})")
    suite(
        pytester,
        HEAD,
        """
class TestMine(Bare):
    def test_law05_fenced__drawn(self, subject):
        drawn = []

        @settings(max_examples=30, database=None)
        @given(st.lists(st.integers()))
        def draw(numbers):
            drawn.append(numbers)

        draw()
        raise LawBroken(f"{subject.suite.seed} {sum(map(sum, drawn))}")
""",
    )

    def drawn(*options: str) -> str:
        result = pytester.runpytest(*options)
        return next(line for line in result.outlines if line.startswith("Broken: "))

    assert drawn("--conformance-seed=7").startswith("Broken: 7 ")
    assert drawn("--conformance-seed=7") == drawn("--conformance-seed=7")
    assert drawn("--conformance-seed=7").split()[2] != drawn("--conformance-seed=8").split()[2]
    assert drawn() != drawn()


def test_parameters_are_quoted_for_the_replay(pytester: pytest.Pytester) -> None:
    suite(
        pytester,
        HEAD,
        """
import pytest

class TestMine(Bare):
    @pytest.mark.parametrize("verb", ["a b"])
    def test_law05_fenced__one(self, subject, verb):
        raise LawBroken("no")
""",
    )
    result = pytester.runpytest("--conformance-seed=7")
    result.stdout.fnmatch_lines(
        ["Seed 7; to replay: pytest '*.py::TestMine::test_law05_fenced__one[[]a b]' --conformance-seed 7"]
    )


def test_the_garbage_of_other_tests_breaks_no_law(pytester: pytest.Pytester) -> None:
    suite(
        pytester,
        HEAD,
        """
import gc, socket

class TestMine(Bare):
    def test_law05_fenced__one(self, subject):
        one = [socket.socket()]
        one.append(one)
        del one
        gc.collect()
""",
    )
    result = pytester.runpytest("-W", "error")
    result.assert_outcomes(passed=1, warnings=1)
