"""An adapter that cannot be tested at all: one failure, one line, whatever is wrong with it."""

from __future__ import annotations

import re

import pytest

from anybroker_conformance import examination
from tests.conformance.plugin_suites import KEEPS, suite

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

TESTS = """
    def test_law04_expiry__one(self, subject):
        subject.put(subject.queue())

    def test_law05_fenced__one(self, subject):
        raise AssertionError("was run")

    def test_law05_fenced__two(self, subject):
        raise AssertionError("was run")
"""
WRONG = {
    "raises": (
        """
    def connect(self):
        raise RuntimeError("no such\\nthing at mine://me:secret@host")
""",
        r"connect\(\) raised RuntimeError: no such thing at mine://me:\*\*\*@host",
    ),
    "no factory": (
        """
    def connect(self):
        return BrokerConformance.connect(self)
""",
        r"connect\(\) raised ConfigurationError: TestWrong connects to nothing: set url, or define connect\(\)",
    ),
    "unknown scheme": (
        """
    url = "reddis://localhost"
    connect = BrokerConformance.connect
""",
        r"connect\(\) raised ConfigurationError: unknown scheme 'reddis://'.*did you mean 'redis://'.*",
    ),
    "cannot be reached": (
        """
    def connect(self):
        class Away(MemoryBroker):
            def acquire(self, queues, *, limit, wait, lease):
                raise BrokerUnavailable("nobody answers at 127.0.0.1:1")
        return Away()
""",
        r"the broker does not answer: nobody answers at 127\.0\.0\.1:1",
    ),
    "contradicts itself": (
        """
    def connect(self):
        class Contradiction(MemoryBroker):
            pass
        broker = Contradiction()
        broker.capabilities = msgspec.structs.replace(broker.capabilities, min_lease=10.0, max_lease=5.0)
        return broker
""",
        r"Contradiction\.capabilities contradicts itself: min_lease 10 > max_lease 5",
    ),
    "wrong signature": (
        """
    def connect(self):
        class Old(MemoryBroker):
            def acquire(self, queues, limit):
                return []
        return Old()
""",
        r"Old\.acquire\(\) cannot be called: .*'wait'; it is called as acquire\(.*\).*",
    ),
    "no such method": (
        """
    def connect(self):
        class Half:
            capabilities = MemoryBroker().capabilities
            def enqueue(self, messages): ...
        return Half()
""",
        r"Half has no method acquire\(\); see anybroker\.broker\.Broker",
    ),
    "wrong type from ack": (
        """
    def connect(self):
        class Silent(MemoryBroker):
            def ack(self, deliveries):
                super().ack(deliveries)
        return Silent(name=self.namespace)
""",
        r"Silent\.ack returned None; expected a list of 1 bools",
    ),
    "wrong type from acquire": (
        """
    def connect(self):
        class Lazy(MemoryBroker):
            def acquire(self, queues, *, limit, wait, lease):
                return iter(super().acquire(queues, limit=limit, wait=wait, lease=lease))
        return Lazy(name=self.namespace)
""",
        r"Lazy\.acquire returned <list_iterator .*>; expected a list of deliveries",
    ),
    "wrong type of lease_until": (
        """
    def connect(self):
        class Ticking(MemoryBroker):
            def acquire(self, queues, **asked):
                taken = super().acquire(queues, **asked)
                return [replace(one, lease_until=one.lease_until.timestamp()) for one in taken]
        return Ticking(name=self.namespace)
""",
        r"Ticking\.acquire, as the lease_until of a delivery, returned [\d.]+; expected an aware datetime",
    ),
    "no time zone of lease_until": (
        """
    def connect(self):
        class Local(MemoryBroker):
            def acquire(self, queues, **asked):
                taken = super().acquire(queues, **asked)
                return [replace(one, lease_until=one.lease_until.replace(tzinfo=None)) for one in taken]
        return Local(name=self.namespace)
""",
        r"Local\.acquire, as the lease_until of a delivery, returned datetime.*; expected an aware datetime",
    ),
    "wrong type of token": (
        """
    def connect(self):
        class Listing(MemoryBroker):
            def acquire(self, queues, **asked):
                taken = super().acquire(queues, **asked)
                return [replace(one, token=[one.token]) for one in taken]
        return Listing(name=self.namespace)
""",
        r"Listing\.acquire, as the token of a delivery, returned \[.*\]; expected something hashable",
    ),
    "wrong type of body": (
        """
    def connect(self):
        class Decoding(MemoryBroker):
            def acquire(self, queues, **asked):
                taken = super().acquire(queues, **asked)
                return [replace(one, message=replace(one.message, body=one.message.body.decode())) for one in taken]
        return Decoding(name=self.namespace)
""",
        r"Decoding\.acquire, as the body of a message, returned '1'; expected bytes",
    ),
    "wrong type from enqueue": (
        """
    def connect(self):
        class Counting(MemoryBroker):
            def enqueue(self, messages):
                super().enqueue(messages)
                return len(messages)
        return Counting(name=self.namespace)
""",
        r"Counting\.enqueue returned 1; expected None",
    ),
    "cannot be closed": (
        """
    def connect(self):
        class Unclosable(MemoryBroker):
            def close(self):
                raise OSError("it is in use")
        return Unclosable()
""",
        r"close\(\) raised OSError: it is in use",
    ),
    "no broker": (
        """
    def connect(self):
        return None
""",
        r"NoneType has no method enqueue\(\); see anybroker\.broker\.Broker",
    ),
}
HEAD = """
import msgspec
from msgspec.structs import replace
from anybroker.errors import BrokerUnavailable
from anybroker.memory import MemoryBroker
from anybroker_conformance import BrokerConformance
from bare import Bare

class TestWrong(Bare):
"""


@pytest.mark.parametrize("wrong", WRONG)
def test_is_one_failure_of_one_line(pytester: pytest.Pytester, wrong: str) -> None:
    factory, said = WRONG[wrong]
    suite(pytester, HEAD + factory + TESTS)
    result = pytester.runpytest("--conformance-report=report.json")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    shown = result.outlines[
        1 + next(number for number, line in enumerate(result.outlines) if "_ TestWrong _" in line) :
    ]
    assert re.fullmatch(f"TestWrong cannot be tested: {said}", shown[0]), shown[0]
    assert shown[1] == "TestWrong: the broker cannot be tested."
    result.stdout.fnmatch_lines(["FAILED *::TestWrong - TestWrong cannot be te*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*was run*")
    assert '"verdict": "not testable"' in (pytester.path / "report.json").read_text(encoding="utf-8")


def test_one_that_never_answers_is_given_up(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "LONGEST", 0.2)
    factory = """
    def connect(self):
        import threading
        threading.Event().wait(60)
"""
    suite(pytester, HEAD + factory + TESTS)
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["TestWrong cannot be tested: it did not answer within 0.2 s: it is in *< connect (*"])


def test_one_with_a_verb_that_does_not_return_is_given_up(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "SLOWEST", 0.3)
    factory = """
    def connect(self):
        class Stuck(MemoryBroker):
            def enqueue(self, messages):
                import threading
                threading.Event().wait(60)
        return Stuck()
"""
    suite(pytester, HEAD + factory + TESTS)
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["TestWrong cannot be tested: *not ended within 0.3 s: it is in *< enqueue (*"])


def test_others_are_tested_all_the_same(pytester: pytest.Pytester) -> None:
    factory, _ = WRONG["raises"]
    between = """
import pytest

@pytest.fixture(scope="module", autouse=True)
def around():
    yield
    print("left the module")
"""
    suite(pytester, between + HEAD.replace("TestWrong", "TestBefore") + TESTS.replace("raise", "pass #"))
    pytester.makepyfile(test_wrong=HEAD + factory + TESTS, test_xright=KEEPS)
    result = pytester.runpytest("-s")
    result.assert_outcomes(failed=1, passed=3 + 4)
    assert str(result.stdout).count("left the module") == 1


def test_it_is_the_first_test_of_the_class_whatever_is_selected(pytester: pytest.Pytester) -> None:
    factory, _ = WRONG["raises"]
    suite(pytester, HEAD + factory + TESTS)
    pytester.runpytest("-k", "two").assert_outcomes(failed=1, deselected=2)


def test_an_adapter_is_connected_to_once_for_all_its_tests(pytester: pytest.Pytester) -> None:
    factory = """
    def connect(self):
        with open("connected", "a") as file:
            file.write("x")
        raise OSError("no")
"""
    suite(pytester, HEAD + factory + TESTS)
    pytester.runpytest().assert_outcomes(failed=1)
    assert (pytester.path / "connected").read_text(encoding="utf-8") == "x"


def test_a_backend_that_cannot_be_tested(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from anybroker.memory import MemoryBackend
        from anybroker_conformance.backend.suite import BackendConformance

        class Wrong(MemoryBackend):
            def store(self, results, *, ttl):
                super().store(results, ttl=ttl)

        class TestWrong(BackendConformance):
            def connect(self):
                return Wrong(name=self.namespace)

        class TestAway(BackendConformance):
            def connect(self):
                raise ConnectionError("no")
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "TestWrong cannot be tested: Wrong.store returned None; expected a list of 1 bools",
            "TestAway cannot be tested: connect() raised ConnectionError: no",
        ]
    )
