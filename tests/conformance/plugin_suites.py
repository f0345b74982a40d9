"""Small suites for the tests of the plugin: law tests of their own instead of the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

CONFTEST = '''
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from anybroker.memory import MemoryBroker
from anybroker_conformance import BrokerConformance


class Bare(BrokerConformance):
    """A suite without a single test."""

    def connect(self):
        return MemoryBroker(name=self.namespace)


for _name in dir(BrokerConformance):
    if _name.startswith("test_"):
        setattr(Bare, _name, None)

sys.modules["bare"] = sys.modules[__name__]
'''
KEEPS = """
from bare import Bare

class TestRight(Bare):
    def test_law04_expiry__one(self, subject):
        subject.put(subject.queue())

    def test_law05_fenced__one(self, subject):
        subject.put(subject.queue())

    def test_law05_fenced__two(self, subject):
        subject.put(subject.queue())

def test_of_something_else():
    pass
"""


def suite(pytester: pytest.Pytester, *texts: str) -> None:
    """Write a test file, and where it imports ``Bare`` from."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_mine="\n".join(texts))
